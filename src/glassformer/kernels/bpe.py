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

SHORT = 28  # symbols up to which looking at all pairs costs less than a tree of them
FAN = 8  # nodes below a node of the tree
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
    """Room for the merges of one piece, as many places as it has bytes; of `tree` three times as many."""

    symbols: Ints
    ranks: Ranks
    after: Ints
    before: Ints
    tree: Ranks


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
    """The same for many symbols, with the same few steps for each merge.

    The symbols are a list: each place has those of its neighbours, `after` and `before`, and a merge takes its right
    symbol's place out. The ranks are the leaves of a tree, in which each node has the least of the eight below it:

        tree    [3]               the least of all
                [5, 3, 4]         node 8 v + 1 + k is the k-th below node v
                [5 9 7 8, ...     from `leaves` on, the rank of each place and the symbol after it, NEVER if none

    So the pair to merge is found from the top, at each level the leftmost that has the least rank, and a rank that
    changes is told upwards until a node stays as it was. A heap would keep pairs that are no more, and took twice as
    long.
    """
    symbols, ranks, after, before, tree = scratch
    ranks[n - 1] = NEVER
    leaves, width = 0, 1
    while width < n:
        leaves, width = leaves + width, FAN * width
    for i in range(n):
        tree[leaves + i], after[i], before[i] = ranks[i], i + 1, i - 1
    for node in range(leaves - 1, -1, -1):
        tree[node] = least_below(tree, node, leaves + n)
    while tree[0] != NEVER:
        node = 0
        while node < leaves:
            node = FAN * node + 1
            while tree[node] != tree[0]:
                node += 1
        i = node - leaves
        gone, left = after[i], before[i]
        right = after[gone]
        symbols[i] = joined[tree[node]]
        after[i] = right
        tree[leaves + gone] = NEVER
        tree[node] = rank_of(symbols[i], symbols[right], pairs) if right < n else NEVER
        if right < n:
            before[right] = i
        if left >= 0:
            tree[leaves + left] = rank_of(symbols[left], symbols[i], pairs)
            tell_upwards(tree, leaves + left, leaves + n)
        tell_upwards(tree, node, leaves + n)
        tell_upwards(tree, leaves + gone, leaves + n)
    i, length = 0, 0
    while i < n:
        symbols[length] = symbols[i]
        length += 1
        i = after[i]
    return length


@inlined
def least_below(tree: Ranks, node: int, end: int) -> np.uint32:
    """The least of the nodes below this one, of a tree that ends at `end`."""
    least = NEVER
    for below in range(FAN * node + 1, min(FAN * node + 1 + FAN, end)):
        least = min(least, tree[below])
    return least


@inlined
def tell_upwards(tree: Ranks, node: int, end: int) -> None:
    """Bring the nodes above this one up to date."""
    while node > 0:
        node = (node - 1) // FAN
        least = least_below(tree, node, end)
        if tree[node] == least:
            break
        tree[node] = least


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
