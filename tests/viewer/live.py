"""A real server of a session in a thread of this process, and a client that sends what it is told, byte by byte."""

import json
import select
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import uvicorn

from glassformer.viewer.serve import configured, listen
from glassformer.viewer.session import Session

PIECE = 1 << 16  # bytes sent at once
TOKEN = "a-token-that-nobody-guesses"


@dataclass(frozen=True, kw_only=True)
class Reply:
    """What came back."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True, kw_only=True)
class Live:
    """A server that runs, with its session."""

    session: Session
    port: int

    def get(self, path: str, **headers: str) -> Reply:
        return self.send(f"GET {path} HTTP/1.1", headers)

    def post(self, path: str, content: Any, **headers: str) -> Reply:
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        return self.send(f"POST {path} HTTP/1.1", {"Content-Type": "application/json"} | headers, body)

    def send(self, first: str, headers: dict[str, str], body: bytes = b"") -> Reply:
        """One request on a connection of its own; a header that is "" is left out."""
        ours = {"Host": f"localhost:{self.port}", "Cookie": f"glassformer-{self.port}={TOKEN}", "Connection": "close"}
        length = {"Content-Length": str(len(body))} if body or first.startswith("POST") else {}
        lines = [f"{name}: {value}" for name, value in (ours | length | headers).items() if value]
        return self.raw("\r\n".join([first, *lines, "", ""]).encode("utf-8", "surrogateescape") + body)

    def raw(self, data: bytes) -> Reply:
        """What comes back; who is answered before everything is sent sends no more, which would break the answer."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=120) as connection:
            for start in range(0, len(data), PIECE):
                connection.sendall(data[start : start + PIECE])
                if start + PIECE < len(data) and select.select([connection], [], [], 0.05)[0]:
                    break
            received = b""
            try:
                while chunk := connection.recv(1 << 16):
                    received += chunk
            except ConnectionResetError:
                pass  # the server has answered and closed before it read all
        head, _, rest = received.partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
        if headers.get("transfer-encoding") == "chunked":
            rest = rest.partition(b"\r\n")[2].rpartition(b"\r\n0\r\n")[0]
        return Reply(status=int(first.split()[1]), headers=headers, body=rest)


@contextmanager
def running(session: Session) -> Iterator[Live]:
    with listen("127.0.0.1", 0) as listening:
        server = uvicorn.Server(configured(session, TOKEN))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
        thread.start()
        while not server.started:
            time.sleep(0.01)
        yield Live(session=session, port=listening.getsockname()[1])
        server.should_exit = True
        thread.join(10)
        assert not thread.is_alive()
