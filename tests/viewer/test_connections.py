"""Whatever one client does to the server, others are served."""

import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress

import pytest

import glassformer as gf
from glassformer.viewer import connections
from glassformer.viewer.session import Session
from viewer.live import TOKEN, Live, running


@pytest.fixture(scope="module")
def live() -> Iterator[Live]:
    session = Session(gf.load("nano-sort"), name="nano-sort")
    session.run(text="CBABBC")
    with running(session) as server:
        yield server


HEAD = "GET /api/session HTTP/1.1\r\nHost: localhost:{port}\r\n"
HELD = {
    "silent": "",
    "in the middle of a line": "GET /api",
    "in the middle of the headers": HEAD,
    "without the key, waiting to be read": HEAD + "\r\n",
    "without the key, with a body that does not come": (
        "POST /api/runs HTTP/1.1\r\nHost: localhost:{port}\r\nContent-Type: application/json\r\n"
        "Content-Length: 1000\r\n\r\n"
    ),
}


@pytest.mark.parametrize("said", HELD.values(), ids=HELD.keys())
def test_connections_that_are_held_keep_nobody_out(live: Live, said: str) -> None:
    with ExitStack() as held:
        for _ in range(150):
            one = held.enter_context(socket.create_connection(("127.0.0.1", live.port), timeout=20))
            one.sendall(said.format(port=live.port).encode())
        assert live.get("/api/session").status == 200
        assert live.post("/api/tokenize", {"text": "A"}).status == 200


def test_a_head_that_comes_byte_by_byte_is_given_up(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "SECONDS", 0.3)
    address = "127.0.0.1", live.port
    with socket.create_connection(address, timeout=20) as slow, pytest.raises(OSError, match=r"reset|pipe"):
        _dribble(slow, HEAD.format(port=live.port) * 100)


def _dribble(connection: socket.socket, text: str) -> None:
    for letter in text:
        connection.sendall(letter.encode())
        time.sleep(0.02)


def test_a_connection_that_asks_again_is_answered_again(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    """And is closed where it then falls silent."""
    monkeypatch.setattr(connections, "SECONDS", 0.3)
    question = f"{HEAD.format(port=live.port)}Cookie: glassformer-{live.port}={TOKEN}\r\n\r\n".encode()
    with socket.create_connection(("127.0.0.1", live.port), timeout=20) as connection:
        for _ in range(3):
            connection.sendall(question)
            answer = b""
            while not answer.endswith(b"}"):
                answer += connection.recv(1 << 16)
            assert answer.startswith(b"HTTP/1.1 200")
        with suppress(ConnectionResetError):
            assert connection.recv(1) == b""
