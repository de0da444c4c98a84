"""Counting pre-tokens, compiled: blocks of text in, a table of how often each pre-token occurs out.

The readable form, `tokenizers/counting.py`, makes a Python string of every pre-token and counts strings. Here a
pre-token is cut (`split.py`), looked up by its bytes, and counted, where it stands; only a new one is copied:

    data      ... the cat sat ...             a block of a file
    text      the cat on mat|                 each pre-token once, in the order in which they came
    slots     |    |at 3, 4 bytes, 17 times|  at the place that the hash of " cat" says, or after it

A block ends anywhere in the text, so that what is at its end may go on in the next block: its last two pre-tokens, and
what may be the beginning of a special token. `count` returns where that begins. It returns too when the table is full,
which the caller then replaces by a longer one. Since the table has the pre-tokens' bytes itself, it grows with their
number and not with the text, the tables of several threads can be added up, and no file needs to be in memory.

Of a hash that is known a corpus can be written whose pre-tokens all have one slot, so that each search passes all that
came before. Each table has a seed of its own, on which no count depends.
"""

import secrets
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from glassformer.kernels import njit
from glassformer.kernels.special_tokens import Lengths
from glassformer.kernels.split import ByteArray, pre_token_end

SLOT = np.dtype([("hash", np.int64), ("place", np.int64), ("length", np.int64), ("count", np.int64)])
N_WORDS, N_BYTES, SEED = range(3)  # in `numbers`
BYTES_PER_SLOT = 16  # three slots of four are used: twenty bytes for a pre-token
GOLDEN = -7046029254386353131  # 2⁶⁴ divided by the golden ratio, as 64 bits with a sign


class Table(NamedTuple):
    """How often each pre-token occurs, with open addressing; a slot with a count of zero is empty."""

    text: ByteArray
    slots: Any  # records of SLOT
    numbers: NDArray[np.int64]


@njit
def count(
    data: ByteArray,
    start: int,
    is_last: bool,
    pattern: int,
    classes: ByteArray,
    lengths: Lengths,
    longest: int,
    table: Table,
) -> tuple[int, bool]:
    """Count the pre-tokens of a block from `start` on; if it is not the last, those alone that no more text can change.

    `lengths` are those of the special tokens that begin at each place (`special_tokens.py`), `longest` that of all; no
    lengths where there are no special tokens. Returns where the rest begins that is not counted, and whether that is
    because the table is full.
    """
    certain = len(data) if is_last else character_start(data, len(data) - max(longest - 1, 0))
    place = start
    while True:
        wall, after_wall = next_special(lengths, place, certain)
        is_open = wall == certain and not is_last
        older, old = place, place  # where the last pre-token but one begins, and the last
        while place < wall:
            end = pre_token_end(data, place, wall, pattern, classes)
            first, last = (older, old) if is_open else (place, end)
            if first < last and not add(table, data, first, last, 1):
                return first, True
            older, old, place = old, place, end
        if wall == certain:
            return older if is_open else wall, False
        place = after_wall


@njit
def character_start(data: ByteArray, place: int) -> int:
    """The place, or where the character begins in which it is."""
    while 0 < place < len(data) and data[place] & 0xC0 == 0x80:
        place -= 1
    return max(place, 0)


@njit
def next_special(lengths: Lengths, start: int, stop: int) -> tuple[int, int]:
    """Begin and end of the first special token that begins before `stop`, the longest there; else `stop` twice."""
    if len(lengths) > 0:
        for place in range(start, stop):
            if lengths[place] > 0:
                return place, place + int(lengths[place])
    return stop, stop


@njit
def add(table: Table, data: ByteArray, start: int, end: int, n: int) -> bool:
    """Add to the count of a pre-token; False, and nothing is done, where a new one finds no room."""
    hash = hash_of(data, start, end, table.numbers[SEED])
    slot = home_of(hash, len(table.slots))
    while table.slots[slot].count > 0 and not is_in(table, slot, data, start, end, hash):
        slot = slot + 1 if slot + 1 < len(table.slots) else 0
    if table.slots[slot].count == 0:
        place, length = table.numbers[N_BYTES], end - start
        if 4 * table.numbers[N_WORDS] >= 3 * len(table.slots) or place + length > len(table.text):
            return False
        for i in range(length):
            table.text[place + i] = data[start + i]
        entry = table.slots[slot]
        entry.hash, entry.place, entry.length = hash, place, length
        table.numbers[N_WORDS] += 1
        table.numbers[N_BYTES] += length
    table.slots[slot].count += n
    return True


