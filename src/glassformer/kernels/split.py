"""The published split patterns as state machines over UTF-8: where a pre-token that begins here ends.

    gpt2     '(?:[sdmt]|ll|ve|re) |  ?L+ |  ?N+ |  ?S+ | \\s+(?!\\S) | \\s+
    cl100k   '(?i:[sdmt]|ll|ve|re) | [^\\r\\n L N]?L+ | N{1,3} |  ?S+[\\r\\n]* | \\s*[\\r\\n]+ | \\s+(?!\\S) | \\s+
    qwen2    likewise, with N for N{1,3}
    o200k    for the letters, words whose capitals stand in front, each perhaps with its contraction at its end;
             and " ?S+[\\r\\n/]*"

L are letters, N numbers, S what is neither and no white space. A pattern's alternatives are tried in their order at
each place, and the class of one character, or of two, tells which of them matches there; it then is as long as a run
of one class, or of two. A byte that begins no valid character is one by itself, of no class. The readable twin is
`tokenizers.pretokenize.split`; boundaries are those of the `regex` module. `split_text.py` goes through a text.
"""

import numpy as np
from numpy.typing import NDArray

from glassformer.kernels import inlined
from glassformer.kernels.unicode_classes import (
    CASELESS,
    LOWER,
    MARK,
    N_PAGES,
    NEWLINE,
    NUMBER,
    OTHER,
    PAGE,
    SPACE,
    UPPER,
)

GPT2, CL100K, QWEN2, O200K = range(4)
CODES = {"gpt2": GPT2, "cl100k": CL100K, "llama3": CL100K, "qwen2": QWEN2, "o200k": O200K}
"""By which number the kernels know a pattern."""

LETTERS = UPPER | LOWER | CASELESS
WHITE = SPACE | NEWLINE
SYMBOLS = OTHER | MARK
CAPITALS = UPPER | CASELESS | MARK  # of which o200k's words have some in front,
SMALL = LOWER | CASELESS | MARK  # and then some of these

EACH = np.uint64(0x0101010101010101)  # times a byte: a word of eight of them
TOP = np.uint64(0x80) * EACH
CASE = np.uint64(0x20) * EACH  # what small letters of ASCII have more than their capitals
FROM_A, PAST_Z = np.uint64(0x80 - ord("a")) * EACH, np.uint64(0x80 - ord("z") - 1) * EACH

ByteArray = NDArray[np.uint8]


@inlined
def pre_token_end(data: ByteArray, start: int, stop: int, pattern: int, classes: ByteArray) -> int:
    """Where the pre-token that begins at `start` ends, in a text that ends at `stop`."""
    if pattern == GPT2:
        return gpt2_end(data, start, stop, classes)
    if pattern == O200K:
        return o200k_end(data, start, stop, classes)
    return cl100k_end(data, start, stop, 3 if pattern == CL100K else 1, classes)


@inlined
def gpt2_end(data: ByteArray, start: int, stop: int, classes: ByteArray) -> int:
    """A contraction; or a run of letters, of numbers or of symbols, perhaps with a space before it; or white space."""
    end = start + 1 if byte(data, start) == ord(" ") and start + 1 < stop else start
    if ord("a") <= byte(data, end) | 0x20 <= ord("z"):  # most are a word
        return run_end(data, end + 1, stop, LETTERS, classes)
    end = contraction_end(data, start, stop, 0)
    if end > start:
        return end
    class_, width = character(data, start, stop, classes)
    end = start + width
    if data[start] == ord(" ") and end < stop:
        next_class, width = character(data, end, stop, classes)
        if not next_class & WHITE:
            class_ = next_class
            end += width
    if class_ & LETTERS:
        return run_end(data, end, stop, LETTERS, classes)
    if class_ & NUMBER:
        return run_end(data, end, stop, NUMBER, classes)
    if class_ & SYMBOLS:
        return run_end(data, end, stop, SYMBOLS, classes)
    return white_end(data, start, stop, False, classes)


