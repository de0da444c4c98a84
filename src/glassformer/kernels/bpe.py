"""Byte-level BPE in kernels: a text's ids, the table of merges that leads to them, and the bytes of ids.

All tables are open addressing: what is looked for lies in the slot that its hash names, or in one of the next before
the first that is empty. The readable twins are `tokenizers.byte_level.encode` and `.decode`; `split.py` says where a
piece, a pre-token's bytes, ends.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from glassformer.kernels import inlined, njit
from glassformer.kernels.split import ByteArray, pre_token_end

EMPTY = np.uint64(0xFFFFFFFFFFFFFFFF)  # a slot of the table of pairs that has none
NEVER = np.uint32(0xFFFFFFFF)  # the rank of a pair that is not merged
ID_BITS = np.uint64(21)
RANK_BITS = np.uint64(22)
LOW = np.uint64(0xFFFFFFFF)
HALF = np.uint64(32)
UPPER = np.uint64(40)  # from this bit on a product depends on all bits of its factors: 24 bits, for slots
MIX = np.uint64(0x9E3779B97F4A7C15)  # 2⁶⁴ divided by the golden ratio: its multiples spread

SHORT = 28  # symbols up to which looking at all pairs costs less than a heap
KEY_BYTES = 15  # of the longest piece in the cache, which with its length are two words
CACHED_IDS = 11
SLOT = 8  # words: the key, and in six more the number of ids and the ids
PADDING = 16  # bytes behind a text that may be read

DONE, NEEDS_ROOM, NO_BYTE = range(3)

Ints = NDArray[np.int32]
Words = NDArray[np.uint64]
Ranks = NDArray[np.uint32]


class Vocabulary(NamedTuple):
    """What encoding reads: tokens as bytes, those of id i from `starts[i]` to `starts[i + 1]`, and three tables."""

    tokens: ByteArray
    starts: NDArray[np.int64]
    byte_ids: Ints  # of the 256 bytes; -1 where there is none
    wholes: Ints  # ids of the tokens that a piece may be as a whole, by the hashes of their bytes; -1 is empty
    pairs: Words  # left id, right id and rank, of 21, 21 and 22 bits, by the hash of the ids
    byte_ranks: Ranks  # of the pairs of bytes, at 256 left + right
    joined: Ints  # what a pair becomes, by its rank


class Scratch(NamedTuple):
    """Room for the merges of one piece, as many places as it has bytes; of `heap` three times as many."""

    symbols: Ints
    ranks: Ranks
    after: NDArray[np.int64]
    before: NDArray[np.int64]
    heap: Words


@njit
def encode(
    data: ByteArray,
    size: int,
    goes_on: bool,
    pattern: int,
    classes: ByteArray,
    vocabulary: Vocabulary,
    cache: Words,
    cached_ids: Ints,
    scratch: Scratch,
    ids: Ints,
    result: NDArray[np.int64],
) -> int:
    """Write the ids of a text of `size` bytes into `ids`; of one that `goes_on`, but for its last two pre-tokens.

    A piece of up to 15 bytes is looked for in the cache, by its own bytes. Each of its slots is a line of the
    processor's: 15 bytes and their number, then up to eleven ids and their number. A piece has two slots to be in; when
    it was in neither, what is in the first moves to the second, and what was there is forgotten. `cached_ids` is the
    same memory as `cache`, in half words. Other pieces, one in fifty, are merged at once.

    `result` takes the offset up to which the text is encoded, and the number of ids; before, it has two zeros. What is
    returned is DONE; or NEEDS_ROOM, for a piece longer than `scratch`; or NO_BYTE, for one that the vocabulary cannot
    write.
    """
    start, n = result[0], result[1]
    last, last_n, second, second_n = start, n, start, n
    mask = np.uint64(len(cache) // SLOT - 2)
    while start < size:
        end = pre_token_end(data, start, size, pattern, classes)
        second, second_n, last, last_n = last, last_n, start, n
        length = end - start
        slot, key, key_end = 0, EMPTY, EMPTY
        if length <= KEY_BYTES:
            key = word(data, start, length)
            key_end = word(data, start + 8, length - 8) | np.uint64(length) << np.uint64(56)
            mixed = key ^ key_end * MIX
            slot = SLOT * signed((mixed ^ mixed >> HALF) * MIX >> UPPER & mask)
            if cache[slot] != key or cache[slot + 1] != key_end:
                slot += SLOT
            if cache[slot] == key and cache[slot + 1] == key_end:
                at = 2 * slot + 4
                for i in range(cached_ids[at]):
                    ids[n + i] = cached_ids[at + 1 + i]
                n += cached_ids[at]
                start = end
                continue
        n_ids = encode_piece(data, start, end, vocabulary, scratch, ids, n)
        if n_ids < 0:
            return -n_ids
        if length <= KEY_BYTES and n_ids <= CACHED_IDS:
            for i in range(SLOT):
                cache[slot + i] = cache[slot - SLOT + i]
            slot -= SLOT
            cache[slot], cache[slot + 1] = key, key_end
            at = 2 * slot + 4
            cached_ids[at] = n_ids
            for i in range(n_ids):
                cached_ids[at + 1 + i] = ids[n + i]
        n += n_ids
        start = end
    if goes_on:
        start, n = second, second_n
    result[0], result[1] = start, n
    return DONE


@inlined
def word(data: ByteArray, start: int, length: int) -> np.uint64:
    """The first 8 of `length` bytes as a number; bytes that are missing are zeros."""
    if length <= 0:
        return np.uint64(0)
    i = np.uint64(start)
    number = np.uint64(data[i])
    for k in range(1, 8):
        number |= np.uint64(data[i + np.uint64(k)]) << np.uint64(8 * k)
    return number if length >= 8 else number & ((np.uint64(1) << np.uint64(8 * length)) - np.uint64(1))


@inlined
def signed(number: np.uint64) -> int:
    """The number as numba's int64: a sum of one of these and an unsigned number would be a float."""
    return np.int64(number)  # type: ignore[return-value]


