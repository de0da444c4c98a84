"""Learning the merges of BPE: the compiled twin of `tokenizers/bpe.learn`, which looks only at what a merge changes.

The readable form counts all pairs anew for every merge. Here the words lie in one array, the most frequent first and
with an edge between two, and `symbols` lies over it: the id of a token stands at its first and at its last byte, so
that the neighbours of any token are one look away.

    text       t h e   h e n   t h y
    symbols    t h e | h e n | t h y |
               A A e | h e n | A A y |        t + h have become A
               B . B | h e n | A A y |        A + e have become B; | is EDGE, . is INSIDE

A merge of `left` and `right` into `new` has three steps:

1. `join` goes through the places of the pair, writes `new` over each, and adds up by the token that stands before it,
   and by the token after it, how often it does.
2. `recount` takes these sums from the counts of the pairs that were there, (before, left) and (right, after), and gives
   them to those that are there now, (before, new) and (new, after).
3. `place` goes through the joined places once more and writes down where the new pairs are.

What makes this fast:

- A pair comes about only while the younger of its tokens is made. So its places are written once, in order, and stand
  side by side in one array; those that a later merge takes away stay there until someone looks, and sees that `symbols`
  has something else by now. When the array is full, what is stale goes.
- For the same reason the count of a pair only falls. So a heap may be lazy: a pair that comes up with a count that has
  fallen since goes back with the count of now.
- Most pairs are rare and are never merged. The heap has those alone whose count is at least `bar`, and when it is empty
  the bar is halved: so it fits into the processor's cache. A heap of all pairs takes a tenth to a third more time.
- Sums are kept by token, so that a pair is looked up once in a merge, not once in a place.
- Equal counts are compared by the tokens' bytes, which are in `text` wherever the token is. No token is stored again.
- Words of one count lie side by side, so that a place by itself says how often its word occurs.

Each call of `learn` works for a while only, so that whoever calls it can be interrupted and can tell how far it is.
`benchmarks/tokenization.py` has the figures.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from glassformer.kernels import njit

Records = Any  # an array of records, whose fields are attributes

EDGE = -1  # in `symbols`, between two words
INSIDE = -2  # in `symbols`, neither the first byte of a token nor the last
ABSENT = -1  # in `slots`
BYTES = 256
GOLDEN = -7046029254386353131  # 2⁶⁴ divided by the golden ratio, as 64 bits with a sign

N_TOKENS, N_PAIRS, N_PLACES, N_LIVE, HEAP_SIZE, BAR = range(6)  # in `numbers`

# What an array has of each run of words with one count, each token, each pair, and each place of the heap.
RUN = np.dtype([("end", np.int64), ("count", np.int64)])
TOKEN = np.dtype(
    [
        ("place", np.int64),  # one of those in `text` where its bytes are
        ("length", np.int64),
        ("before", np.int64),  # how often it stands before the token that is being made,
        ("n_before", np.int64),  # and in how many places; then, where the next place is to be written
        ("after", np.int64),
        ("n_after", np.int64),
    ]
)
PAIR = np.dtype(
    [
        ("left", np.int64),
        ("right", np.int64),
        ("count", np.int64),
        ("start", np.int64),  # where its places begin; they end where those of the next pair begin
    ]
)
ENTRY = np.dtype([("pair", np.int64), ("count", np.int64)])  # by this count the heap is ordered


class Learning(NamedTuple):
    """The words as they are merged by now, and all pairs in them."""

    text: NDArray[np.uint8]  # the 256 bytes, so that they have places too; then the words
    symbols: NDArray[np.int32]
    runs: Records
    tokens: Records
    pairs: Records
    places: NDArray[np.signedinteger]
    slots: NDArray[np.int32]  # the pairs by their tokens: a table with open addressing
    heap: Records
    before: NDArray[np.int64]  # the tokens that stand before the one that is being made
    after: NDArray[np.int64]
    numbers: NDArray[np.int64]


# ---- pairs


@njit
def slot_of(slots: NDArray[np.int32], pairs: Records, left: int, right: int) -> int:
    """The slot of a pair, or the empty slot where it would be."""
    mask = len(slots) - 1
    slot = ((left << 32 | right) * GOLDEN >> 32) & mask
    while slots[slot] != ABSENT and (pairs[slots[slot]].left != left or pairs[slots[slot]].right != right):
        slot = (slot + 1) & mask
    return slot


@njit
def add_pair(s: Learning, left: int, right: int, count: int, n_places: int) -> int:
    """Add a pair with room for its places, and return where these begin."""
    number = s.numbers[N_PAIRS]
    s.numbers[N_PAIRS] += 1
    s.slots[slot_of(s.slots, s.pairs, left, right)] = number
    pair = s.pairs[number]
    pair.left, pair.right, pair.count = left, right, count
    s.numbers[N_PLACES] = s.pairs[number + 1].start = pair.start + n_places
    if count >= s.numbers[BAR]:
        push(s, number)
    return int(pair.start)


@njit
def take(s: Learning, left: int, right: int, count: int) -> None:
    """Take something from the count of a pair."""
    s.pairs[s.slots[slot_of(s.slots, s.pairs, left, right)]].count -= count


@njit
def drop_stale(s: Learning) -> None:
    """Close the gaps in `places` that merges have left."""
    n, start = 0, 0
    for number in range(s.numbers[N_PAIRS]):
        pair = s.pairs[number]
        end = s.pairs[number + 1].start
        if pair.count > 0:
            for k in range(start, end):
                i = s.places[k]
                if s.symbols[i] == pair.left and s.symbols[i + s.tokens[pair.left].length] == pair.right:
                    s.places[n] = i
                    n += 1
        start = end
        s.pairs[number + 1].start = n
    s.numbers[N_PLACES] = n


# ---- which pair goes first


@njit
def goes_first(s: Learning, a: int, a_count: int, b: int, b_count: int) -> bool:
    """Whether the pair a is more frequent than the pair b, or as frequent and greater as two byte strings."""
    if a_count != b_count:
        return a_count > b_count
    order = compare(s, s.pairs[a].left, s.pairs[b].left)
    return order > 0 or (order == 0 and compare(s, s.pairs[a].right, s.pairs[b].right) > 0)


@njit
def compare(s: Learning, a: int, b: int) -> int:
    """Above zero, where the token a is greater than b as a byte string; zero, where it is b."""
    if a == b:
        return 0
    a_place, b_place = s.tokens[a].place, s.tokens[b].place
    for i in range(min(s.tokens[a].length, s.tokens[b].length)):
        if s.text[a_place + i] != s.text[b_place + i]:
            return 1 if s.text[a_place + i] > s.text[b_place + i] else -1
    return int(s.tokens[a].length - s.tokens[b].length)


@njit
def push(s: Learning, pair: int) -> None:
    """Let a pair rise in the heap from its end."""
    i, count = s.numbers[HEAP_SIZE], s.pairs[pair].count
    s.numbers[HEAP_SIZE] += 1
    while i > 0:
        above = s.heap[(i - 1) // 2]
        if not goes_first(s, pair, count, above.pair, above.count):
            break
        s.heap[i] = above
        i = (i - 1) // 2
    s.heap[i].pair, s.heap[i].count = pair, count


@njit
def sink(s: Learning, pair: int, count: int) -> None:
    """Let a pair sink in the heap from its top, in place of the pair that was there."""
    i, j = 0, 1
    while j < s.numbers[HEAP_SIZE]:
        below, other = s.heap[j], s.heap[j + 1]
        if j + 1 < s.numbers[HEAP_SIZE] and goes_first(s, other.pair, other.count, below.pair, below.count):
            j, below = j + 1, other
        if goes_first(s, pair, count, below.pair, below.count):
            break
        s.heap[i] = below
        i, j = j, 2 * j + 1
    s.heap[i].pair, s.heap[i].count = pair, count


@njit
def drop_top(s: Learning) -> None:
    """Take the top out of the heap."""
    s.numbers[HEAP_SIZE] -= 1
    last = s.heap[s.numbers[HEAP_SIZE]]
    sink(s, last.pair, last.count)


@njit
def best_pair(s: Learning) -> int:
    """The pair that goes first of all, which is then the heap's top; −1 where no pair is left."""
    while True:
        while s.numbers[HEAP_SIZE] > 0:
            top = s.heap[0]
            count = s.pairs[top.pair].count
            if count == top.count:
                return int(top.pair)
            if count >= s.numbers[BAR]:
                sink(s, top.pair, count)
            else:
                drop_top(s)
        if s.numbers[BAR] <= 1:
            return -1
        s.numbers[BAR] //= 2
        for pair in range(s.numbers[N_PAIRS]):
            if s.pairs[pair].count >= s.numbers[BAR]:
                push(s, pair)


