"""Byte-level byte-pair encoding: a pre-token's bytes are merged, pair by pair, in the order of learning.

Sennrich et al. 2016 (arXiv:1508.07909), over bytes as in GPT-2 (Radford et al. 2019, §2.2).
`merge` is the algorithm; a kernel can stand in for it. `bpe_train.py` learns the merges.
"""

import heapq
import os
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import AnyStr, Generic

from glassformer.errors import TokenizerError
from glassformer.tokenizers.base import Tokenizer
from glassformer.tokenizers.pretokenize import split_pattern

Pair = tuple[int, int]

NEVER = 1 << 62  # the rank of a pair that does not merge
LONG = 128  # symbols from which the heap is used: below, a scan has less to set up
POSITION_BITS = 32
LONGEST_SPECIAL = 1 << 10
MAX_VOCAB_SIZE = 0x110000  # ids are characters in `_merge_repeats` and in `bpe_train.py`


class BPETokenizer(Tokenizer):
    """Byte-level BPE over `vocab` (id to bytes, special tokens included).

    `merges` in order of creation, as GPT-2 has them; None where only ranks are published (tiktoken): then a pair's
    rank is the id of its concatenation. Special tokens that `vocab` lacks get the next ids.
    With `whole_pieces`, a pre-token that is in the vocabulary is its own id, even if no merges lead there; rank-only
    vocabularies have it so.
    """

    def __init__(
        self,
        vocab: Mapping[int, bytes],
        merges: Sequence[tuple[bytes, bytes]] | None,
        special_tokens: Iterable[str] | None = None,
        pattern: str = "gpt2",
        *,
        whole_pieces: bool | None = None,
    ) -> None:
        vocab, special_ids = with_special_tokens(vocab, special_tokens or ())
        super().__init__(vocab, special_ids, split_pattern(pattern))
        self.pattern = pattern
        self.merges = None if merges is None else list(merges)
        self.whole_pieces = merges is None if whole_pieces is None else whole_pieces
        self._ids = self._ordinary_ids()
        self._byte_ids = self._ids_of_bytes()
        ranks = pair_ranks(merges, self._ids) if merges is not None else ConcatenationRanks(vocab, self._ids)
        self._rank = ranks.get

    @classmethod
    def from_files(
        cls,
        vocab_path: str | os.PathLike[str],
        merges_path: str | os.PathLike[str],
        special_tokens: Iterable[str] | None = None,
        pattern: str = "gpt2",
    ) -> "BPETokenizer":
        """Read GPT-2's pair of files, vocab.json and merges.txt; only `special_tokens` are special."""
        from glassformer.tokenizers.bpe_files import read_vocab_and_merges

        return cls(*read_vocab_and_merges(Path(vocab_path), Path(merges_path)), special_tokens, pattern)

    def listed_merges(self) -> list[tuple[bytes, bytes]]:
        """The merges; for a vocabulary that has only ranks, merges that do the same."""
        return splits(sorted(self._ids, key=self._ids.__getitem__), self._ids) if self.merges is None else self.merges

    def _encode_piece(self, piece: str) -> list[int]:
        data = piece.encode()
        if self.whole_pieces and data in self._ids:
            return [self._ids[data]]
        return merge(self._symbols(piece), self._rank, self._join)

    def _symbols(self, piece: str) -> list[int]:
        return [self._byte_ids[byte] for byte in piece.encode()]

    def _merging(self, piece: str) -> list[list[int]]:
        return merging(self._symbols(piece), self._rank, self._join)

    def _join(self, left: int, right: int) -> int:
        return self._ids[self.vocab[left] + self.vocab[right]]

    def _ordinary_ids(self) -> dict[bytes, int]:
        """Bytes to id, without the special tokens; a special token that is a single byte stays a byte."""
        ids: dict[bytes, int] = {}
        merged = {left + right for left, right in self.merges or ()}
        for id, token in self.vocab.items():
            if id in self._special_ids and len(token) > 1 and token not in merged:
                continue
            if token in ids:
                raise TokenizerError(f"the tokens {ids[token]} and {id} are both {_short(token)}: expected no doubles.")
            ids[token] = id
        return ids

    def _ids_of_bytes(self) -> list[int]:
        missing = [byte for byte in range(256) if bytes([byte]) not in self._ids]
        if missing:
            raise TokenizerError(
                f"the vocabulary lacks {len(missing)} of the 256 bytes, the first is 0x{missing[0]:02x}: "
                "a byte-level vocabulary must have them all, so that any text can be written."
            )
        return [self._ids[bytes([byte])] for byte in range(256)]


def with_special_tokens(
    vocab: Mapping[int, bytes], special_tokens: Iterable[str]
) -> tuple[dict[int, bytes], dict[str, int]]:
    """The vocabulary with the special tokens that it lacked at the next ids, and the ids of all special tokens."""
    vocab = dict(vocab)
    if not vocab or min(vocab) < 0 or max(vocab) >= MAX_VOCAB_SIZE:
        raise TokenizerError(f"token ids go from 0 to {MAX_VOCAB_SIZE - 1}: this vocabulary is empty or goes beyond.")
    # Of two tokens with the same bytes, the special one came later.
    known = {token: id for id, token in sorted(vocab.items())}
    next_id = max(vocab) + 1
    ids: dict[str, int] = {}
    for text in special_tokens:
        token = special_bytes(text)
        if text in ids:
            raise TokenizerError(f"the special token {_short(text)} is listed twice.")
        if token not in known:
            known[token], vocab[next_id] = next_id, token
            next_id += 1
        ids[text] = known[token]
    return vocab, ids


