"""The steps of a word in a pipeline that the `tokenizers` library runs: gone again with the model of its file.

`library.py` shows them where they end as the library's own work does.
"""

import re
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any

from glassformer.tokenizers.merge_table import MergeTable
from glassformer.tokenizers.sentencepiece import SPACE
from glassformer.tokenizers.steps import CutPiece, EncodingStep, Method, best_path, cutting, longest_match, merging
from glassformer.tokenizers.untrusted_files import Json
from glassformer.tokenizers.wordpiece import CONTINUES

BYTE_PIECE = re.compile(r"<0x[0-9A-Fa-f]{2}>")
UNKNOWN_PENALTY = 10.0  # how much worse than the worst piece a character is that is none, as the library has it

Watched = tuple[list[bytes], list[EncodingStep]]


class ModelSteps:
    """The model of a tokenizer.json; a word comes in the characters of its pieces."""

    def __init__(self, model: Json, bytes_of: Callable[[int], bytes]) -> None:
        """Take a model that has been checked, and what each id stands for."""
        self._model, self._bytes_of = model, bytes_of
        self.method: Method = "look-up"
        if isinstance(model["vocab"], list):
            self.method = "best path"
        elif "merges" in model:
            self.method = "look-up" if model.get("continuing_subword_prefix") else "merges"
        elif "max_input_chars_per_word" in model:
            self.method = "longest match"

    def steps(self, word: str) -> Watched:
        """The symbols of a word at first, and the steps from there; none where this model has none."""
        ways: Mapping[Method, Callable[[str], Watched]] = {
            "merges": self._merges,
            "longest match": self._longest_match,
            "best path": self._best_path,
            "look-up": lambda _: ([], []),
        }
        return ways[self.method](word)

    def _merges(self, word: str) -> Watched:
        suffix = self._model.get("end_of_word_suffix") or ""
        symbols = re.findall(rf"{BYTE_PIECE.pattern}|.", word.removesuffix(suffix), re.DOTALL)
        if suffix and word.endswith(suffix):
            symbols[-1:] = [symbol + suffix for symbol in symbols[-1:]]
        if not self._ids.keys() >= set(symbols):
            return [], []
        begin = [self._ids[symbol] for symbol in symbols]
        if self._model.get("ignore_merges") and word in self._ids:
            steps = [EncodingStep(symbols=[self._bytes_of(self._ids[word])], at=0)]
        else:
            steps = list(merging(begin, self._table, self._bytes_of))
        return list(map(self._bytes_of, begin)), steps

    def _longest_match(self, word: str) -> Watched:
        prefix = self._model.get("continuing_subword_prefix", CONTINUES)
        whole = word.replace(prefix, "") if prefix else word
        matches = longest_match(whole, self._ids, prefix) or []
        lengths = [len(piece) - len(prefix) * (i > 0) for i, piece in enumerate(matches)]
        pieces = [CutPiece(self._bytes_of(self._ids[piece]), n) for piece, n in zip(matches, lengths, strict=True)]
        return cutting([(whole, pieces)])

    def _best_path(self, word: str) -> Watched:
        path = best_path(word, self._scores, min(self._scores.values()) - UNKNOWN_PENALTY)
        if not self._ids.keys() >= set(path):  # unknown characters become a token of their own, or bytes
            return [], []
        pieces = [CutPiece(self._bytes_of(self._ids[piece]), len(piece), self._scores[piece]) for piece in path]
        return cutting([(word.replace(SPACE, " "), pieces)])

    @cached_property
    def _ids(self) -> dict[str, int]:
        vocab: Any = self._model["vocab"]
        return vocab if isinstance(vocab, dict) else {piece: id for id, (piece, _) in enumerate(vocab)}

    @cached_property
    def _scores(self) -> dict[str, float]:
        return dict(self._model["vocab"])

    @cached_property
    def _table(self) -> MergeTable:
        merges = (merge.split(" ") if isinstance(merge, str) else merge for merge in self._model["merges"])
        return MergeTable.from_merges(list(dict.fromkeys((left, right) for left, right in merges)), self._ids)
