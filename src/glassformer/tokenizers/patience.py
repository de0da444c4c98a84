"""A limit of time for what cannot be stopped: it runs in a thread, and who waits for it waits no longer than that.

The engine behind the `tokenizers` library tries a pattern at each place of a text, whatever that takes. A pattern of
strangers such as `a+a+b`, which `foreign_patterns.py` cannot tell from a good one, needs half a second for a thousand
letters a, and an hour for twenty thousand.
"""

import time
from collections.abc import Callable
from queue import Empty, SimpleQueue
from threading import Thread
from typing import TypeVar

T = TypeVar("T")

SECONDS = 10.0  # for any text
CHARACTERS_PER_SECOND = 50_000  # beyond that; published pipelines do some hundred thousand
TICK = 0.1  # seconds between two looks at the clock


def within_reason(run: Callable[[], T], n_characters: int) -> T:
    """What a function gives that is called for so many characters; a TimeoutError where it takes far too long.

    It must let go of the interpreter's lock. The time is that of the processor as well as of the clock, so that a busy
    machine takes none of it. The thread of a call that was given up works on until the process ends.
    """
    outcome: SimpleQueue[tuple[T | None, BaseException | None]] = SimpleQueue()

    def work() -> None:
        try:
            outcome.put((run(), None))
        except BaseException as error:
            outcome.put((None, error))

    limit = SECONDS + n_characters / CHARACTERS_PER_SECOND
    began, began_on_processor = time.monotonic(), time.process_time()
    Thread(target=work, daemon=True).start()
    while True:
        try:
            result, error = outcome.get(timeout=TICK)
        except Empty:
            if min(time.monotonic() - began, time.process_time() - began_on_processor) > limit:
                raise TimeoutError from None
            continue
        if error is not None:
            raise error
        return result  # type: ignore[return-value]
