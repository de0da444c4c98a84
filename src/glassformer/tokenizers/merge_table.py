"""The merges of a BPE vocabulary as numbers: which neighbours are joined, which of them first, and into what.

`bpe.py` has the algorithm that reads it. Byte-level BPE, sentencepiece and subword-nmt differ in what their symbols
are, and have this table in common.
"""

from array import array
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from typing import AnyStr

from glassformer.errors import TokenizerError
from glassformer.tokenizers.vocabulary import shorten

Pair = tuple[int, int]

NEVER = 1 << 62  # the rank of a pair that is not joined
MAX_PAIRS = 1 << 22  # o200k, the largest in use, has 446,189
MAX_CUT_BYTES = 1 << 28  # that are compared to find them; those of o200k are 20 million


@dataclass(frozen=True, eq=False)
class MergeTable:
    """Neighbours `left[i]` and `right[i]` are joined into `id[i]`, those of the least `rank[i]` first.

    No pair comes twice; several may have one rank. All are 32-bit integers, which a kernel can read as they lie;
    `ranks` and `ids` are the same as dictionaries.
    """

    left: "array[int]"
    right: "array[int]"
    rank: "array[int]"
    id: "array[int]"

    @classmethod
    def from_merges(cls, merges: Sequence[tuple[AnyStr, AnyStr]], ids: Mapping[AnyStr, int]) -> "MergeTable":
        """The table of a list of merges: the rank of each is its place. `ids` has all tokens that can be joined.

        A merge of what is no such token, or one that is listed twice, is a TokenizerError.
        """
        entries: dict[Pair, tuple[int, int, int, int]] = {}
        for rank, (left, right) in enumerate(merges):
            try:
                entry = (ids[left], ids[right], rank, ids[left + right])
            except KeyError as absent:
                raise TokenizerError(
                    f"merge {rank} is {shorten(left)} + {shorten(right)}, "
                    f"but {shorten(absent.args[0])} is no ordinary token."
                ) from None
            if entries.setdefault(entry[:2], entry) is not entry:
                raise TokenizerError(f"merge {rank}, {shorten(left)} + {shorten(right)}, is listed twice.")
        return cls._of_entries(entries.values())

    @classmethod
    def from_ranks(cls, ranks: Mapping[AnyStr, int], ids: Mapping[AnyStr, int]) -> "MergeTable":
        """The table of a vocabulary that ranks whole tokens: a pair has the rank of the two, joined.

        So each token of `ranks`, which are in order, gives all pairs of tokens that make it up. Where the ranks differ,
        listing these pairs as merges changes nothing: when two neighbours are about to become a token, all pairs of
        lower rank within it are joined already, so these neighbours are the same wherever the token comes about.
        """
        if sum(len(token) ** 2 for token in ranks) > MAX_CUT_BYTES:
            raise TokenizerError("the tokens of the vocabulary are too long to find the pairs that make them up.")
        entries: list[tuple[int, int, int, int]] = []
        id_of = ids.get
        for token, rank in ranks.items():
            for cut in range(1, len(token)):
                left = id_of(token[:cut])
                if left is not None and (right := id_of(token[cut:])) is not None:
                    entries.append((left, right, rank, ids[token]))
            if len(entries) > MAX_PAIRS:
                raise TokenizerError(f"more than {MAX_PAIRS:,} pairs of tokens make up tokens of the vocabulary.")
        return cls._of_entries(entries)

    @classmethod
    def _of_entries(cls, entries: Iterable[tuple[int, int, int, int]]) -> "MergeTable":
        numbers = array("i", chain.from_iterable(entries))
        return cls(*(numbers[column::4] for column in range(4)))

    @cached_property
    def pairs(self) -> list[Pair]:
        """The pairs, in the order of their ranks."""
        return list(zip(self.left, self.right, strict=True))

    @cached_property
    def ranks(self) -> dict[Pair, int]:
        """The rank of each pair."""
        return dict(zip(self.pairs, self.rank, strict=True))

    @cached_property
    def ids(self) -> dict[Pair, int]:
        """What each pair becomes."""
        return dict(zip(self.pairs, self.id, strict=True))