@inlined
def cl100k_end(data: ByteArray, start: int, stop: int, digits: int, classes: ByteArray) -> int:
    """A contraction; or letters, perhaps after a character of another kind; or a few digits; or what `rest_end` has."""
    end = contraction_end(data, start, stop, 0x20)
    if end > start:
        return end
    class_, width = character(data, start, stop, classes)
    end = start + width
    if class_ & LETTERS:
        return run_end(data, end, stop, LETTERS, classes)
    if class_ & NUMBER:
        return number_end(data, end, stop, digits - 1, classes)
    if not class_ & NEWLINE and end < stop:
        next_class, width = character(data, end, stop, classes)
        if next_class & LETTERS:
            return run_end(data, end + width, stop, LETTERS, classes)
    return rest_end(data, start, stop, False, classes)


@inlined
def o200k_end(data: ByteArray, start: int, stop: int, classes: ByteArray) -> int:
    """A word with its contraction; or a few digits; or what `rest_end` has.

    A word may begin with one character of another kind, a mark too; marks are also part of words, and where a mark in
    front leaves too little for a word, the word begins with it.
    """
    class_, width = character(data, start, stop, classes)
    if class_ & NUMBER:
        return number_end(data, start + width, stop, 2, classes)
    end = start
    if class_ & (OTHER | SPACE | MARK):
        begin = start + width
        end = word_end(data, begin, stop, not class_ & MARK, classes)
        if end == begin:
            end = start
    if end == start and class_ & (LETTERS | MARK):
        end = word_end(data, start, stop, True, classes)
    if end > start:
        return contraction_end(data, end, stop, 0x20)
    return rest_end(data, start, stop, True, classes)


@inlined
def word_end(data: ByteArray, start: int, stop: int, capitals_alone: bool, classes: ByteArray) -> int:
    """Where a word of o200k ends that begins here, `start` if none does: capitals and then small letters.

    Letters without case and marks are both. So the small letters follow the run of capitals; or, where none does, the
    word ends with the last in this run that is small as well; or all are capitals, which may stand alone.
    """
    end, small_end = start, start
    while end < stop:
        class_, width = character(data, end, stop, classes)
        if not class_ & CAPITALS:
            if class_ & SMALL:
                return run_end(data, end + width, stop, SMALL, classes)
            break
        end += width
        if class_ & SMALL:
            small_end = end
    return end if small_end == start and capitals_alone else small_end


@inlined
def rest_end(data: ByteArray, start: int, stop: int, slashes: bool, classes: ByteArray) -> int:
    """Symbols, perhaps with a space before them, and the newlines (and `slashes`) behind them; or white space."""
    class_, width = character(data, start, stop, classes)
    end = start + width
    if data[start] == ord(" ") and end < stop:
        next_class, width = character(data, end, stop, classes)
        if next_class & SYMBOLS:
            class_ = next_class
            end += width
    if not class_ & SYMBOLS:
        return white_end(data, start, stop, True, classes)
    end = run_end(data, end, stop, SYMBOLS, classes)
    while end < stop and (data[end] == ord("\n") or data[end] == ord("\r") or (slashes and data[end] == ord("/"))):
        end += 1
    return end


@inlined
def white_end(data: ByteArray, start: int, stop: int, lines: bool, classes: ByteArray) -> int:
    """White space: up to the last newline of the run if `lines` and there is one, else all but one before a word."""
    end, last, line_end = start, start, start
    while end < stop:
        class_, width = character(data, end, stop, classes)
        if not class_ & WHITE:
            break
        last = end
        end += width
        if class_ & NEWLINE:
            line_end = end
    if lines and line_end > start:
        return line_end
    return last if end < stop and last > start else end


@inlined
def number_end(data: ByteArray, start: int, stop: int, more: int, classes: ByteArray) -> int:
    """Where at most so many more digits end."""
    end = start
    for _ in range(more):
        if end == stop:
            break
        class_, width = character(data, end, stop, classes)
        if not class_ & NUMBER:
            break
        end += width
    return end


@inlined
def contraction_end(data: ByteArray, start: int, stop: int, fold: int) -> int:
    """Where 's, 't, 'm, 'd, 'll, 've or 're ends, `start` if there is none; with `fold` 0x20 in any case, ſ too."""
    if start + 1 >= stop or data[start] != ord("'"):
        return start
    first = data[start + 1] | fold
    if first == ord("s") or first == ord("t") or first == ord("m") or first == ord("d"):
        return start + 2
    if start + 2 >= stop:
        return start
    second = data[start + 2] | fold
    if first == ord("l"):
        return start + 3 if second == ord("l") else start
    if first == ord("v") or first == ord("r"):
        return start + 3 if second == ord("e") else start
    return start + 3 if fold and data[start + 1] == 0xC5 and data[start + 2] == 0xBF else start


