"""Loops over arrays that numba compiles, arrays in and arrays out: what Python is too slow for.

A file here loads numba when it is imported, so that callers import it where they use it: most are fast twins of a
readable function (`twins.py`), which runs instead where numba is missing. Nothing else of ours is imported here.
"""

import hashlib
import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable
from functools import cache, cached_property
from pathlib import Path
from types import FrameType
from typing import Any, TypeVar

Kernel = TypeVar("Kernel", bound=Callable[..., Any])

SLOW = 2.0  # seconds of compiling after which a line says so
ROOM = 64 << 20  # bytes on the disk, many times what the code takes


def njit(function: Kernel) -> Kernel:
    """The function, compiled when it is first called; its machine code is kept on disk for the next process.

    It runs without the interpreter's lock. It cannot make arrays: to count references to them took two thirds of the
    time of small functions. numba keeps the code in the folder NUMBA_CACHE_DIR, else beside the file, else, where that
    is read-only, in the user's cache; where none can be written or the disk is full, each process compiles for itself.
    A file of code appears whole or not at all, so that two processes may compile at once. Without numba, an
    ImportError.
    """
    return _compiled(function)


def inlined(function: Kernel) -> Kernel:
    """The same for what is called for every byte or every symbol: its code becomes a part of its callers'."""
    return _compiled(function, forceinline=True)


def reordered(function: Kernel) -> Kernel:
    """The same where sums of floating-point numbers may be taken in another order, many at once, as no two add up."""
    return _compiled(function, fastmath={"reassoc", "contract", "nsz"})


class Callback:
    """A kernel that takes an address, for threads that are not Python's: C calls it as `void f(int64_t)`."""

    def __init__(self, function: Callable[[int], None]) -> None:
        self._function = function
        function.__qualname__ += f"-{_version()}"

    @cached_property
    def address(self) -> int:
        """Where its machine code begins; compiled when this is asked for first, and kept on disk as others are."""
        numba = _numba()
        signature, options = numba.void(numba.int64), {"error_model": "numpy"}
        try:
            self._compiled = numba.cfunc(signature, cache=_has_room(), **options)(self._function)
        except RuntimeError:  # no folder that can be written
            self._compiled = numba.cfunc(signature, **options)(self._function)
        return int(self._compiled.address)


def _compiled(function: Kernel, **options: Any) -> Kernel:
    numba = _numba()
    options |= {"nogil": True, "_nrt": False}
    function.__qualname__ += f"-{_version()}"  # a part of the names of the files
    try:
        compiled: Kernel = numba.njit(cache=_has_room(), error_model="numpy", **options)(function)
    except RuntimeError:  # no folder that can be written
        compiled = numba.njit(error_model="numpy", **options)(function)
    return compiled


@cache
def _has_room() -> bool:
    """Whether the disk takes the code of all kernels: numba ends a call whose code it cannot write."""
    folder = Path(os.environ.get("NUMBA_CACHE_DIR") or __file__).resolve()
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free > ROOM


@cache
def _version() -> str:
    """A digest of all files here: numba notices a change in a function's own file, and not in those that it calls."""
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


@cache
def _numba() -> Any:
    try:
        import numba
        from numba.core import event
    except ModuleNotFoundError:
        raise ImportError("numba is not installed") from None
    for listener in (_Announcement, _LateInterrupt):
        event.Listener.register(listener)  # by its method alone
        event.register("numba:compile", listener())  # type: ignore[no-untyped-call]
    return numba


def _is_ours(event: Any) -> bool:
    """Whether what numba compiles is a kernel of ours."""
    module: str = event.data["dispatcher"].py_func.__module__
    return module.startswith("glassformer.")


class _Announcement:
    """Hears of each compilation, and says so once at a terminal when a process's take more than `SLOW` seconds."""

    def __init__(self) -> None:
        self._depth = 0  # a function's compilation includes those of what it calls
        self._seconds = 0.0
        self._begin = 0.0
        self._timer: threading.Timer | None = None
        self._is_said = False

    def notify(self, event: Any) -> None:
        """Take an event of numba's, the start of a compilation or its end."""
        if not _is_ours(event):
            return
        if event.is_start:
            self._depth += 1
            if self._depth == 1 and not self._is_said:
                self._begin = time.monotonic()
                self._timer = threading.Timer(max(0.0, SLOW - self._seconds), self._say)
                self._timer.daemon = True
                self._timer.start()
        else:
            self._depth -= 1
            if self._depth == 0 and self._timer is not None:
                self._timer.cancel()
                self._timer = None
                self._seconds += time.monotonic() - self._begin

    def _say(self) -> None:
        self._is_said = True
        if sys.stderr is None or not sys.stderr.isatty():  # a program that reads our messages is told of no progress
            return
        kept = ", which is kept for the next time" if _has_room() else ""
        print(f"Compiling for this machine{kept} …", file=sys.stderr, flush=True)


class _LateInterrupt:
    """Lets Ctrl-C wait until the function that is being compiled is whole: half of one fails at every later call."""

    def __init__(self) -> None:
        self._depth = 0
        self._before: Any = None  # what a signal does outside
        self._pending: tuple[int, FrameType | None] | None = None

    def notify(self, event: Any) -> None:
        """Take an event of numba's, the start of a compilation or its end; here comes what has waited."""
        if not _is_ours(event) or threading.current_thread() is not threading.main_thread():
            return
        self._depth = max(self._depth + (1 if event.is_start else -1), 0)  # an end may come without its start (Ctrl-C)
        before = signal.getsignal(signal.SIGINT)
        if event.is_start and self._depth == 1 and callable(before):
            self._before = before
            signal.signal(signal.SIGINT, self._note)
        handler = self._before
        if self._depth == 0 and handler is not None:
            self._before = None
            signal.signal(signal.SIGINT, handler)
        if self._pending is not None and (event.is_start or self._depth == 0):
            pending, self._pending = self._pending, None
            handler(*pending)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._pending = number, frame