@njit
def hash_of(data: ByteArray, start: int, end: int, seed: int) -> int:
    """A hash of some bytes, eight at a time; the last ones, perhaps none, with a one before them.

    FNV-1a, which takes them one by one, has the same collisions whatever the seed, but for the lowest byte of it. One
    step for eight bytes would do little better: a product's highest bits change alone where its factor's do, so that a
    second word could take back, for half of all seeds, what a first one has changed.
    """
    hash, word = seed, 1
    for i in range(start, end):
        word = word << 8 | data[i]
        if (i - start) % 8 == 7:
            hash, word = mixed(mixed(hash ^ word)), 1
    return mixed(mixed(hash ^ word))


@njit
def mixed(hash: int) -> int:
    """A hash one step on: each upper bit depends on all that were lower, and those of the lower half on the upper."""
    hash *= GOLDEN
    return hash ^ hash >> 32


@njit
def home_of(hash: int, n_slots: int) -> int:
    """The slot where a search begins. `n_slots` is a power of two."""
    return hash & (n_slots - 1)


@njit
def is_in(table: Table, slot: int, data: ByteArray, start: int, end: int, hash: int) -> bool:
    """Whether a slot has this pre-token."""
    entry = table.slots[slot]
    if entry.hash != hash or entry.length != end - start:
        return False
    n = 0
    while n < entry.length and table.text[entry.place + n] == data[start + n]:
        n += 1
    return bool(n == entry.length)


@njit
def add_all(table: Table, text: ByteArray, slots: Any, start: int) -> tuple[int, bool]:
    """Add the counts of another table, from one of its slots on; returns as `count` does."""
    for slot in range(start, len(slots)):
        entry = slots[slot]
        if entry.count > 0 and not add(table, text, entry.place, entry.place + entry.length, entry.count):
            return slot, True
    return len(slots), False


@njit
def move(slots: Any, longer: Any) -> None:
    """Enter the slots of a table into those of a longer one, which is empty."""
    for k in range(len(slots)):
        if slots[k].count > 0:
            slot = home_of(slots[k].hash, len(longer))
            while longer[slot].count > 0:
                slot = slot + 1 if slot + 1 < len(longer) else 0
            longer[slot] = slots[k]


def empty_table(n_slots: int) -> Table:
    """A table without a pre-token. The number of slots is a power of two, and at least 4: one stays empty."""
    numbers = np.array([0, 0, secrets.randbits(63)], np.int64)
    return Table(np.empty(BYTES_PER_SLOT * n_slots, np.uint8), np.zeros(n_slots, SLOT), numbers)


def more_room(table: Table) -> Table:
    """The same with twice the room."""
    longer = empty_table(2 * len(table.slots))
    move(table.slots, longer.slots)
    longer.text[: table.numbers[N_BYTES]] = table.text[: table.numbers[N_BYTES]]
    return longer._replace(numbers=table.numbers)


def text_of(table: Table) -> ByteArray:
    """The pre-tokens side by side, to be read only, as kernels are compiled for all text that they read."""
    text = table.text[: table.numbers[N_BYTES]]
    text.flags.writeable = False
    return text


def words_of(table: Table) -> tuple[ByteArray, NDArray[np.int64], NDArray[np.int64]]:
    """The pre-tokens side by side, where each ends, and their counts."""
    entries = table.slots[table.slots["count"] > 0]
    entries = entries[np.argsort(entries["place"])]
    return text_of(table), entries["place"] + entries["length"], entries["count"].copy()


@njit
def utf8_end(data: ByteArray) -> int:
    """Where the first character begins that UTF-8 does not have or that is not there to its end; else the length."""
    place = 0
    while place < len(data):
        first = data[place]
        if first < 0x80:
            place += 1
            continue
        length = 2 if first < 0xE0 else 3 if first < 0xF0 else 4
        if first < 0xC2 or first > 0xF4 or place + length > len(data):
            break
        for i in range(1, length):
            if data[place + i] & 0xC0 != 0x80:
                return place
        second = data[place + 1]
        if (
            (first == 0xE0 and second < 0xA0)  # could be shorter
            or (first == 0xED and second >= 0xA0)  # a surrogate
            or (first == 0xF0 and second < 0x90)  # could be shorter
            or (first == 0xF4 and second >= 0x90)  # beyond the last code point
        ):
            break
        place += length
    return place