# ---- a merge


@njit
def run_of(runs: Records, place: int, run: int) -> int:
    """The run of words, from `run` on, that a place belongs to: near ones first, by steps that double; then by halving.

    The last run ends where the text does.
    """
    low, high, step = run, run, 1
    while place >= runs[high].end:
        low, high, step = high + 1, min(high + step, len(runs) - 1), 2 * step
    while low < high:
        middle = (low + high) // 2
        if place >= runs[middle].end:
            low = middle + 1
        else:
            high = middle
    return low


@njit
def join(s: Learning, pair: Any, end: int, new: int) -> tuple[int, int, int]:
    """Write `new` over the occurrences of a pair, from the left and without overlap, and sum up what is beside them.

    Returns how many there are, and how many tokens are in `before` and `after`. The occurrences replace the places of
    the pair. Where two are side by side, the second stands after `new`: that is summed up as what is before it, while
    what is after the first one is the left half of the second, as it was before the merge.
    """
    length, left_length = s.tokens[new].length, s.tokens[pair.left].length
    n, n_before, n_after, run = 0, 0, 0, 0
    for k in range(pair.start, end):
        i = s.places[k]
        j = i + left_length
        if s.symbols[i] != pair.left or s.symbols[j] != pair.right:
            continue
        s.places[pair.start + n] = i
        n += 1
        s.symbols[j - 1] = s.symbols[j] = INSIDE
        s.symbols[i] = s.symbols[i + length - 1] = new
        run = run_of(s.runs, i, run)
        count = s.runs[run].count
        if s.symbols[i - 1] != EDGE:
            token = s.tokens[s.symbols[i - 1]]
            if token.n_before == 0 and s.symbols[i - 1] != new:
                s.before[n_before] = s.symbols[i - 1]
                n_before += 1
            token.n_before += 1
            token.before += count
        if s.symbols[i + length] != EDGE:
            token = s.tokens[s.symbols[i + length]]
            if token.n_after == 0:
                s.after[n_after] = s.symbols[i + length]
                n_after += 1
            token.n_after += 1
            token.after += count
    return n, n_before, n_after


