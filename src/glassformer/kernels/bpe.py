"""Byte-level BPE in kernels: a text's ids, the table of merges that leads to them, and the bytes of ids.

All tables are open addressing: what is looked for lies in the slot that its hash names, or in one of the next before
the first that is empty. The readable twins are `tokenizers.byte_level.encode` and `.decode`; `split_text.py` says
where a piece, a pre-token's bytes or a part of them, ends.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from glassformer.kernels import inlined, njit
from glassformer.kernels.bits import highest, lowest
from glassformer.kernels.marks import Words, is_marked, mark
from glassformer.kernels.memory import prefetch_in
from glassformer.kernels.split import ByteArray, word
from glassformer.kernels.split_text import ONE, pair_of, split

NEVER = np.uint32(0xFFFFFFFF)  # the rank of a pair that is not merged
ID_BITS = np.uint64(21)
RANK_BITS = np.uint64(22)
HALF = np.uint64(32)
PLACE_BITS = np.uint64(6)  # below a rank: the place of a symbol
UPPER = np.uint64(40)  # from this bit on a product depends on all bits of its factors: 24 bits, for slots
MIX = np.uint64(0x9E3779B97F4A7C15)  # 2⁶⁴ divided by the golden ratio: its multiples spread
ALL = np.uint64(0xFFFFFFFFFFFFFFFF)

SHORT = 28  # symbols, at most 63, up to which looking at all pairs costs less than a tree of them
FAN = 8  # nodes below a node of the tree
KEY_BYTES = 15  # of a piece that is its own key, with its length in the sixteenth
LONG = np.uint64(1 << 63)  # in the second word of a key: the first is a hash
SLOT = 4  # words of the cache: the key; how many ids, and three of them
SLOT_IDS = 3
STORED = 1 << 20  # plus the number of ids, where they are in the store
KEPT_BYTES = 64  # of the longest piece in the cache
PROBES = 64  # slots that are looked at: a text can be written so that all its pieces have one hash
PADDING = 16  # bytes behind a text that may be read

DONE, NEEDS_ROOM, NEEDS_SLOTS, NO_BYTE = range(4)
N_KEPT, N_STORED = range(2)  # in `Cache.numbers`
NOT_KEPT = -1  # the place of a piece that is not in the cache

Ints = NDArray[np.int32]
Ranks = NDArray[np.uint32]


class Vocabulary(NamedTuple):
    """What encoding reads: tokens as bytes, those of id i from `starts[i]` to `starts[i + 1]`, and three tables."""

    tokens: ByteArray  # and PADDING
    starts: NDArray[np.int64]
    byte_ids: Ints  # of the 256 bytes; -1 where there is none
    wholes: Ints  # ids of the tokens that a piece may be as a whole, by their keys; -1 is empty
    keys: Words  # two words of each token
    whole_marks: Words  # a bit for each hash: is there such a key at all? Smaller than the table, and asked first
    pairs: Words  # left id, right id and rank, of 21, 21 and 22 bits, by the hash of the ids; ALL is empty
    pair_marks: Words  # likewise
    byte_ranks: Ranks  # of the pairs of bytes, at 256 left + right
    joined: Ints  # what a pair becomes, by its rank
    neighbours: Words  # pairs of bytes that stand side by side in a token; no merge joins any others


class Cache(NamedTuple):
    """Pieces that came before, and their ids.

    slots    |key            |2, id, id, -|    half a line of the processor's cache
             |key            |STORED + 5, place, -, -|
    store    ... id id id id id - ...          where three ids are too few, or 15 bytes; these precede the ids
    """

    slots: Words
    slot_ids: Ints  # the same memory in half words
    store: Words
    stored_ids: Ints  # likewise
    numbers: NDArray[np.int64]  # of pieces, and of words in the store


class Scratch(NamedTuple):
    """What is known of a batch of pieces, and room for the merges of one, as many places as it has bytes.

    Of `tree` three times as many.
    """

    ends: NDArray[np.int64]
    keys: Words  # two words of each
    places: NDArray[np.int64]  # where the slot of each begins, in half words; NOT_KEPT
    rest: NDArray[np.int64]  # which are not in the first slot that they may have
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
    cache: Cache,
    scratch: Scratch,
    ids: Ints,
    result: NDArray[np.int64],
) -> int:
    """Write the ids of a text of `size` bytes into `ids`; of one that `goes_on`, but for its last two pre-tokens.

    Each step is done for some hundred pieces before the next one, so that the processor can go ahead to the next piece
    while it waits for memory:

        split     where each piece ends
        look_up   its slot in the cache, if that is the first where it may be
        learn     the slots of the others; what is in none is merged, and enters the cache
        write     the ids of each slot

    `result` takes the offset up to which the text is encoded, and the number of ids; before, it has two zeros. What is
    returned is DONE; or NEEDS_ROOM, for a piece longer than `scratch`, or NEEDS_SLOTS, for the cache: then the call is
    made again with more; or NO_BYTE, for a piece that the vocabulary cannot write.
    """
    while result[0] < size:
        n_pieces = split(data, result[0], size, goes_on, pattern, classes, vocabulary.neighbours, scratch.ends)
        n_rest = look_up(data, result[0], n_pieces, cache, scratch)
        status = learn(data, result[0], n_rest, vocabulary, cache, scratch) if n_rest else DONE
        if status == DONE:
            status = write(data, n_pieces, vocabulary, cache, scratch, ids, result)
        if status != DONE or n_pieces == 0:
            return status
        if is_full(cache):
            return NEEDS_SLOTS
    return DONE


@njit
def look_up(data: ByteArray, start: int, n_pieces: int, cache: Cache, scratch: Scratch) -> int:
    """Look at the first slot where each of the pieces from `start` on may be; how many are not there, which are listed.

    Nothing is decided in these loops, so that the processor need not guess, and all slots are on their way before the
    first is read.
    """
    slots, ends, places, rest, keys = cache.slots, scratch.ends, scratch.places, scratch.rest, scratch.keys
    for i in range(n_pieces):
        end = ends[i]
        first, second = key_of(data, start, end - start)
        slot = slot_of(first, second, len(slots) // SLOT) * np.uint64(SLOT)
        prefetch_in(slots, slot)
        keys[2 * i], keys[2 * i + 1] = first, second
        places[i] = signed(slot)
        start = end
    n_rest = 0
    for i in range(n_pieces):
        slot = np.uint64(places[i])
        at = np.uint64(2) * slot + np.uint64(4)
        is_stored = cache.slot_ids[at] > SLOT_IDS
        prefetch_in(cache.store, np.uint64(cache.slot_ids[at + np.uint64(1)] if is_stored else 0))
        rest[np.uint64(n_rest)] = i
        n_rest += (slots[slot] != keys[2 * i]) | (slots[slot + np.uint64(1)] != keys[2 * i + 1])
    return n_rest


@njit
def learn(data: ByteArray, start: int, n_rest: int, vocabulary: Vocabulary, cache: Cache, scratch: Scratch) -> int:
    """Find the slots of the pieces that are listed, and encode those that have none."""
    for k in range(n_rest):
        i = scratch.rest[k]
        begin, end = scratch.ends[i - 1] if i > 0 else start, scratch.ends[i]
        first, second = scratch.keys[2 * i], scratch.keys[2 * i + 1]
        slot = find_slot(cache.slots, first, second)
        scratch.places[i] = slot
        if slot == NOT_KEPT or cache.slots[slot + 1] != 0:
            continue
        count = encode_piece(data, begin, end, first, second, vocabulary, scratch)
        if count < 0:
            return -count
        scratch.places[i] = keep(data, begin, end, slot, first, second, count, cache, scratch)
    return DONE


@njit
def write(
    data: ByteArray,
    n_pieces: int,
    vocabulary: Vocabulary,
    cache: Cache,
    scratch: Scratch,
    ids: Ints,
    result: NDArray[np.int64],
) -> int:
    """Write the ids of some pieces.

    Three are written whether there are so many or not, which costs less than to ask: `ids` has three places more.
    """
    start, n = result[0], result[1]
    slot_ids = cache.slot_ids
    for i in range(n_pieces):
        place, to = scratch.places[i], np.uint64(n)
        count = 0
        if place != NOT_KEPT:
            at = np.uint64(2 * place + 4)
            count = slot_ids[at]
            ids[to] = slot_ids[at + np.uint64(1)]
            ids[to + np.uint64(1)] = slot_ids[at + np.uint64(2)]
            ids[to + np.uint64(2)] = slot_ids[at + np.uint64(3)]
        if place == NOT_KEPT or count > SLOT_IDS:
            begin, end = scratch.ends[i - 1] if i > 0 else start, scratch.ends[i]
            count = -1
            if place != NOT_KEPT:
                count = recall(data, begin, end, 2 * place + 4, cache, ids, n)
            if count < 0:
                count = encode_anew(data, begin, end, vocabulary, scratch, ids, n)
            if count < 0:
                return -count
        n += count
    if n_pieces > 0:
        result[0], result[1] = scratch.ends[n_pieces - 1], n
    return DONE


@njit
def encode_anew(
    data: ByteArray, start: int, end: int, vocabulary: Vocabulary, scratch: Scratch, ids: Ints, n: int
) -> int:
    """Write the ids of a piece that is not in the cache; how many it has, or as `encode_piece` says."""
    first, second = key_of(data, start, end - start)
    count = encode_piece(data, start, end, first, second, vocabulary, scratch)
    for i in range(count):
        ids[n + i] = scratch.symbols[i]
    return count


@inlined
def is_full(cache: Cache) -> bool:
    """Whether more slots are wanted, or more store."""
    many_slots = 4 * SLOT * cache.numbers[N_KEPT] > 3 * len(cache.slots)
    return many_slots or bool(8 * cache.numbers[N_STORED] > 7 * len(cache.store))


@inlined
def key_of(data: ByteArray, start: int, length: int) -> tuple[np.uint64, np.uint64]:
    """Two words that tell a piece from others: its bytes and their number; of more than 15 bytes a hash, and LONG."""
    if length > KEY_BYTES:
        return hash_bytes(data, start, length), LONG | np.uint64(length)
    first = word(data, start) & ALL >> np.uint64(64 - 8 * min(length, 8))
    second = word(data, start + 8) & ALL >> np.uint64(1) >> np.uint64(63 - 8 * max(length - 8, 0))
    return first, second | np.uint64(length) << np.uint64(56)


@njit
def hash_bytes(data: ByteArray, start: int, length: int) -> np.uint64:
    """A hash of eight bytes at least."""
    hash_ = np.uint64(length)
    for i in range(start, start + length - 8, 8):
        hash_ = (hash_ ^ word(data, i)) * MIX
        hash_ ^= hash_ >> HALF
    hash_ = (hash_ ^ word(data, start + length - 8)) * MIX
    return hash_ ^ hash_ >> HALF


@inlined
def slot_of(first: np.uint64, second: np.uint64, n_slots: int) -> np.uint64:
    """The slot where a search begins, of a power of two of slots."""
    return hash_of(first, second) & np.uint64(n_slots - 1)


@inlined
def hash_of(first: np.uint64, second: np.uint64) -> np.uint64:
    """24 bits of a key."""
    mixed = first ^ second * MIX
    return (mixed ^ mixed >> HALF) * MIX >> UPPER


@inlined
def signed(number: np.uint64) -> int:
    """The number as numba's int64: a sum of one of these and an unsigned number would be a float."""
    return np.int64(number)  # type: ignore[return-value]


