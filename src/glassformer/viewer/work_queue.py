"""Work that takes its time, one piece after the other, while the loop goes on answering."""

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

T = TypeVar("T")


class WorkQueue:
    """Each piece in a thread of its own, which does not hold up the end of the program as a pool's would."""

    def __init__(self) -> None:
        self._busy = asyncio.Lock()

    async def run(self, work: Callable[[], T]) -> T:
        """Do a piece of work when it is its turn; what it raises is raised here."""
        async with self._busy:
            loop = asyncio.get_running_loop()
            done: asyncio.Future[T] = loop.create_future()

            def run() -> None:
                try:
                    settle: Callable[[], None] = _setter(done.set_result, work())
                except Exception as error:
                    settle = _setter(done.set_exception, error)
                with suppress(RuntimeError):  # the loop has ended meanwhile
                    loop.call_soon_threadsafe(settle)

            threading.Thread(target=run, daemon=True).start()
            return await done


def _setter(setting: Callable[[T], None], value: T) -> Callable[[], None]:
    def settle() -> None:
        with suppress(asyncio.InvalidStateError):  # who asked has left
            setting(value)

    return settle