@njit
def encode_piece(
    data: ByteArray, start: int, end: int, vocabulary: Vocabulary, scratch: Scratch, ids: Ints, n: int
) -> int:
    """How many ids a piece has, which are written from `ids[n]` on; -NO_BYTE and -NEEDS_ROOM as `encode` says."""
    whole = find_token(data, start, end, vocabulary)
    if whole >= 0:
        ids[n] = whole
        return 1
    length = end - start
    if length > len(scratch.symbols):
        return -NEEDS_ROOM
    symbols, ranks = scratch.symbols, scratch.ranks
    for i in range(length):
        symbols[i] = vocabulary.byte_ids[data[start + i]]
        if symbols[i] < 0:
            return -NO_BYTE
        if i > 0:
            ranks[i - 1] = vocabulary.byte_ranks[256 * int(data[start + i - 1]) + data[start + i]]
    if length <= SHORT:
        length = merge_short(length, vocabulary.pairs, vocabulary.joined, symbols, ranks)
    else:
        length = merge_long(length, vocabulary.pairs, vocabulary.joined, scratch)
    for i in range(length):
        ids[n + i] = symbols[i]
    return length


@njit
def merge_short(n: int, pairs: Words, joined: Ints, symbols: Ints, ranks: Ranks) -> int:
    """Merge the first `n` symbols in place; how many are left.

    `ranks[i]` is that of the symbols i and i + 1. The least, and of several the leftmost, is merged: its left symbol
    becomes what the two are joined, all that is right of it moves up, and the pairs on both sides are looked up.
    """
    while True:
        least, at = NEVER, 0
        for i in range(n - 1):
            if ranks[i] < least:
                least, at = ranks[i], i
        if least == NEVER:
            return n
        symbols[at] = joined[least]
        n -= 1
        for i in range(at + 1, n):
            symbols[i] = symbols[i + 1]
            ranks[i] = ranks[i + 1]
        if at > 0:
            ranks[at - 1] = rank_of(symbols[at - 1], symbols[at], pairs)
        if at < n - 1:
            ranks[at] = rank_of(symbols[at], symbols[at + 1], pairs)


