"""Stopping politely: the first SIGINT or SIGTERM is noted for the loop to see, a second one acts at once."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)


@dataclass(slots=True)
class Stop:
    """The signal that came, or None."""

    signal: int | None = None


@contextmanager
def stop_on_signal() -> Iterator[Stop]:
    """Note a signal that comes in the `with` block. Only the main thread of a process can; others notice none."""
    stop = Stop()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before = {number: signal.getsignal(number) for number in SIGNALS}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def note(number: int, frame: FrameType | None) -> None:
        stop.signal = number
        restore()

    for number in SIGNALS:
        signal.signal(number, note)
    try:
        yield stop
    finally:
        restore()
