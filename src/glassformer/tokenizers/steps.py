"""How a word becomes tokens, for people who watch: merges one by one, the longest match, the path of the best scores.

    for pre_token in Tokenizer.load("runs/tok").steps("hugs"):
        for step in pre_token.steps:
            print(step.rank, step.symbols)

Merging is that of `bpe.py`. The longest match and the best path are written here as their papers have them; WordPiece
and unigram vocabularies are run by libraries (`wordpiece.py`, `library.py`), and what is watched must end as they do.
"""

from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, NamedTuple

from glassformer.tokenizers.bpe import merge_steps
from glassformer.tokenizers.merge_table import MergeTable

Method = Literal["merges", "longest match", "best path", "look-up"]
"""How a kind of tokenizers cuts a word; a look-up has no steps."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EncodingStep:
    """One step from a word to its tokens: `symbols` after it, of which the one at `at` is new.

    A merge joins what stood at `at` and after it, and has a `rank`: of all neighbours, those of the least rank are
    joined. A `score` is the logarithm of the new symbol's probability, or what sentencepiece's BPE has for that.
    """

    symbols: list[bytes]
    at: int
    rank: int | None = None
    score: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PreToken:
    """A span of text that no token crosses, or a special token, and how it is encoded.

    `begin` are the symbols before the first of the `steps`; those after the last are its tokens, whose ids are `ids`.
    """

    text: str
    ids: list[int]
    begin: list[bytes]
    steps: list[EncodingStep]
    special: bool = False

    @property
    def symbols(self) -> list[list[bytes]]:
        """The symbols at first and after each step."""
        return [self.begin, *(step.symbols for step in self.steps)]


def merging(
    symbols: Sequence[int],
    table: MergeTable,
    bytes_of: Callable[[int], bytes],
    score_of: Callable[[int], float | None] = lambda _: None,
) -> Iterator[EncodingStep]:
    """The merges of some symbols, as `bpe.merge_steps` makes them.

    >>> table = MergeTable(ranks={(117, 103): 0, (104, 256): 1}, ids={(117, 103): 256, (104, 256): 257})
    >>> tokens = {byte: bytes([byte]) for byte in range(256)} | {256: b"ug", 257: b"hug"}
    >>> for step in merging(list(b"hugs"), table, tokens.__getitem__):
    ...     print(step.rank, step.symbols)
    0 [b'h', b'ug', b's']
    1 [b'hug', b's']
    """
    for before, after in pairwise(merge_steps(symbols, table)):
        at = next(i for i, (old, new) in enumerate(zip(before, after, strict=False)) if old != new)
        rank = table.ranks.get((before[at], before[at + 1]))
        yield EncodingStep(symbols=[bytes_of(id) for id in after], at=at, rank=rank, score=score_of(after[at]))


def longest_match(word: str, pieces: Container[str], continues: str) -> list[str] | None:
    """From the left, each time the longest piece there is; None where at some place there is none.

    Of a piece that is not the first, `continues` is the beginning. Wu et al. 2016 (arXiv:1609.08144), §4.1; BERT's.

    >>> longest_match("unaffable", {"un", "##aff", "##able", "##a"}, "##")
    ['un', '##aff', '##able']
    """
    matches: list[str] = []
    start = 0
    while start < len(word):
        prefix = continues if start else ""
        ends = range(len(word), start, -1)
        end = next((end for end in ends if prefix + word[start:end] in pieces), None)
        if end is None:
            return None
        matches.append(prefix + word[start:end])
        start = end
    return matches


def best_path(word: str, scores: Mapping[str, float], unknown: float) -> list[str]:
    """The pieces that make up a word and whose scores have the greatest sum: Viterbi's algorithm.

    A character that is no piece has the score `unknown`. Kudo 2018 (arXiv:1804.10959), §3.2.

    >>> best_path("hugs", {"h": -3.0, "u": -3.0, "g": -3.0, "s": -2.0, "hug": -2.5, "ugs": -4.0}, unknown=-20.0)
    ['hug', 's']
    """
    best = [(0.0, 0)]  # of the first n characters: the greatest sum, and where the last piece of it begins
    for end in range(1, len(word) + 1):
        pieces = [(start, scores.get(word[start:end], unknown if start == end - 1 else None)) for start in range(end)]
        sums = [(best[start][0] + score, start) for start, score in pieces if score is not None]
        best.append(max(sums, key=lambda path: path[0]))
    path: list[str] = []
    end = len(word)
    while end:
        start = best[end][1]
        path.insert(0, word[start:end])
        end = start
    return path


class CutPiece(NamedTuple):
    """A piece that is cut off a word: its bytes, how many characters of the word it takes, and its score."""

    token: bytes
    length: int
    score: float | None = None


def cutting(words: Sequence[tuple[str, Sequence[CutPiece]]]) -> tuple[list[bytes], list[EncodingStep]]:
    """The words at first, and the steps that cut the pieces of each off what is left of it.

    >>> begin, steps = cutting([("hugs", [CutPiece(b"hug", 3), CutPiece(b"##s", 1)])])
    >>> begin, [step.symbols for step in steps]
    ([b'hugs'], [[b'hug', b's'], [b'hug', b'##s']])
    """
    begin = [word.encode() for word, _ in words]
    steps: list[EncodingStep] = []
    done: list[bytes] = []
    for i, (word, pieces) in enumerate(words):
        end = 0
        for token, length, score in pieces:
            end += length
            done.append(token)
            rest = [word[end:].encode()] if end < len(word) else []
            steps.append(EncodingStep(symbols=[*done, *rest, *begin[i + 1 :]], at=len(done) - 1, score=score))
    return begin, steps


@dataclass(frozen=True, slots=True, kw_only=True)
class Branch:
    """A symbol, and of which it was merged; `step` is the number of that merge from 1 on, 0 of a symbol at first."""

    symbol: bytes
    step: int = 0
    rank: int | None = None
    parts: "tuple[Branch, ...]" = ()


def merge_trees(pre_token: PreToken) -> list[Branch]:
    """The tree of each token of a pre-token that was merged, from the token down to the symbols at first.

    >>> steps = [EncodingStep(symbols=[b"h", b"ug"], at=1, rank=0), EncodingStep(symbols=[b"hug"], at=0, rank=7)]
    >>> (tree,) = merge_trees(PreToken(text="hug", ids=[257], begin=[b"h", b"u", b"g"], steps=steps))
    >>> tree.symbol, tree.rank, [part.symbol for part in tree.parts], tree.parts[1].step
    (b'hug', 7, [b'h', b'ug'], 1)
    """
    branches = [Branch(symbol=symbol) for symbol in pre_token.begin]
    for number, step in enumerate(pre_token.steps, start=1):
        end = step.at + 1 + len(branches) - len(step.symbols)  # of what becomes the new symbol: of a merge, two
        parts = tuple(branches[step.at : end])
        branches[step.at : end] = [Branch(symbol=step.symbols[step.at], step=number, rank=step.rank, parts=parts)]
    return branches
