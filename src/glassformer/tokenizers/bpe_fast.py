"""The fast twins of `bpe.py`: the same merges, with the work on a text growing as its length.

A sequence of ids is a string here wherever that is faster, each id one character: then `str.split` finds a pair, from
the left and without overlap.
"""

import heapq
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise

from glassformer.tokenizers.merge_table import NEVER, MergeTable, Pair

LONG = 128  # symbols from which the heap is used: below, a scan has less to set up
POSITION_BITS = 32

Rank = Callable[[Pair, int], int]


# ---- learning


def learn(words: Mapping[bytes, int], limit: int) -> Iterator[Pair]:
    """At most `limit` merges, as `bpe.learn` defines them.

    The counts of pairs change only beside the pair that is merged; a heap finds the greatest, and an entry whose pair
    has lost occurrences since is put back with the count of now.
    """
    tokens = [bytes([byte]) for byte in range(256)]
    descending = [_descending(token) for token in tokens]
    texts = [word.decode("latin-1") for word in words]
    weights = list(words.values())
    counts: dict[str, int] = defaultdict(int)
    places: dict[str, list[int]] = defaultdict(list)  # the words in which a pair occurs, or occurred
    for place, (text, weight) in enumerate(zip(texts, weights, strict=True)):
        for left, right in pairwise(text):
            counts[left + right] += weight
            places[left + right].append(place)

    def entry(pair: str) -> tuple[int, str, str, str]:
        return -counts[pair], descending[ord(pair[0])], descending[ord(pair[1])], pair

    heap = [entry(pair) for pair in counts]
    heapq.heapify(heap)
    n_merges = 0
    while n_merges < limit and heap:
        negative, _, _, pair = heapq.heappop(heap)
        if counts[pair] != -negative:
            if 0 < counts[pair] < -negative:
                heapq.heappush(heap, entry(pair))
            continue
        first, second = map(ord, pair)
        yield first, second
        n_merges += 1
        merged = chr(len(tokens))
        tokens.append(tokens[first] + tokens[second])
        descending.append(_descending(tokens[-1]))

        changes: dict[str, int] = defaultdict(int)
        for place in dict.fromkeys(places.pop(pair)):
            gaps = texts[place].split(pair)
            if len(gaps) > 1:
                texts[place] = merged.join(gaps)
                for new_pair in _count_changes(gaps, pair, merged, weights[place], changes):
                    places[new_pair].append(place)
        for changed, change in changes.items():
            counts[changed] += change
            if change > 0:
                heapq.heappush(heap, entry(changed))
            elif not counts[changed]:
                del counts[changed]


def _count_changes(gaps: list[str], pair: str, merged: str, weight: int, changes: dict[str, int]) -> set[str]:
    """Add to `changes` what merging does to the counts of a word's pairs, and return the pairs that it makes.

    `gaps` are the spans of the word between the occurrences of `pair`.
    """
    left, right = pair[0], pair[1]
    last = len(gaps) - 1
    changes[pair] -= weight * last
    new_pairs = set()
    for i, gap in enumerate(gaps):
        replacements = []
        if gap and i > 0:
            replacements.append((right + gap[0], merged + gap[0]))
        if gap and i < last:
            replacements.append((gap[-1] + left, gap[-1] + merged))
        if not gap and 0 < i < last:
            replacements.append((right + left, merged + merged))
        for before, after in replacements:
            changes[before] -= weight
            changes[after] += weight
            new_pairs.add(after)
    return new_pairs


def _descending(token: bytes) -> str:
    """A key that sorts tokens from the greatest to the least: bytes complemented, then an end beyond any byte."""
    return "".join(chr(255 - byte) for byte in token) + "\u0100"


# ---- merging


def merge(symbols: Sequence[int], table: MergeTable) -> list[int]:
    """Join the neighbours of the least rank, of these the leftmost, until none have a rank, as `bpe.merge` defines."""
    rank, ids = table.ranks.get, table.ids
    if len(symbols) < LONG:
        return _merge_by_scan(list(symbols), rank, ids)
    return _merge_by_heap(_merge_repeats(symbols, rank, ids), rank, ids)


def _merge_by_scan(symbols: list[int], rank: Rank, ids: Mapping[Pair, int]) -> list[int]:
    """The definition, with the ranks of all pairs at hand: O(n²), the fastest for words."""
    ranks = [rank(pair, NEVER) for pair in pairwise(symbols)]
    while ranks and (least := min(ranks)) != NEVER:
        i = ranks.index(least)
        joined = symbols[i] = ids[symbols[i], symbols[i + 1]]
        del symbols[i + 1], ranks[i]
        if i > 0:
            ranks[i - 1] = rank((symbols[i - 1], joined), NEVER)
        if i < len(ranks):
            ranks[i] = rank((joined, symbols[i + 1]), NEVER)
    return symbols


def _merge_by_heap(symbols: list[int], rank: Rank, ids: Mapping[Pair, int]) -> list[int]:
    """The same in O(n log n): pairs wait in a heap, symbols are a linked list, pairs that are gone are skipped.

    A joined symbol stays where its left half was; -1 marks the right half's place, and the end.
    """
    ranks = {pair: r for pair in set(pairwise(symbols)) if (r := rank(pair, NEVER)) != NEVER}
    if not ranks:
        return symbols
    heap = [ranks[pair] << POSITION_BITS | i for i, pair in enumerate(pairwise(symbols)) if pair in ranks]
    heapq.heapify(heap)
    end = len(symbols)
    symbols = [*symbols, -1]
    after, before = list(range(1, end + 1)), list(range(-1, end))
    while heap:
        entry = heapq.heappop(heap)
        i = entry & ((1 << POSITION_BITS) - 1)
        j = after[i]
        if rank((symbols[i], symbols[j]), NEVER) != entry >> POSITION_BITS:
            continue
        k = after[j]
        symbols[i], symbols[j] = ids[symbols[i], symbols[j]], -1
        after[i], before[k] = k, i
        for left, right in ((before[i], i), (i, k)):
            if (r := rank((symbols[left], symbols[right]), NEVER)) != NEVER:
                heapq.heappush(heap, r << POSITION_BITS | left)
    return [symbol for symbol in symbols if symbol >= 0]


def _merge_repeats(symbols: Sequence[int], rank: Rank, ids: Mapping[Pair, int]) -> list[int]:
    """The first merges of a run such as a million spaces: all occurrences of the first pair at once, pair after pair.

    It goes on as long as a pair makes up an eighth of the text, no other has its rank, and those that it makes rank
    behind it, as in a vocabulary that was learnt; the heap does the rest.
    """
    text = "".join(map(chr, symbols))
    ranks = {pair: rank(pair, NEVER) for pair in set(pairwise(symbols))}  # of all pairs in the text, and some others
    while ranks:
        left, right = min(ranks, key=ranks.__getitem__)
        least = ranks.pop((left, right))
        gaps = text.split(chr(left) + chr(right))
        if len(gaps) == 1:
            continue
        if least == NEVER or least in ranks.values() or len(gaps) <= len(text) // 8:
            break
        joined = ids[left, right]
        edges = {ord(edge) for gap in set(gaps) if gap for edge in (gap[0], gap[-1])} | {joined, left}
        new_pairs = {(edge, joined) for edge in edges} | {(joined, edge) for edge in edges}
        ranks |= {pair: rank(pair, NEVER) for pair in new_pairs}
        if min(ranks[pair] for pair in new_pairs) <= least:
            break
        text = chr(joined).join(gaps)
    return list(map(ord, text))
