"""Stopping politely: the first SIGINT, SIGTERM or SIGHUP is noted for the loop to see, a second one acts at once.

A terminal that closes sends SIGHUP more than once, so a second SIGHUP means nothing. What this process was started to
ignore, as `nohup` does it, stays ignored.
"""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Stopped(BaseException):
    """A signal came where work can be left in the middle; as `KeyboardInterrupt`, nothing but its block catches it."""


@dataclass(slots=True)
class Stop:
    """The signal that came, or None."""

    signal: int | None = None
    raises: bool = False  # in the middle of what can be left: see `at_once`

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """Leave the block as soon as a signal comes."""
        self.raises = self.signal is None
        try:
            yield
        except Stopped:
            pass
        finally:
            self.raises = False


@contextmanager
def stop_on_signal(stop: Stop, on_signal: Callable[[], None]) -> Iterator[None]:
    """Note a signal that comes in the `with` block. Only the main thread of a process can; others notice none."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handlers = {number: signal.getsignal(number) for number in SIGNALS}
    before = {number: handler for number, handler in handlers.items() if handler not in (signal.SIG_IGN, None)}

    def note(number: int, frame: FrameType | None) -> None:
        first = stop.signal is None
        stop.signal = stop.signal or number
        for polite in before.keys() - {signal.SIGHUP}:
            signal.signal(polite, before[polite])
        if stop.raises:
            stop.raises = False
            raise Stopped
        if first:
            with suppress(RuntimeError):  # it came in the middle of a write to the stream that it is said on
                on_signal()

    for number in before:
        signal.signal(number, note)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