def special_bytes(text: str) -> bytes:
    """The bytes of a special token, which must be text, not empty, and no essay."""
    try:
        if 0 < len(text) <= LONGEST_SPECIAL:
            return text.encode()
    except UnicodeEncodeError:
        pass
    raise TokenizerError(
        f"{_short(text)} cannot be a special token: expected Unicode text of 1 to {LONGEST_SPECIAL} characters."
    )


def pair_ranks(merges: Sequence[tuple[AnyStr, AnyStr]], ids: Mapping[AnyStr, int]) -> dict[Pair, int]:
    """The rank of a pair where merges are listed: its place in the list."""
    ranks: dict[Pair, int] = {}
    for rank, (left, right) in enumerate(merges):
        try:
            pair, _ = (ids[left], ids[right]), ids[left + right]
        except KeyError as absent:
            raise TokenizerError(
                f"merge {rank} is {_short(left)} + {_short(right)}, but {_short(absent.args[0])} is no ordinary token."
            ) from None
        if ranks.setdefault(pair, rank) != rank:
            raise TokenizerError(f"merge {rank}, {_short(left)} + {_short(right)}, is listed twice.")
    return ranks


def _short(token: bytes | str) -> str:
    return repr(token if len(token) <= 40 else token[:40])


class ConcatenationRanks(Generic[AnyStr]):
    """The rank of a pair where only whole tokens have ranks: that of the two, joined."""

    def __init__(self, tokens: Mapping[int, AnyStr], ranks: Mapping[AnyStr, int]) -> None:
        self._tokens: Mapping[int, AnyStr] = tokens
        self._ranks: Mapping[AnyStr, int] = ranks

    def get(self, pair: Pair, default: int) -> int:
        left, right = pair
        if left < 0 or right < 0:
            return default
        return self._ranks.get(self._tokens[left] + self._tokens[right], default)


def splits(tokens: Iterable[AnyStr], known: Container[AnyStr]) -> list[tuple[AnyStr, AnyStr]]:
    """All pairs of known tokens that make up the given ones, in their order: ranks of whole tokens as merges.

    Listing them all changes nothing: when two neighbours are about to become a token, all pairs of lower rank within
    it are merged already, so that these neighbours are the same wherever the token comes about.
    """
    return [
        (token[:cut], token[cut:])
        for token in tokens
        for cut in range(1, len(token))
        if token[:cut] in known and token[cut:] in known
    ]


Rank = Callable[[Pair, int], int]
Join = Callable[[int, int], int]


def merge(symbols: list[int], rank: Rank, join: Join) -> list[int]:
    """Join two neighbours, those of the least rank and of these the leftmost, until no two neighbours have a rank.

    `rank((left, right), NEVER)` orders the pairs, `join(left, right)` is what a pair becomes.
    """
    if len(symbols) < LONG:
        return _merge_by_scan(symbols, rank, join)
    return _merge_by_heap(_merge_repeats(symbols, rank, join), rank, join)


def _merge_by_scan(symbols: list[int], rank: Rank, join: Join) -> list[int]:
    """The definition, with the ranks of all pairs at hand: O(n²), the fastest for words."""
    ranks = [rank(pair, NEVER) for pair in pairwise(symbols)]
    while ranks and (least := min(ranks)) != NEVER:
        i = ranks.index(least)
        symbols[i : i + 2] = [join(symbols[i], symbols[i + 1])]
        del ranks[i]
        if i > 0:
            ranks[i - 1] = rank((symbols[i - 1], symbols[i]), NEVER)
        if i < len(ranks):
            ranks[i] = rank((symbols[i], symbols[i + 1]), NEVER)
    return symbols


def merging(symbols: list[int], rank: Rank, join: Join) -> list[list[int]]:
    """The symbols at first and after each merge: what `merge` does, to be watched."""
    rows: list[list[int]] = []

    def noted(left: int, right: int) -> int:
        rows.append(list(symbols))
        return join(left, right)

    merged = _merge_by_scan(symbols, rank, noted)
    return [*rows, merged]


def _merge_by_heap(symbols: list[int], rank: Rank, join: Join) -> list[int]:
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
        symbols[i], symbols[j] = join(symbols[i], symbols[j]), -1
        after[i], before[k] = k, i
        for left, right in ((before[i], i), (i, k)):
            if (r := rank((symbols[left], symbols[right]), NEVER)) != NEVER:
                heapq.heappush(heap, r << POSITION_BITS | left)
    return [symbol for symbol in symbols if symbol >= 0]


def _merge_repeats(symbols: list[int], rank: Rank, join: Join) -> list[int]:
    """The first merges of a run such as a million spaces: all occurrences of the first pair at once, pair after pair.

    Symbols are characters here, so that `str.replace` is the merge. It goes on as long as a pair makes up an eighth of
    the text, no other has its rank, and those that it makes rank behind it, as in a vocabulary that was learnt; the
    heap does the rest.
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
        joined = join(left, right)
        edges = {ord(edge) for gap in set(gaps) if gap for edge in (gap[0], gap[-1])} | {joined, left}
        made = {(edge, joined) for edge in edges} | {(joined, edge) for edge in edges}
        ranks |= {pair: rank(pair, NEVER) for pair in made}
        if min(ranks[pair] for pair in made) <= least:
            break
        text = chr(joined).join(gaps)
    return list(map(ord, text))
