"""A text cut into blocks that are encoded one by one, in any order, as if they were whole texts.

A pre-token begins at a space that follows what is no white space, and at a letter that follows a newline by itself; so
it is in every split pattern, and none looks further back. Here that is asked of ASCII, and of Chinese.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future
from typing import TypeVar

import regex

Argument = TypeVar("Argument")
Value = TypeVar("Value")

SHORTEST, LONGEST = 1 << 16, 1 << 17  # characters of a block
BLOCKS_PER_THREAD = 8  # so that none waits long for the last
BEGINNING = regex.compile(r"(?<=[!-~]) |(?<=[!-~]\n)[a-zA-Z]|(?<=[\u4000-\u9fff\uf000-\uffff\u3002]\n)[\u4000-\u9fff]")


def safe_blocks(text: str, threads: int = 1) -> Iterator[str]:
    """A text in blocks, some for each thread; one of more than twice `LONGEST` has no place where it may be cut."""
    start, size = 0, min(max(len(text) // (BLOCKS_PER_THREAD * threads), SHORTEST), LONGEST)
    while start < len(text):
        match = BEGINNING.search(text, start + size)
        end = match.start() if match else len(text)
        yield text[start:end]
        start = end


def in_order(
    executor: Executor, function: Callable[[Argument], Value], items: Iterable[Argument], n_waiting: int
) -> Iterator[Value]:
    """The function of each item, in their order; so many are worked at ahead of what is asked for."""
    waiting: deque[Future[Value]] = deque()
    for item in items:
        waiting.append(executor.submit(function, item))
        if len(waiting) > n_waiting:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()