@njit
def merge_long(n: int, pairs: Words, joined: Ints, scratch: Scratch) -> int:
    """The same for many symbols, in n log n steps.

    The symbols are a list: each place has those of its neighbours, `after` and `before`, and a merge takes its right
    symbol's place out. A heap has `rank << 32 | place` of all pairs that can be merged, the least at its top. It may
    have pairs that are no more: then `ranks[place]` is another by now.
    """
    symbols, ranks, after, before, heap = scratch
    n_heap = 0
    ranks[n - 1] = NEVER
    for i in range(n):
        after[i], before[i] = i + 1, i - 1
        if ranks[i] != NEVER:
            n_heap = heap_push(heap, n_heap, np.uint64(ranks[i]) << HALF | np.uint64(i))
    while n_heap:
        rank, i = np.uint32(heap[0] >> HALF), signed(heap[0] & LOW)
        n_heap = heap_pop(heap, n_heap)
        if ranks[i] != rank:
            continue
        symbols[i] = joined[rank]
        gone = after[i]
        ranks[gone] = NEVER
        after[i] = after[gone]
        if after[i] < n:
            before[after[i]] = i
        for left in (before[i], i):
            if left >= 0:
                right = after[left]
                ranks[left] = rank_of(symbols[left], symbols[right], pairs) if right < n else NEVER
                if ranks[left] != NEVER:
                    n_heap = heap_push(heap, n_heap, np.uint64(ranks[left]) << HALF | np.uint64(left))
    i, length = 0, 0
    while i < n:
        symbols[length] = symbols[i]
        length += 1
        i = after[i]
    return length


