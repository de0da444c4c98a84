"""The merges of a BPE vocabulary as numbers: (left, right) -> (rank, id), for neighbours that can be joined.

`bpe.py` has the algorithm that reads it. Byte-level BPE, sentencepiece and subword-nmt differ in what their symbols
are, and have this table in common.
"""

from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, AnyStr, Generic

from glassformer.errors import TokenizerError
from glassformer.tokenizers.vocabulary import shorten

Pair = tuple[int, int]

NEVER = 1 << 62  # the rank of a pair that is not joined
MAX_PAIRS = 1 << 22  # that are listed; o200k, the largest in use, has 446,189
MAX_CUT_BYTES = 1 << 28  # that are compared to list them; those of o200k are 20 million


@dataclass(frozen=True, eq=False)
class MergeTable:
    """A pair of neighbours is joined if it has a rank, that of the least rank first, and becomes what `ids` has for it.

    Several pairs may have one rank. To iterate over `ranks` lists all pairs, in the order of their ranks.
    """

    ranks: Mapping[Pair, int]
    ids: Mapping[Pair, int]

    @classmethod
    def from_merges(cls, merges: Sequence[tuple[AnyStr, AnyStr]], ids: Mapping[AnyStr, int]) -> "MergeTable":
        """The table of a list of merges: the rank of each is its place. `ids` has all tokens that can be joined.

        A merge of what is no such token, or one that is listed twice, is a TokenizerError.
        """
        ranks: dict[Pair, int] = {}
        joined: dict[Pair, int] = {}
        for rank, (left, right) in enumerate(merges):
            try:
                pair = (ids[left], ids[right])
                joined[pair] = ids[left + right]
            except KeyError as absent:
                raise TokenizerError(
                    f"merge {rank} is {shorten(left)} + {shorten(right)}, "
                    f"but {shorten(absent.args[0])} is no ordinary token."
                ) from None
            if ranks.setdefault(pair, rank) != rank:
                raise TokenizerError(f"merge {rank}, {shorten(left)} + {shorten(right)}, is listed twice.")
        return cls(ranks, joined)

    @classmethod
    def from_ranks(
        cls, ranks: Mapping[AnyStr, int], ids: Mapping[AnyStr, int], tokens: Mapping[int, AnyStr]
    ) -> "MergeTable":
        """The table of a vocabulary that ranks whole tokens: a pair has the rank of the two, joined.

        `ranks` and `ids` are of all tokens that can be joined; `tokens` are by their ids.
        """
        return cls(ConcatenationRanks(ranks, ids, tokens), ConcatenationIds(ids, tokens))

    def arrays(self) -> "tuple[array[int], array[int], array[int], array[int]]":
        """For kernels: left, right, rank and id of all pairs, 32-bit integers in the order of the ranks."""
        pairs = list(self.ranks)
        left, right = (array("i", [pair[half] for pair in pairs]) for half in (0, 1))
        ranks, ids = (array("i", [number[pair] for pair in pairs]) for number in (self.ranks, self.ids))
        return left, right, ranks, ids


class ConcatenationRanks(Mapping[Pair, int], Generic[AnyStr]):
    """The rank of a pair is that of its two tokens' concatenation. The pairs are listed only when one iterates.

    Where ranks differ, listing these pairs as merges changes nothing: when two neighbours are about to become a token,
    all pairs of lower rank within it are joined already, so that these neighbours are the same wherever the token comes
    about.
    """

    def __init__(self, ranks: Mapping[AnyStr, int], ids: Mapping[AnyStr, int], tokens: Mapping[int, AnyStr]) -> None:
        """Take the ranks of tokens, the ids of all that can be half of one, and the tokens of all ids."""
        self._ranks: Mapping[AnyStr, int] = ranks
        self._ids: Mapping[AnyStr, int] = ids
        self._tokens: Mapping[int, AnyStr] = tokens

    def get(self, pair: Pair, default: Any = None) -> Any:
        """The pair's rank, or the default where its concatenation is no token."""
        left, right = pair
        if left < 0 or right < 0:
            return default
        return self._ranks.get(self._tokens[left] + self._tokens[right], default)

    def __getitem__(self, pair: Pair) -> int:
        """The pair's rank; a KeyError where its concatenation is no token."""
        left, right = pair
        return self._ranks[self._tokens[left] + self._tokens[right]]

    def __iter__(self) -> Iterator[Pair]:
        """All pairs in the order of their ranks, those of one token together, the shorter left half first."""
        if sum(len(token) ** 2 for token in self._ranks) > MAX_CUT_BYTES:
            raise TokenizerError("the tokens of the vocabulary are too long to list the pairs that make them up.")
        n_pairs = 0
        for token in sorted(self._ranks, key=self._ranks.__getitem__):
            for cut in range(1, len(token)):
                left = self._ids.get(token[:cut])
                if left is not None and (right := self._ids.get(token[cut:])) is not None:
                    n_pairs += 1
                    if n_pairs > MAX_PAIRS:
                        raise TokenizerError(f"more than {MAX_PAIRS:,} pairs make up the tokens of the vocabulary.")
                    yield left, right

    def __len__(self) -> int:
        """How many pairs have a rank, which takes as long as listing them."""
        return sum(1 for _ in self)


class ConcatenationIds(dict[Pair, int], Generic[AnyStr]):
    """What a pair becomes is the token that is its concatenation; it has those pairs that were asked for."""

    def __init__(self, ids: Mapping[AnyStr, int], tokens: Mapping[int, AnyStr]) -> None:
        """Take the ids of tokens, and the tokens of all ids."""
        super().__init__()
        self._ids: Mapping[AnyStr, int] = ids
        self._tokens: Mapping[int, AnyStr] = tokens

    def __missing__(self, pair: Pair) -> int:
        """Find what a pair becomes, and keep it."""
        left, right = pair
        self[pair] = id = self._ids[self._tokens[left] + self._tokens[right]]
        return id
