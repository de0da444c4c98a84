"""Where special tokens are in a text: from the left, and of those that begin at one place the longest."""

import re
from array import array
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from functools import lru_cache

from glassformer.twins import twin

FEW_CHARACTERS = 1 << 13  # of all tokens together, which Llama 3's have: a regular expression is the fastest
LONG = 1 << 8  # characters of a token whose beginnings are not compared one by one
MANY = 1 << 18  # characters of text from which on loading a kernel takes less time than it saves


@twin("glassformer.tokenizers.special_tokens_fast")
def find(text: str, longest_first: tuple[str, ...]) -> Sequence[tuple[int, int]]:
    """Begin and end of each special token. At each place of the text the tokens are compared one by one."""
    return find_by_pattern(text, longest_first)


def find_by_pattern(text: str, longest_first: tuple[str, ...]) -> Sequence[tuple[int, int]]:
    """The same by a regular expression, which takes the first alternative that fits."""
    return [match.span() for match in _pattern(longest_first).finditer(text)]


@lru_cache(maxsize=16)
def _pattern(longest_first: tuple[str, ...]) -> re.Pattern[str]:
    return re.compile("|".join(map(re.escape, longest_first)))


class SpecialTokens:
    """Special tokens, and how they are found in a text."""

    def __init__(self, tokens: Iterable[str]) -> None:
        """Take tokens, none of which is empty."""
        self.longest_first = tuple(sorted(tokens, key=len, reverse=True))
        self._long = [token for token in self.longest_first if len(token) > LONG]
        self._sorted = sorted(self.longest_first[len(self._long) :])
        self._firsts = {token[0] for token in self._sorted}
        self._longest = max(map(len, self._sorted), default=1)
        self._are_few = sum(map(len, self.longest_first)) <= FEW_CHARACTERS
        self._n_searched = 0  # characters so far

    def find(self, text: str) -> Sequence[tuple[int, int]]:
        """Begin and end of each special token in a text."""
        if not self.longest_first:
            return []
        self._n_searched += len(text)
        if self._are_few or self._n_searched < MANY:
            return find_by_pattern(text, self.longest_first)
        return find(text, self.longest_first)

    def begun(self, text: str) -> int:
        """How many characters at the end of a text may be the beginning of a special token."""
        return max([self._begun_short(text), *(begun(text, token) for token in self._long)])

    def _begun_short(self, text: str) -> int:
        tail = text[max(0, len(text) - self._longest + 1) :]
        for start, character in enumerate(tail):
            if character not in self._firsts:
                continue
            end = tail[start:]
            longer = bisect_right(self._sorted, end)
            if longer < len(self._sorted) and self._sorted[longer].startswith(end):
                return len(end)
        return 0


def begun(text: str, token: str) -> int:
    """How many characters at the end of a text may be the beginning of a token, in linear time.

    Knuth, Morris and Pratt 1977: where the text departs from the token, the longest border of what it had of it goes
    on, a beginning that is an end as well. So the text is read once.
    """
    tail = text[max(0, len(text) - len(token) + 1) :]
    start = tail.find(token[0])
    if start < 0:
        return 0
    borders, n = _borders(token), 0
    for character in tail[start:]:
        while n and token[n] != character:
            n = borders[n]
        n += token[n] == character
    return n


@lru_cache(maxsize=16)
def _borders(token: str) -> Sequence[int]:
    """The length of the longest border of each beginning of a token, but for the beginning itself."""
    borders, n = array("i", [0, 0]), 0
    for character in token[1:]:
        while n and token[n] != character:
            n = borders[n]
        n += token[n] == character
        borders.append(n)
    return borders