@inlined
def find_slot(slots: Words, first: np.uint64, second: np.uint64) -> int:
    """Where the slot begins that has this key, or the empty one that may take it; NOT_KEPT where both are too far."""
    last = np.uint64(len(slots) - SLOT)
    slot = slot_of(first, second, len(slots) // SLOT) * np.uint64(SLOT)
    for _ in range(PROBES):
        if slots[slot + np.uint64(1)] == 0 or (slots[slot] == first and slots[slot + np.uint64(1)] == second):
            return signed(slot)
        slot = slot + np.uint64(SLOT) & last
    return NOT_KEPT


@inlined
def recall(data: ByteArray, start: int, end: int, at: int, cache: Cache, ids: Ints, n: int) -> int:
    """How many ids a piece has that are in the store, which are written; -1 if another piece of that hash is there."""
    count, place = cache.slot_ids[at] - STORED, int(cache.slot_ids[at + 1])
    if end - start > KEY_BYTES:
        for i in range(start, end - 8, 8):
            if cache.store[place] != word(data, i):
                return -1
            place += 1
        if cache.store[place] != word(data, end - 8):
            return -1
        place += 1
    for i in range(count):
        ids[n + i] = cache.stored_ids[2 * place + i]
    return int(count)


@inlined
def keep(
    data: ByteArray,
    start: int,
    end: int,
    slot: int,
    first: np.uint64,
    second: np.uint64,
    count: int,
    cache: Cache,
    scratch: Scratch,
) -> int:
    """Enter a piece and its ids, the first of `symbols`, into an empty slot; the slot, or NOT_KEPT for want of room."""
    is_long = end - start > KEY_BYTES
    in_store = is_long or count > SLOT_IDS
    place = cache.numbers[N_STORED]
    n_words = (end - start + 7) // 8 + (count + 1) // 2 if in_store else 0
    has_room = place + n_words <= len(cache.store) and 8 * SLOT * (cache.numbers[N_KEPT] + 1) <= 7 * len(cache.slots)
    if end - start > KEPT_BYTES or not has_room:
        return NOT_KEPT
    cache.numbers[N_KEPT] += 1
    cache.numbers[N_STORED] += n_words
    cache.slots[slot], cache.slots[slot + 1] = first, second
    at = 2 * slot + 4
    if not in_store:
        cache.slot_ids[at] = count
        for i in range(count):
            cache.slot_ids[at + 1 + i] = scratch.symbols[i]
        return slot
    cache.slot_ids[at], cache.slot_ids[at + 1] = STORED + count, place
    if is_long:
        for i in range(start, end - 8, 8):
            cache.store[place] = word(data, i)
            place += 1
        cache.store[place] = word(data, end - 8)
        place += 1
    for i in range(count):
        cache.stored_ids[2 * place + i] = scratch.symbols[i]
    return slot


@njit
def move(cache: Cache, larger: Cache) -> None:
    """Enter all pieces of a cache into an empty one with more slots and the same store, where they find a slot."""
    for old in range(0, len(cache.slots), SLOT):
        if cache.slots[old + 1] == 0:
            continue
        slot = find_slot(larger.slots, cache.slots[old], cache.slots[old + 1])
        if slot != NOT_KEPT:
            for i in range(SLOT):
                larger.slots[slot + i] = cache.slots[old + i]


@inlined
def encode_piece(
    data: ByteArray,
    start: int,
    end: int,
    first: np.uint64,
    second: np.uint64,
    vocabulary: Vocabulary,
    scratch: Scratch,
) -> int:
    """How many ids a piece has, which are the first of `symbols`; -NO_BYTE and -NEEDS_ROOM as `encode` says."""
    whole = find_token(data, start, end, first, second, vocabulary)
    if whole >= 0:
        scratch.symbols[0] = whole
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
        length = merge_short(length, vocabulary, symbols, ranks)
    else:
        length = merge_long(length, vocabulary, scratch)
    return length


@inlined
def merge_short(n: int, vocabulary: Vocabulary, symbols: Ints, ranks: Ranks) -> int:
    """Merge the first `n` symbols in place, at most `SHORT`; how many are left.

    A merge leaves its left symbol, as what the two are joined, and takes out the bit of its right one. Nothing moves:

        symbols    t h e r e        t he . r e       t he . re .
        begins     1 1 1 1 1        1 1  0 1 1       1 1  0 1  0

    `ranks[i]` is that of the symbol at i and the one after it. The least, and of several the leftmost, is the least of
    the numbers of which the rank is the upper bits, and i the lower.
    """
    begins = (ONE << np.uint64(n)) - ONE
    while True:
        least, rest = ALL, begins
        while rest & rest - ONE:  # of the last symbol there is no pair
            i = np.uint64(lowest(rest))
            least = min(least, np.uint64(ranks[i]) << PLACE_BITS | i)
            rest &= rest - ONE
        if least >> PLACE_BITS >= np.uint64(NEVER):
            break
        at = least & ALL >> np.uint64(64) - PLACE_BITS
        before, behind = begins & (ONE << at) - ONE, begins & ALL - ONE << at
        begins ^= behind & ~(behind - ONE)
        behind &= behind - ONE
        symbols[at] = vocabulary.joined[least >> PLACE_BITS]
        if behind:
            ranks[at] = rank_of(symbols[at], symbols[np.uint64(lowest(behind))], vocabulary)
        if before:
            left = np.uint64(highest(before))
            ranks[left] = rank_of(symbols[left], symbols[at], vocabulary)
    length = 0
    while begins:
        symbols[np.uint64(length)] = symbols[np.uint64(lowest(begins))]
        begins &= begins - ONE
        length += 1
    return length


@njit
def merge_long(n: int, vocabulary: Vocabulary, scratch: Scratch) -> int:
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
    symbols, ranks, after, before, tree = scratch[-5:]
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
        symbols[i] = vocabulary.joined[tree[node]]
        after[i] = right
        tree[leaves + gone] = NEVER
        tree[node] = rank_of(symbols[i], symbols[right], vocabulary) if right < n else NEVER
        if right < n:
            before[right] = i
        if left >= 0:
            tree[leaves + left] = rank_of(symbols[left], symbols[i], vocabulary)
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
def rank_of(left: int, right: int, vocabulary: Vocabulary) -> np.uint32:
    """The rank of a pair, NEVER if it is not merged."""
    pairs = vocabulary.pairs
    key = np.uint64(left) << ID_BITS | np.uint64(right)
    hash_ = key * MIX >> UPPER
    if is_marked(vocabulary.pair_marks, hash_):
        mask = np.uint64(len(pairs) - 1)
        slot = hash_ & mask
        while pairs[slot] != ALL:
            if pairs[slot] >> RANK_BITS == key:
                return np.uint32(pairs[slot] & (np.uint64(1) << RANK_BITS) - np.uint64(1))
            slot = slot + np.uint64(1) & mask
    return NEVER


@njit
def add_pairs(left: Ints, right: Ints, ranks: Ints, vocabulary: Vocabulary) -> None:
    """Fill `byte_ranks`, and the table of pairs, which is all ALL and has at least twice as many places as pairs."""
    pairs, byte_ids = vocabulary.pairs, vocabulary.byte_ids
    mask = np.uint64(len(pairs) - 1)
    for i in range(len(left)):
        key = np.uint64(left[i]) << ID_BITS | np.uint64(right[i])
        hash_ = key * MIX >> UPPER
        mark(vocabulary.pair_marks, hash_)
        slot = hash_ & mask
        while pairs[slot] != ALL:
            slot = slot + np.uint64(1) & mask
        pairs[slot] = key << RANK_BITS | np.uint64(ranks[i])
    for i in range(256):
        for k in range(256):
            has_both = byte_ids[i] >= 0 and byte_ids[k] >= 0
            vocabulary.byte_ranks[256 * i + k] = rank_of(byte_ids[i], byte_ids[k], vocabulary) if has_both else NEVER


@inlined
def find_token(
    data: ByteArray, start: int, end: int, first: np.uint64, second: np.uint64, vocabulary: Vocabulary
) -> int:
    """The id of the token that is these bytes, whose key is given, of those in `wholes`; -1 if there is none."""
    tokens, starts, wholes, keys = vocabulary.tokens, vocabulary.starts, vocabulary.wholes, vocabulary.keys
    hash_ = hash_of(first, second)
    if not is_marked(vocabulary.whole_marks, hash_):
        return -1
    mask = np.uint64(len(wholes) - 1)
    slot = hash_ & mask
    while wholes[slot] >= 0:
        id_ = wholes[slot]
        if keys[2 * id_] == first and keys[2 * id_ + 1] == second:
            i = 0
            if end - start > KEY_BYTES:
                while i < end - start and tokens[starts[id_] + i] == data[start + i]:
                    i += 1
            if end - start <= KEY_BYTES or i == end - start:
                return int(id_)
        slot = (slot + np.uint64(1)) & mask
    return -1


@njit
def add_tokens(ids: Ints, vocabulary: Vocabulary) -> None:
    """Fill `keys`, and the table `wholes`, which is all -1 and has at least twice as many places as there are ids."""
    tokens, starts, wholes, keys = vocabulary.tokens, vocabulary.starts, vocabulary.wholes, vocabulary.keys
    mask = np.uint64(len(wholes) - 1)
    for id_ in ids:
        first, second = key_of(tokens, starts[id_], starts[id_ + 1] - starts[id_])
        keys[2 * id_], keys[2 * id_ + 1] = first, second
        hash_ = hash_of(first, second)
        mark(vocabulary.whole_marks, hash_)
        slot = hash_ & mask
        while wholes[slot] >= 0:
            slot = (slot + np.uint64(1)) & mask
        wholes[slot] = id_


@njit
def add_neighbours(ids: Ints, vocabulary: Vocabulary, scratch: Scratch) -> None:
    """Fill `neighbours` with the pairs of bytes in these tokens; `whole_marks` is empty.

    What no merges lead to is a token only as a whole pre-token, and shall not be cut out of a longer one: so the bytes
    at its ends have all neighbours.
    """
    tokens, starts, neighbours = vocabulary.tokens, vocabulary.starts, vocabulary.neighbours
    for id_ in ids:
        start, end = starts[id_], starts[id_ + 1]
        for i in range(start + 1, end):
            mark(neighbours, pair_of(tokens[i - 1], tokens[i]))
        if end > start:
            first, second = key_of(tokens, start, end - start)
            if encode_piece(tokens, start, end, first, second, vocabulary, scratch) != 1:
                for byte in range(256):
                    mark(neighbours, pair_of(byte, tokens[start]))
                    mark(neighbours, pair_of(tokens[end - 1], byte))


@njit
def list_pairs(ids: Ints, vocabulary: Vocabulary, scratch: Scratch, left: Ints, right: Ints) -> None:
    """The pairs of tokens in `wholes` whose merges make the tokens `ids`, where a pair has its concatenation's rank.

    A token's bytes are merged until there are two symbols; no other pair ever makes it, since in a longer piece the
    same merges come before. Where more symbols are left, or a byte is no token, left and right are -1.
    """
    starts, cuts, ranks = vocabulary.starts, scratch.after, scratch.ranks
    for k in range(len(ids)):
        first, n = starts[ids[k]], starts[ids[k] + 1] - starts[ids[k]]
        left[k], right[k] = -1, -1
        for i in range(n):
            cuts[i] = first + i
        cuts[n] = first + n
        for i in range(n - 1):
            ranks[i] = np.uint32(token_between(cuts[i], cuts[i + 2], vocabulary))
        while n > 2:
            least, at = NEVER, 0
            for i in range(n - 1):
                if ranks[i] < least:
                    least, at = ranks[i], i
            if least == NEVER:
                break
            for i in range(at + 1, n):
                cuts[i] = cuts[i + 1]
                ranks[i - 1] = ranks[i]
            n -= 1
            if at > 0:
                ranks[at - 1] = np.uint32(token_between(cuts[at - 1], cuts[at + 1], vocabulary))
            if at < n - 1:
                ranks[at] = np.uint32(token_between(cuts[at], cuts[at + 2], vocabulary))
        if n == 2:
            before = token_between(cuts[0], cuts[1], vocabulary)
            behind = token_between(cuts[1], cuts[2], vocabulary)
            if before >= 0 and behind >= 0:
                left[k], right[k] = before, behind


@njit
def token_between(start: int, end: int, vocabulary: Vocabulary) -> int:
    """The id of the token that is these bytes of `tokens`, -1 if there is none."""
    first, second = key_of(vocabulary.tokens, start, end - start)
    return find_token(vocabulary.tokens, start, end, first, second, vocabulary)


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
    """Write the bytes of the tokens of these ids one after the other.

    Eight are written at once, whether a token has so many or not: both arrays have PADDING behind them.
    """
    n = 0
    for id_ in ids:
        if 0 <= id_ < len(starts) - 1:
            first, length = starts[np.uint64(id_)], starts[np.uint64(id_ + 1)] - starts[np.uint64(id_)]
            for i in range(0, length, 8):
                eight, to = word(tokens, first + i), np.uint64(n + i)
                for k in range(8):
                    data[to + np.uint64(k)] = np.uint8(eight >> np.uint64(8 * k))
            n += length