@njit
def recount(s: Learning, left: int, right: int, new: int, n_before: int, n_after: int) -> None:
    """Move the sums of a merge from the pairs that were there to those that are there now.

    Sums become zeros, numbers of places become the places where `place` begins to write.
    """
    twice = s.tokens[new]  # of the two that are side by side
    for k in range(n_before):
        number = s.before[k]
        token = s.tokens[number]
        take(s, number, left, token.before)
        token.n_before = add_pair(s, number, new, token.before, token.n_before)
        token.before = 0
    for k in range(n_after):
        number = s.after[k]
        token = s.tokens[number]
        take(s, right, number, token.after)
        if number == left:  # some of these have been joined, too
            token.after -= twice.before
            token.n_after -= twice.n_before
        token.n_after = add_pair(s, new, number, token.after, token.n_after)
        token.after = 0
    if twice.n_before > 0:
        twice.n_before = add_pair(s, new, new, twice.before, twice.n_before)
        twice.before = 0


@njit
def place(s: Learning, start: int, n: int, new: int) -> None:
    """Write down where the new pairs are: one of each occurrence and what is before it, one of it and what is after."""
    for k in range(start, start + n):
        i = s.places[k]
        if s.symbols[i - 1] != EDGE:
            token = s.tokens[s.symbols[i - 1]]
            s.places[token.n_before] = i - token.length
            token.n_before += 1
        following = s.symbols[i + s.tokens[new].length]
        if following not in (EDGE, new):  # that one has `new` before itself
            token = s.tokens[following]
            s.places[token.n_after] = i
            token.n_after += 1


@njit
def merge(s: Learning, number: int) -> None:
    """Make the two tokens of a pair one wherever they are neighbours."""
    pair, new = s.pairs[number], s.numbers[N_TOKENS]
    s.numbers[N_TOKENS] += 1
    s.tokens[new].length = s.tokens[pair.left].length + s.tokens[pair.right].length
    n, n_before, n_after = join(s, pair, s.pairs[number + 1].start, new)
    s.tokens[new].place = s.places[pair.start]
    s.numbers[N_LIVE] -= n
    recount(s, pair.left, pair.right, new, n_before, n_after)
    pair.count = 0
    place(s, pair.start, n, new)
    s.tokens[new].n_before = 0
    for k in range(n_before):
        s.tokens[s.before[k]].n_before = 0
    for k in range(n_after):
        s.tokens[s.after[k]].n_after = 0


@njit
def learn(s: Learning, merges: NDArray[np.int32], budget: int) -> tuple[int, bool]:
    """Fill rows of `merges` with the tokens of the pairs that are joined next, until `budget` places have been seen.

    Returns how many rows, and whether it ended since pairs need `more_room`. No rows otherwise: no pair is left.
    """
    n, seen = 0, 0
    while n < len(merges) and seen < budget:
        number = best_pair(s)
        if number < 0:
            break
        pair = s.pairs[number]
        n_places = s.pairs[number + 1].start - pair.start
        if s.numbers[N_PAIRS] + 2 * min(n_places, s.numbers[N_TOKENS]) + 1 >= len(s.pairs):
            return n, True
        if s.numbers[N_PLACES] + min(2 * n_places, s.numbers[N_LIVE]) > len(s.places):
            drop_stale(s)
        drop_top(s)
        merges[n, 0], merges[n, 1] = pair.left, pair.right
        merge(s, number)
        n += 1
        seen += n_places
    return n, False


