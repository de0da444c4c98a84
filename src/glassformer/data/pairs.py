"""Pairs of a text and its translation: two files line by line, or one with a tab between the two.

Tokens of all pairs lie one after the other in one array a side; batches are of pairs of similar length, so that little
of them is padding. Next to read: `training/tasks/translation.py`.
"""

from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import zip_longest
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Int
from torch import Tensor

from glassformer.data.lines import read_lines
from glassformer.errors import DataError

POOL = 50  # batches' pairs that are put in order of length together


def read_pairs(source: Path, target: Path | None = None) -> list[tuple[str, str]]:
    """The pairs whose texts both have something in them.

    Without `target`, a line of `source` has both texts with a tab between, and perhaps more after another tab, as
    Tatoeba's files have. Files may be gzipped.
    """
    texts = _tabbed(source) if target is None else _side_by_side(source, target)
    pairs = [(first.strip(), second.strip()) for first, second in texts if first.strip() and second.strip()]
    if not pairs:
        raise DataError(f"{source} has no pair of texts.")
    return pairs


def _tabbed(source: Path) -> Iterator[tuple[str, str]]:
    for number, line in enumerate(read_lines(source), 1):
        first, *columns = line.split("\t")
        if columns:
            yield first, columns[0]
        elif line.strip():
            raise DataError(
                f"{source}: line {number} has no tab between its two texts. Where they are in two files, name both."
            )


def _side_by_side(source: Path, target: Path) -> Iterator[tuple[str, str]]:
    lines, target_lines = read_lines(source), read_lines(target)
    for number, (line, other) in enumerate(zip_longest(lines, target_lines), 1):
        if line is None or other is None:
            n_lines, n_others = (
                number - 1 if last is None else number + sum(1 for _ in remaining)
                for last, remaining in ((line, lines), (other, target_lines))
            )
            raise DataError(
                f"{source} has {n_lines:,} lines and {target} has {n_others:,}: line by line, each must be the "
                f"translation of the other."
            )
        yield line, other


def read_transcripts(listing: Path, folder: Path | None, setting: str) -> list[tuple[Path, str]]:
    """Recordings with what is said in them: a line of the list has a file, a tab, and the text.

    All are in one folder, or in folders in it: the list's own, unless the person who runs this names another, under
    `setting`. So a list from a stranger names no other files of theirs, nor does a link.
    """
    folder = folder or listing.parent
    transcripts = [(folder / name, text) for name, text in read_pairs(listing)]
    home = folder.resolve()
    for path, _ in transcripts:
        if not path.resolve().is_relative_to(home):
            raise DataError(
                f"{listing} names {path}, which is not in {folder}: name the folder of its recordings with {setting}."
            )
        if not path.is_file():
            raise DataError(f"{listing} names {path}, and there is no such recording.")
    return transcripts


@dataclass(frozen=True)
class Ragged:
    """Sequences of tokens, of different lengths: all one after the other, and where each ends."""

    tokens: Int[np.ndarray, " N"]
    ends: Int[np.ndarray, " texts"]

    @classmethod
    def of(cls, texts: Iterable[Sequence[int]]) -> "Ragged":
        """These sequences, which are asked for one at a time: as lists they would take four times the memory."""
        tokens, ends = array("q"), array("q")
        for text in texts:
            tokens.extend(text)
            ends.append(len(tokens))
        return cls(np.array(tokens, dtype=np.int64), np.array(ends, dtype=np.int64))

    @cached_property
    def lengths(self) -> Int[np.ndarray, " texts"]:
        """Of each sequence."""
        return np.diff(self.ends, prepend=0)

    def __len__(self) -> int:
        return len(self.ends)

    def __getitem__(self, row: int) -> Int[np.ndarray, " T"]:
        end = self.ends[row]
        return self.tokens[end - self.lengths[row] : end]

    def where(self, chosen: Bool[np.ndarray, " texts"]) -> "Ragged":
        """Some of the sequences, in their order."""
        return Ragged(self.tokens[np.repeat(chosen, self.lengths)], self.lengths[chosen].cumsum())

    def padded(self, rows: Int[np.ndarray, " B"], pad_id: int) -> tuple[Int[Tensor, "B S"], Bool[Tensor, "B S"]]:
        """These sequences as one array, filled up on the right, and where it holds their tokens."""
        lengths = self.lengths[rows]
        valid = np.arange(lengths.max()) < lengths[:, None]
        filled = np.full(valid.shape, pad_id, dtype=np.int64)
        filled[valid] = np.concatenate([self[row] for row in rows.tolist()])
        return torch.from_numpy(filled), torch.from_numpy(valid)


class Order:
    """Which pairs are in which batch: epoch after epoch all of them, each epoch in an order of its own.

    `lengths` are what pairs are put in order by, within a pool of batches.
    """

    def __init__(self, lengths: Int[np.ndarray, " pairs"], batch_size: int, seed: int) -> None:
        self.lengths, self.batch_size, self.seed = lengths, batch_size, seed
        self.n_batches = max(len(lengths) // batch_size, 1)  # of an epoch
        self._epoch: tuple[int, list[Int[np.ndarray, " B"]]] = (-1, [])

    def batch(self, number: int) -> Int[np.ndarray, " B"]:
        """The pairs of the number-th batch of the run: a pure function."""
        epoch, place = divmod(number, self.n_batches)
        if self._epoch[0] != epoch:
            self._epoch = epoch, self._batches(epoch)
        return self._epoch[1][place]

    def _batches(self, epoch: int) -> list[Int[np.ndarray, " B"]]:
        """Shuffled, in order within pools, cut into batches, and these shuffled; what fills no batch is left out."""
        random, size = np.random.default_rng((self.seed, epoch)), self.batch_size
        shuffled = random.permutation(len(self.lengths))[: self.n_batches * size]
        pools = [shuffled[start : start + POOL * size] for start in range(0, len(shuffled), POOL * size)]
        in_order = np.concatenate([pool[np.argsort(self.lengths[pool], kind="stable")] for pool in pools])
        batches = [in_order[n * size : (n + 1) * size] for n in range(self.n_batches)]
        return [batches[n] for n in random.permutation(self.n_batches)]

    def in_turn(self) -> Iterator[Int[np.ndarray, " B"]]:
        """All pairs once, the shortest first: for evaluation."""
        order = np.argsort(self.lengths, kind="stable")
        for start in range(0, len(order), self.batch_size):
            yield order[start : start + self.batch_size]
