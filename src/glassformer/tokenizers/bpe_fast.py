"""The fast twin of `bpe.merge`: the same merges, with the work on a text growing as its length.

A run of ids is a string here where that is faster, each id one character: then `str.split` finds a pair, from the left
and without overlap.
"""

import heapq
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise

from glassformer.tokenizers.merge_table import NEVER, MergeTable, Pair

LONG = 128  # symbols from which the heap is used: below, a scan has less to set up
POSITION_BITS = 32

Rank = Callable[[Pair, int], int]


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
