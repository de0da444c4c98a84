"""Marian's tokenizers: a sentencepiece model cuts a text into pieces, and a vocabulary in its folder has their ids.

    source.spm, target.spm    a model for either language
    vocab.json                the ids of all pieces; target_vocab.json has the target's where they are others

So are opus-mt's published (Tiedemann & Thottingal 2020). Most models are unigram ones (Kudo 2018, arXiv:1804.10959)
that normalise the text first; the `sentencepiece` library cuts it, behind the interface of `base.py`.
"""

import importlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from glassformer.errors import MissingExtra, TokenizerError
from glassformer.files import write_file
from glassformer.tokenizers.base import Tokenizer
from glassformer.tokenizers.steps import CutPiece, EncodingStep, cutting
from glassformer.tokenizers.untrusted_files import read_bytes, read_json, sibling
from glassformer.tokenizers.vocabulary import MAX_VOCAB_SIZE, checked_vocab

SOURCE, TARGET = "source.spm", "target.spm"
VOCAB, TARGET_VOCAB = "vocab.json", "target_vocab.json"
UNKNOWN, END, PADDING = "<unk>", "</s>", "<pad>"
SPACE = "▁"


class MarianTokenizer(Tokenizer):
    """The pieces of a sentencepiece model under other ids; a piece that has none is unknown.

    A text may begin with a token such as >>fra<<, which asks a model of several languages for one of them.
    """

    method = "best path"

    def __init__(self, model: bytes, ids: Mapping[str, int]) -> None:
        """Take the protocol buffer of a sentencepiece model, and the id of each piece."""
        if UNKNOWN not in ids or END not in ids:
            raise TokenizerError(f"the vocabulary lacks {UNKNOWN} or {END}, which every vocabulary of Marian's has.")
        if len(ids) > MAX_VOCAB_SIZE:
            raise TokenizerError(f"expected at most {MAX_VOCAB_SIZE} pieces, not {len(ids)}.")
        special = {token: ids[token] for token in (UNKNOWN, END, PADDING) if token in ids}
        super().__init__({id: piece.replace(SPACE, " ").encode() for piece, id in ids.items()}, special, r"[\s\S]+")
        self.model = model
        self.ids = dict(ids)
        self._library = self._build()

    def _build(self) -> Any:
        try:
            library = importlib.import_module("sentencepiece")
        except ImportError:
            raise MissingExtra("sentencepiece", "text", "Marian's tokenizer") from None
        try:
            return library.SentencePieceProcessor(model_proto=self.model)
        except (RuntimeError, OSError):
            raise TokenizerError("this is no sentencepiece model: expected its protocol buffer.") from None

    def _encode_pre_token(self, pre_token: str) -> list[int]:
        return [self.ids.get(piece, self.ids[UNKNOWN]) for piece in self._cut(pre_token)]

    def _cut(self, text: str) -> list[str]:
        language = ""
        if text.startswith(">>") and "<<" in text:
            end = text.index("<<") + 2
            language, text = text[:end], text[end:]
        return [*([language] if language else []), *self._library.encode(text, out_type=str)]

    def _steps(self, pre_token: str) -> tuple[list[bytes], list[EncodingStep]]:
        """The pieces that the library cuts off the text, each with its score."""
        cut = self._cut(pre_token)
        pieces: list[CutPiece] = []
        for piece in cut:
            token = self.token_bytes(self.ids.get(piece, self.ids[UNKNOWN]))
            pieces.append(CutPiece(token, len(piece), self._library.get_score(self._library.piece_to_id(piece))))
        return cutting([("".join(cut).replace(SPACE, " "), pieces)])

    def bytes_after(self, previous: int | None, id: int) -> bytes:
        """A text begins with the space that was put before it."""
        begins = previous is None or previous in self._special_ids
        return self.token_bytes(id).removeprefix(b" ") if begins else self.token_bytes(id)

    def save(self, directory: str | os.PathLike[str], *, overwrite: bool = False) -> Path:
        """Write it as both tokenizers of a translator; returns the path of the target's model."""
        write_pair(Path(directory), self, self, overwrite=overwrite)
        return Path(directory) / TARGET


def write_pair(folder: Path, source: MarianTokenizer, target: MarianTokenizer, *, overwrite: bool = False) -> None:
    """Write both tokenizers of a translator."""
    _write_ids(folder / VOCAB, source, overwrite=overwrite)
    if target.ids != source.ids:
        _write_ids(folder / TARGET_VOCAB, target, overwrite=overwrite)
    write_file(folder / SOURCE, source.model, overwrite=overwrite)
    write_file(folder / TARGET, target.model, overwrite=overwrite)


def _write_ids(path: Path, tokenizer: MarianTokenizer, *, overwrite: bool) -> None:
    write_file(path, json.dumps(tokenizer.ids, ensure_ascii=False, indent=1).encode(), overwrite=overwrite)


def read_marian(path: Path) -> MarianTokenizer:
    """The tokenizer of source.spm, or of target.spm, with the vocabulary in the same folder."""
    model = read_bytes(path)
    separate = path.name == TARGET and path.with_name(TARGET_VOCAB).is_file()
    vocab = sibling(path, TARGET_VOCAB if separate else VOCAB)
    try:
        return MarianTokenizer(model, checked_vocab(vocab, read_json(vocab)))
    except TokenizerError as error:
        raise TokenizerError(str(error) if str(vocab) in str(error) else f"{path}: {error}") from None