# ---- before the first merge, and when arrays are full


@njit
def lay_out(
    text: NDArray[np.uint8],
    symbols: NDArray[np.int32],
    words: NDArray[np.uint8],
    ends: NDArray[np.int64],
    order: NDArray[np.int64],
) -> None:
    """Write the 256 bytes, which are in no word, and the words in an order, each with an edge after it."""
    for byte in range(BYTES):
        text[byte], symbols[byte] = byte, EDGE
    n = BYTES
    for k in range(len(order)):
        for i in range(ends[order[k] - 1] if order[k] > 0 else 0, ends[order[k]]):
            text[n] = symbols[n] = words[i]
            n += 1
        text[n], symbols[n] = 0, EDGE
        n += 1


@njit
def count_bytes(symbols: NDArray[np.int32], runs: Records, counts: NDArray[np.int64], n: NDArray[np.int64]) -> None:
    """How often two bytes follow each other, and in how many places; both by 256 times the first plus the second."""
    run = 0
    for i in range(BYTES, len(symbols) - 1):
        while i >= runs[run].end:
            run += 1
        if symbols[i] != EDGE and symbols[i + 1] != EDGE:
            counts[BYTES * symbols[i] + symbols[i + 1]] += runs[run].count
            n[BYTES * symbols[i] + symbols[i + 1]] += 1


@njit
def place_bytes(s: Learning, counts: NDArray[np.int64], n: NDArray[np.int64]) -> None:
    """Add the pairs of bytes and write down where they are; of each, `n` becomes the place to write."""
    for pair in range(BYTES * BYTES):
        if n[pair] > 0:
            n[pair] = add_pair(s, pair // BYTES, pair % BYTES, counts[pair], n[pair])
    for i in range(BYTES, len(s.symbols) - 1):
        if s.symbols[i] != EDGE and s.symbols[i + 1] != EDGE:
            pair = BYTES * s.symbols[i] + s.symbols[i + 1]
            s.places[n[pair]] = i
            n[pair] += 1


@njit
def fill_slots(slots: NDArray[np.int32], pairs: Records, n: int) -> None:
    """Enter the first n pairs into a table that is empty."""
    for number in range(n):
        slots[slot_of(slots, pairs, pairs[number].left, pairs[number].right)] = number


def begin(words: NDArray[np.uint8], ends: NDArray[np.int64], counts: NDArray[np.int64], limit: int) -> Learning:
    """What there is before the first of at most `limit` merges. `words` lie side by side and end at `ends`."""
    order = np.argsort(-counts, kind="stable")
    size = BYTES + len(words) + len(ends)
    text, symbols = np.empty(size, np.uint8), np.empty(size, np.int32)
    lay_out(text, symbols, words, ends, order)
    last = np.flatnonzero(np.diff(counts[order], append=0))  # of each run, the last word
    runs = np.empty(len(last), RUN)
    runs["end"] = BYTES + np.cumsum(np.diff(ends, prepend=0)[order] + 1)[last]
    runs["count"] = counts[order][last]
    byte_counts, n_places = np.zeros((2, BYTES * BYTES), np.int64)
    count_bytes(symbols, runs, byte_counts, n_places)
    tokens = np.zeros(BYTES + limit, TOKEN)
    tokens["place"][:BYTES] = np.arange(BYTES)
    tokens["length"][:BYTES] = 1
    room = 1 << int(np.count_nonzero(n_places) + 2).bit_length()
    pairs = np.empty(room, PAIR)
    pairs[0]["start"] = 0
    s = Learning(
        text=text,
        symbols=symbols,
        runs=runs,
        tokens=tokens,
        pairs=pairs,
        places=np.empty(2 * size, np.int32) if size < 1 << 31 else np.empty(2 * size, np.int64),
        slots=np.full(2 * room, ABSENT, np.int32),
        heap=np.empty(room, ENTRY),
        before=np.empty(len(tokens), np.int64),
        after=np.empty(len(tokens), np.int64),
        numbers=np.array([BYTES, 0, 0, int(n_places.sum()), 0, max(1, int(byte_counts.max()) // 2)]),
    )
    place_bytes(s, byte_counts, n_places)
    return s


def more_room(s: Learning) -> Learning:
    """The same with twice the room for pairs."""
    room, n = 2 * len(s.pairs), int(s.numbers[N_PAIRS])
    pairs, heap, slots = np.empty(room, PAIR), np.empty(room, ENTRY), np.full(2 * room, ABSENT, np.int32)
    pairs[: n + 1] = s.pairs[: n + 1]
    heap[: s.numbers[HEAP_SIZE]] = s.heap[: s.numbers[HEAP_SIZE]]
    fill_slots(slots, pairs, n)
    return s._replace(pairs=pairs, heap=heap, slots=slots)
