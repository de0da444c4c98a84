"""Connections on which nobody has asked anything yet: whoever holds many of them keeps nobody else out.

A browser sends its question as soon as it is connected. So a connection may wait for the head of a request only so
long, however slowly that comes, and of too many that wait the one that has waited longest is closed for the newest.
What has been asked is the guard's to judge (`http_guard.py`), which answers at once where the token is missing.
"""

import asyncio
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

SECONDS = 10.0  # for the head of a request: the first one of a connection, or the next
MOST = 64  # connections that wait at once


class Connection(H11Protocol):
    """uvicorn's connection, with an end to its patience."""

    waiting: dict["Connection", asyncio.TimerHandle]  # of one server, the longest waiting first

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A new one waits."""
        super().connection_made(transport)
        self._wait()

    def data_received(self, data: bytes) -> None:
        """It waits as long as the head is not whole."""
        super().data_received(data)
        if self.conn.their_state is not h11.IDLE:
            self._stop_waiting()

    def on_response_complete(self) -> None:
        """It waits for the next request."""
        super().on_response_complete()
        if not self.transport.is_closing() and self.conn.their_state is h11.IDLE:
            self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        """It has ended."""
        self._stop_waiting()
        super().connection_lost(exc)

    def _wait(self) -> None:
        self._stop_waiting()
        self.waiting[self] = self.loop.call_later(SECONDS, self._give_up)
        if len(self.waiting) > MOST:
            next(iter(self.waiting))._give_up()

    def _stop_waiting(self) -> None:
        timer = self.waiting.pop(self, None)
        if timer is not None:
            timer.cancel()

    def _give_up(self) -> None:
        self._stop_waiting()
        self.transport.abort()


def patient() -> type[asyncio.Protocol]:
    """The class of one server's connections."""
    namespace: dict[str, Any] = {"waiting": {}}
    return type("Connection", (Connection,), namespace)