@inlined
def run_end(data: ByteArray, start: int, stop: int, members: int, classes: ByteArray) -> int:
    """Where the characters end, from `start` on, whose class is one of `members`; letters of ASCII eight at a time."""
    end = start
    while end < stop:
        if members & LOWER and end + 8 <= len(data):
            letters = word(data, end)
            others = not_small(letters | CASE if members & UPPER else letters)
            if others == 0:
                end += 8
                continue
            end += bytes_before(others)
            if end >= stop:
                break
        if byte(data, end) < 0x80:
            if not classes[N_PAGES + byte(data, end)] & members:
                break
            end += 1
        else:
            class_, width = character(data, end, stop, classes)
            if not class_ & members:
                break
            end += width
    return min(end, stop)


@inlined
def byte(data: ByteArray, i: int) -> int:
    """The byte at `i`, which is not counted from the end: numba would look whether it is negative."""
    return data[np.uint64(i)]  # type: ignore[no-any-return]


@inlined
def word(data: ByteArray, start: int) -> np.uint64:
    """The eight bytes from `start` on as a number, the first the least: one load."""
    i = np.uint64(start)
    number = np.uint64(data[i])
    for k in range(1, 8):
        number |= np.uint64(data[i + np.uint64(k)]) << np.uint64(8 * k)
    return number


@inlined
def not_small(letters: np.uint64) -> np.uint64:
    """The top bits of those of eight bytes that are not from a to z.

    Without its top bit, a byte from "a" on plus 0x80 - "a" has one, and of these one past "z" plus 0x80 - "z" - 1.
    """
    low = letters & ~TOP
    return ~(low + FROM_A & ~(low + PAST_Z) & ~letters) & TOP


@inlined
def bytes_before(tops: np.uint64) -> int:
    """How many bytes are before the first whose top bit is set, in a word with one at least.

    Below that bit all are set in the difference; a product with `EACH` adds up all bytes, in the last one.
    """
    lowest = tops & (np.uint64(0) - tops)
    return np.int64((lowest - np.uint64(1) & EACH) * EACH >> np.uint64(56)) - 1  # type: ignore[return-value]


@inlined
def character(data: ByteArray, i: int, stop: int, classes: ByteArray) -> tuple[int, int]:
    """The class of the character at `i`, and how many bytes it has.

    UTF-8 writes a code point below 0x80 in one byte, below 0x800 in two, below 0x10000 in three, and in four up to
    0x10FFFF: 110xxxxx 10xxxxxx, and so on. What could be shorter, and surrogates, are not valid.
    """
    first = byte(data, i)
    if first < 0x80:
        return int(classes[N_PAGES + first]), 1
    if first < 0xE0:
        if first >= 0xC2 and i + 1 < stop and data[i + 1] & 0xC0 == 0x80:
            return class_of((first & 0x1F) << 6 | data[i + 1] & 0x3F, classes), 2
    elif first < 0xF0:
        if i + 2 < stop and data[i + 1] & 0xC0 == 0x80 and data[i + 2] & 0xC0 == 0x80:
            code = (first & 0x0F) << 12 | (data[i + 1] & 0x3F) << 6 | data[i + 2] & 0x3F
            if code >= 0x800 and code & 0xF800 != 0xD800:
                return class_of(code, classes), 3
    elif i + 3 < stop and data[i + 1] & 0xC0 == 0x80 and data[i + 2] & 0xC0 == 0x80 and data[i + 3] & 0xC0 == 0x80:
        code = (first & 0x0F) << 18 | (data[i + 1] & 0x3F) << 12 | (data[i + 2] & 0x3F) << 6 | data[i + 3] & 0x3F
        if 0x10000 <= code < 0x110000:
            return class_of(code, classes), 4
    return OTHER, 1


@inlined
def class_of(code: int, classes: ByteArray) -> int:
    """The class of a code point, by its page."""
    return int(classes[N_PAGES + PAGE * int(classes[code // PAGE]) + code % PAGE])
