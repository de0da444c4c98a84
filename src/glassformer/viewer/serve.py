"""Running the live page on this machine, until Ctrl-C.

with listen("127.0.0.1", 0) as listening:
    serve(session, listening, on_ready=print)
"""

import os
import secrets
import socket
import sys
import threading
import webbrowser
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

import uvicorn

from glassformer.errors import ConfigError
from glassformer.viewer.app import application
from glassformer.viewer.connections import patient
from glassformer.viewer.session import Session

LOOPBACK = ("127.0.0.1", "localhost", "::1")
ANY = ("", "0.0.0.0", "::")
PATIENCE = 5.0  # seconds for the last answers of a server that ends


def listen(host: str, port: int) -> socket.socket:
    """A socket that waits for browsers; port 0 takes a free one."""
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, port), family=family)
    except (OSError, OverflowError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise ConfigError(
            f"Nobody can listen on {host} port {port}: {reason.rstrip('.')}. Choose another --host or --port."
        ) from None


def serve(
    session: Session,
    listening: socket.socket,
    *,
    hosts: Iterable[str] = (),
    on_ready: Callable[[str], None] = lambda address: None,
) -> None:
    """Answer until Ctrl-C, which ends it at once, whatever is still being listened to.

    `on_ready` gets the address to open; it has the key, without which nobody is answered.
    """
    server, address = _server(session, listening, hosts)
    on_ready(address)
    server.run(sockets=[listening])


@contextmanager
def served(session: Session, listening: socket.socket, *, hosts: Iterable[str] = ()) -> Iterator[str]:
    """Answer from a thread of its own while the block runs; gives the address to open."""
    server, address = _server(session, listening, hosts)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    try:
        yield address
    finally:
        server.should_exit = True
        thread.join(PATIENCE)


def _server(session: Session, listening: socket.socket, hosts: Iterable[str]) -> tuple[uvicorn.Server, str]:
    token = secrets.token_urlsafe(24)
    host, port = listening.getsockname()[:2]
    names = [*hosts, *([] if host in LOOPBACK else [socket.gethostname() if host in ANY else _bracketed(host)])]
    address = f"http://{names[0] if names else _bracketed(host)}:{port}/?token={token}"
    return uvicorn.Server(configured(session, token, names)), address


def configured(session: Session, token: str, hosts: Iterable[str] = ()) -> uvicorn.Config:
    """How uvicorn runs the page: bounded, silent, and not waiting for anybody when it ends."""
    return uvicorn.Config(
        application(session, token=token, hosts=hosts),
        http=patient(),  # h11, which bounds the headers
        ws="none",
        lifespan="off",
        log_level="critical",
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=0,
    )


def open_browser(address: str) -> None:
    """Open a page if there is a browser with a window; a browser of the terminal would be in the way."""
    if sys.platform == "linux" and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        return
    threading.Thread(target=webbrowser.open, args=(address,), daemon=True).start()


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host