@njit
def heap_push(heap: Words, n: int, entry: np.uint64) -> int:
    """Add to a heap of `n` entries, in which none is greater than those at 2 i + 1 and 2 i + 2; its new size."""
    i = n
    while i > 0 and heap[(i - 1) // 2] > entry:
        heap[i] = heap[(i - 1) // 2]
        i = (i - 1) // 2
    heap[i] = entry
    return n + 1


@njit
def heap_pop(heap: Words, n: int) -> int:
    """Take the least entry out of a heap of `n`; its new size."""
    n -= 1
    entry = heap[n]
    i = 0
    while 2 * i + 1 < n:
        child = 2 * i + 1
        if child + 1 < n and heap[child + 1] < heap[child]:
            child += 1
        if heap[child] >= entry:
            break
        heap[i] = heap[child]
        i = child
    heap[i] = entry
    return n


@inlined
def rank_of(left: int, right: int, pairs: Words) -> np.uint32:
    """The rank of a pair, NEVER if it is not merged."""
    key = np.uint64(left) << ID_BITS | np.uint64(right)
    mask = np.uint64(len(pairs) - 1)
    slot = key * MIX >> UPPER & mask
    while pairs[slot] != EMPTY:
        if pairs[slot] >> RANK_BITS == key:
            return np.uint32(pairs[slot] & ((np.uint64(1) << RANK_BITS) - np.uint64(1)))
        slot = (slot + np.uint64(1)) & mask
    return NEVER


@njit
def add_pairs(left: Ints, right: Ints, ranks: Ints, vocabulary: Vocabulary) -> None:
    """Fill `byte_ranks`, and the table of pairs, which is all EMPTY and has at least twice as many places as pairs."""
    pairs, byte_ids = vocabulary.pairs, vocabulary.byte_ids
    mask = np.uint64(len(pairs) - 1)
    for i in range(len(left)):
        key = np.uint64(left[i]) << ID_BITS | np.uint64(right[i])
        slot = key * MIX >> UPPER & mask
        while pairs[slot] != EMPTY:
            slot = (slot + np.uint64(1)) & mask
        pairs[slot] = key << RANK_BITS | np.uint64(ranks[i])
    for i in range(256):
        for k in range(256):
            has_both = byte_ids[i] >= 0 and byte_ids[k] >= 0
            vocabulary.byte_ranks[256 * i + k] = rank_of(byte_ids[i], byte_ids[k], pairs) if has_both else NEVER


@njit
def find_token(data: ByteArray, start: int, end: int, vocabulary: Vocabulary) -> int:
    """The id of the token that is these bytes, of those in `wholes`; -1 if there is none."""
    tokens, starts, wholes = vocabulary.tokens, vocabulary.starts, vocabulary.wholes
    if len(wholes) == 0:
        return -1
    length = end - start
    mask = np.uint64(len(wholes) - 1)
    slot = hash_bytes(data, start, end) & mask
    while wholes[slot] >= 0:
        id_ = wholes[slot]
        first = starts[id_]
        if starts[id_ + 1] - first == length:
            i = 0
            while i < length and tokens[first + i] == data[start + i]:
                i += 1
            if i == length:
                return int(id_)
        slot = (slot + np.uint64(1)) & mask
    return -1


@inlined
def hash_bytes(data: ByteArray, start: int, end: int) -> np.uint64:
    """FNV-1a, whose upper half goes to the lower one, where tables look."""
    hash_ = np.uint64(0xCBF29CE484222325)
    for i in range(start, end):
        hash_ = (hash_ ^ np.uint64(data[i])) * np.uint64(0x100000001B3)
    return hash_ ^ hash_ >> HALF


@njit
def add_tokens(ids: Ints, vocabulary: Vocabulary) -> None:
    """Fill the table `wholes`, which is all -1 and has at least twice as many places as there are ids."""
    tokens, starts, wholes = vocabulary.tokens, vocabulary.starts, vocabulary.wholes
    mask = np.uint64(len(wholes) - 1)
    for id_ in ids:
        slot = hash_bytes(tokens, starts[id_], starts[id_ + 1]) & mask
        while wholes[slot] >= 0:
            slot = (slot + np.uint64(1)) & mask
        wholes[slot] = id_


@njit
def list_pairs(ids: Ints, vocabulary: Vocabulary, left: Ints, right: Ints, joined: Ints) -> int:
    """All pairs of tokens in `wholes` that make up one of `ids`; how many there are.

    No more are written than there is room for.
    """
    tokens, starts = vocabulary.tokens, vocabulary.starts
    n = 0
    for id_ in ids:
        first, end = starts[id_], starts[id_ + 1]
        for cut in range(first + 1, end):
            before = find_token(tokens, first, cut, vocabulary)
            if before < 0:
                continue
            behind = find_token(tokens, cut, end, vocabulary)
            if behind < 0:
                continue
            if n < len(left):
                left[n], right[n], joined[n] = before, behind, id_
            n += 1
    return n


@njit
def count_bytes(ids: NDArray[np.int64], starts: NDArray[np.int64]) -> int:
    """How many bytes the tokens of these ids have together; an id that no token has stands for none."""
    n = 0
    for id_ in ids:
        if 0 <= id_ < len(starts) - 1:
            n += starts[id_ + 1] - starts[id_]
    return n


@njit
def gather_bytes(ids: NDArray[np.int64], tokens: ByteArray, starts: NDArray[np.int64], data: ByteArray) -> None:
    """Write the bytes of the tokens of these ids one after the other."""
    n = 0
    for id_ in ids:
        if 0 <= id_ < len(starts) - 1:
            for i in range(starts[id_], starts[id_ + 1]):
                data[n] = tokens[i]
                n += 1
