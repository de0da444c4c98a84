"""The fast twin of `bpe.learn`: a merge changes only the counts of the pairs beside it. By a kernel, or in Python.

A word is a string in Python's form, each id one character: then `str.split` finds a pair, from the left and without
overlap. `kernels/bpe_learn.py` does the same with less, and says how; for few words, and without numba, this runs.
"""

import heapq
from collections import defaultdict
from collections.abc import Iterator, Mapping
from itertools import pairwise

import numpy as np

from glassformer.tokenizers.merge_table import Pair
from glassformer.tokenizers.pre_token_counts import PreTokenCounts

MANY_BYTES = 1 << 17  # of words, from which it takes less time to load the kernel than it saves
PLACES = 1 << 18  # that the kernel looks at in a call: some hundredths of a second
MERGES = 1 << 10  # that a call can tell


def learn(words: Mapping[bytes, int], limit: int) -> Iterator[Pair]:
    """At most `limit` merges, as `bpe.learn` defines them."""
    counts = PreTokenCounts.of(words)
    if len(counts.text) >= MANY_BYTES:
        try:
            from glassformer.kernels import bpe_learn  # noqa: F401
        except ImportError:
            pass
        else:
            return learn_by_kernel(counts, limit)
    return learn_in_python(words, limit)


def learn_by_kernel(counts: PreTokenCounts, limit: int) -> Iterator[Pair]:
    """The same in machine code, in calls short enough that Ctrl-C is noticed between two."""
    from glassformer.kernels import bpe_learn

    n_left = min(limit, len(counts.text))  # each merge makes a word shorter
    learning = bpe_learn.begin(counts.text, counts.ends, counts.counts, n_left)
    while n_left > 0:
        merges = np.empty((min(n_left, MERGES), 2), np.int32)
        n, is_full = bpe_learn.learn(learning, merges, PLACES)
        yield from ((left, right) for left, right in merges[:n].tolist())
        n_left -= n
        if is_full:
            learning = bpe_learn.more_room(learning)
        elif n == 0:
            return


def learn_in_python(words: Mapping[bytes, int], limit: int) -> Iterator[Pair]:
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
