"""Byte-pair encoding, on integers: learn which neighbours to join, and join them.

Sennrich et al. 2016 (arXiv:1508.07909), §3.2 and algorithm 1. What the integers stand for is up to the tokenizers:
bytes (`byte_level.py`), or characters (`sentencepiece.py`, `subword.py`). `learn` and `merge` are written here as they
are defined, and each merge looks at the whole text again; `bpe_learn_fast.py` and `bpe_fast.py` have their fast twins.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise

from glassformer.tokenizers.merge_table import NEVER, MergeTable, Pair
from glassformer.twins import twin


@twin("glassformer.tokenizers.bpe_learn_fast")
def learn(words: Mapping[bytes, int], limit: int) -> Iterator[Pair]:
    """At most `limit` merges: each joins the pair of neighbours that is most frequent in the words, by their counts.

    The ids 0 to 255 are the bytes, and the first merge makes the id 256, the next 257. Of pairs equally frequent, the
    greater one goes first, its two tokens compared as byte strings. Fewer merges when no pair is left.

    >>> list(learn({b"hug": 10, b"pug": 5, b"hugs": 5}, limit=2))  # "u" + "g" is 256, and "h" + "ug" is 257
    [(117, 103), (104, 256)]
    """
    tokens = [bytes([byte]) for byte in range(256)]
    counts = {tuple(word): count for word, count in words.items()}
    for _ in range(limit):
        frequency: Counter[Pair] = Counter()
        for symbols, count in counts.items():
            for pair in pairwise(symbols):
                frequency[pair] += count
        if not frequency:
            return
        left, right = max(frequency, key=lambda pair: (frequency[pair], tokens[pair[0]], tokens[pair[1]]))
        yield left, right
        counts = {join(symbols, (left, right), len(tokens)): count for symbols, count in counts.items()}
        tokens.append(tokens[left] + tokens[right])


def join(symbols: tuple[int, ...], pair: Pair, id: int) -> tuple[int, ...]:
    """The symbols with `id` for every occurrence of `pair`, from the left and without overlap."""
    joined: list[int] = []
    i = 0
    while i < len(symbols):
        occurs = symbols[i : i + 2] == pair
        joined.append(id if occurs else symbols[i])
        i += 2 if occurs else 1
    return tuple(joined)


@twin("glassformer.tokenizers.bpe_fast")
def merge(symbols: Sequence[int], table: MergeTable) -> list[int]:
    """Join two neighbours, those of the least rank and of these the leftmost, until no neighbours have a rank.

    >>> table = MergeTable(ranks={(117, 103): 0, (104, 256): 1}, ids={(117, 103): 256, (104, 256): 257})
    >>> merge(list(b"hugs"), table)  # h u g s → h ug s → hug s
    [257, 115]
    """
    *_, merged = merge_steps(symbols, table)
    return merged


def merge_steps(symbols: Sequence[int], table: MergeTable) -> Iterator[list[int]]:
    """The symbols at first and after each merge."""
    row = list(symbols)
    yield row
    while True:
        ranks = [table.ranks.get(pair, NEVER) for pair in pairwise(row)]
        least = min(ranks, default=NEVER)
        if least == NEVER:
            return
        i = ranks.index(least)
        row = [*row[:i], table.ids[row[i], row[i + 1]], *row[i + 2 :]]
        yield row
