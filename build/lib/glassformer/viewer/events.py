"""What happens while a page is open, such as the steps of a training, as server-sent events."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

QUIET = 15.0  # seconds without news after which a comment shows that the connection lives
BEHIND = 256  # events that a slow page may be behind; it misses the oldest ones


class Events:
    """Told by any thread, heard by every open page."""

    def __init__(self) -> None:
        self._listeners: set[tuple[asyncio.AbstractEventLoop, asyncio.Queue[str]]] = set()

    def tell(self, kind: str, content: dict[str, Any]) -> None:
        """Send an event to all pages, from any thread; this never waits for them."""
        text = f"event: {kind}\ndata: {json.dumps(content, allow_nan=False)}\n\n"
        for loop, queue in list(self._listeners):
            loop.call_soon_threadsafe(_put, queue, text)

    async def stream(self) -> AsyncIterator[str]:
        """What is told from now on, until the page leaves."""
        queue: asyncio.Queue[str] = asyncio.Queue(BEHIND)
        listener = (asyncio.get_running_loop(), queue)
        self._listeners.add(listener)
        try:
            yield ": hello\n\n"
            while True:
                try:
                    yield await asyncio.wait_for(queue.get(), QUIET)
                except TimeoutError:
                    yield ": still here\n\n"
        finally:
            self._listeners.discard(listener)


def _put(queue: asyncio.Queue[str], text: str) -> None:
    if queue.full():
        queue.get_nowait()  # a page so slow reads the state anew when it comes back
    queue.put_nowait(text)
