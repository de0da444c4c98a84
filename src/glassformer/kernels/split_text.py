"""The pre-tokens of a text, by GPT-2's pattern sixty-four bytes at a time where they are ASCII.

`split.py` has the patterns as state machines, which go from one pre-token to the next. The other way is to ask of all
characters at once where one of them begins a pre-token; the answers are bits of a number:

    text       I don't  know
    letters    1 111 1  1111
    others         1
    spaces      1     11
    begins     11   1 11        a class other than before, but for what has a space before it; the first white
                                character, and the last: a word takes it along. A contraction is put right behind.

A pre-token of other characters may be cut further, where the two bytes at the cut stand side by side in no token: no
merge leads over there, so that both sides become the same ids as if they were together. Most Chinese characters are
then pieces by themselves, which come again much sooner than a whole phrase.
"""

import numpy as np
from numpy.typing import NDArray

from glassformer.kernels import inlined, njit
from glassformer.kernels.bits import N_BYTES, in_range, lowest
from glassformer.kernels.marks import Words, is_marked
from glassformer.kernels.split import GPT2, ByteArray, byte, contraction_end, pre_token_end

ONE = np.uint64(1)
ALL_BUT_LAST = np.uint64(0x7FFFFFFFFFFFFFFF)
FIRST = 0xC0  # a byte of at least this begins a character
MORE_ENDS = N_BYTES  # places that `ends` has beyond those that are wanted


@njit
def split(
    data: ByteArray,
    start: int,
    stop: int,
    goes_on: bool,
    pattern: int,
    classes: ByteArray,
    neighbours: Words,
    ends: NDArray[np.int64],
) -> int:
    """How many pieces the bytes from `start` on have, of which `ends` takes the ends: whole pre-tokens, or cut.

    It is done when at most `MORE_ENDS` places are left there, or the text is at its end. The last two pre-tokens of a
    text that `goes_on` do not count. Without `neighbours` none is cut.
    """
    n, last, before_last = 0, 0, 0  # the first pieces of the last two pre-tokens
    while start < stop and n < len(ends) - MORE_ENDS:
        n_before = n
        if pattern == GPT2 and start + N_BYTES <= stop and byte(data, start) | byte(data, start + 1) < 0x80:
            n = gpt2_window(data, start, ends, n)
        if n > n_before:
            before_last, last = n - 2 if n - 2 >= n_before else last, n - 1
        else:
            n = cut(data, start, pre_token_end(data, start, stop, pattern, classes), neighbours, ends, n)
            before_last, last = last, n_before
        start = ends[np.uint64(n - 1)]
    return before_last if goes_on else n


@inlined
def cut(data: ByteArray, start: int, end: int, neighbours: Words, ends: NDArray[np.int64], n: int) -> int:
    """Write the ends of the pieces of one pre-token after the first `n` ends; how many there are then."""
    if len(neighbours) > 0 and byte(data, end - 1) >= 0x80:
        most = n + MORE_ENDS - 1
        for i in range(start + 1, end):
            if (
                byte(data, i) >= FIRST
                and n < most
                and not is_marked(neighbours, pair_of(byte(data, i - 1), byte(data, i)))
            ):
                ends[np.uint64(n)] = i
                n += 1
    ends[np.uint64(n)] = end
    return n + 1


@inlined
def pair_of(left: int, right: int) -> np.uint64:
    """Two bytes as a number."""
    return np.uint64(left) << np.uint64(8) | np.uint64(right)


@inlined
def gpt2_window(data: ByteArray, start: int, ends: NDArray[np.int64], n: int) -> int:
    """Write the ends of the pre-tokens in 64 bytes after the first `n` ends; how many there are then.

    A pre-token begins at `start`. What is not ASCII, or behind it, is left to others, and so is the last pre-token,
    which may go on.
    """
    i = np.uint64(start)
    letters = in_range(data, i, np.uint8(ord("a")), np.uint8(26)) | in_range(data, i, np.uint8(ord("A")), np.uint8(26))
    numbers = in_range(data, i, np.uint8(ord("0")), np.uint8(10))
    spaces = in_range(data, i, np.uint8(ord(" ")), np.uint8(1))
    white = spaces | in_range(data, i, np.uint8(ord("\t")), np.uint8(5))
    others = ~(letters | numbers | white)
    first = letters & ~(letters << ONE) | numbers & ~(numbers << ONE) | others & ~(others << ONE)
    begins = first & ~(spaces << ONE) | white & ~(white << ONE & white >> ONE)

    n_ascii: int = lowest(~in_range(data, i, np.uint8(0), np.uint8(0x80)))
    begins &= ALL_BUT_LAST >> np.uint64(N_BYTES - n_ascii)  # of the last it is unknown what follows
    quotes = in_range(data, i, np.uint8(ord("'")), np.uint8(1))
    at = lowest(quotes & begins)
    while at < N_BYTES:
        if at + 4 > n_ascii:
            begins &= below(at + 1)
            break
        end = contraction_end(data, start + at, start + N_BYTES, 0) - start
        if end > at:
            begins = begins & (below(at + 1) | ~below(end)) | ONE << np.uint64(end)
        at = lowest(quotes & begins & ~below(at + 1))

    begins &= ~ONE
    while begins != 0:
        ends[np.uint64(n)] = start + lowest(begins)
        n += 1
        begins &= begins - ONE
    return n


@inlined
def below(place: int) -> np.uint64:
    """All bits before this place, which is less than 64."""
    return (ONE << np.uint64(place)) - ONE


@njit
def count_characters(data: ByteArray, ends: NDArray[np.int64]) -> None:
    """Ends in bytes become ends in characters, in place. The bytes are valid UTF-8."""
    start, characters = 0, 0
    for i in range(len(ends)):
        for place in range(start, ends[i]):
            characters += (data[place] & 0xC0) != 0x80
        start = ends[i]
        ends[i] = characters
