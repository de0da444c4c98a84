"""A text cut into blocks that are encoded one by one, in any order, as if they were whole texts.

A pre-token begins at a space that follows what is no white space, and at a letter that follows a newline by itself; so
it is in every split pattern, and none looks further back. Letters here are those that are letters in all versions of
Unicode.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future
from typing import TypeVar

import regex

from glassformer.tokenizers.pretokenize import BLOCK

Argument = TypeVar("Argument")
Value = TypeVar("Value")

BEGINNING = regex.compile(r"(?<=\S) |(?<=\S\n)[a-zA-Z\u4e00-\u9fa5]")


def safe_blocks(text: str) -> Iterator[str]:
    """The text in blocks of about `BLOCK` characters; a longer one has no place where it may be cut."""
    start = 0
    while start < len(text):
        match = BEGINNING.search(text, start + BLOCK)
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
