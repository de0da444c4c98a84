"""WordPiece, BERT's tokenizer: words are cut into pieces, the longest possible from the left, `un ##aff ##able`.

Schuster & Nakajima 2012; Devlin et al. 2018, §3 (arXiv:1810.04805). The text is cleaned, lowercased where the
vocabulary is, and cut at spaces and punctuation before, so that decoding gives words, not the text that was encoded.
The `tokenizers` library does the work, behind the interface of `base.py`.
"""

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from glassformer.errors import TokenizerError, UnsupportedPipeline
from glassformer.tokenizers.base import Tokenizer
from glassformer.tokenizers.steps import CutPiece, EncodingStep, cutting, longest_match
from glassformer.tokenizers.tokenizer_config import read_settings
from glassformer.tokenizers.tokenizer_json import check_added_ids, excerpt
from glassformer.tokenizers.untrusted_files import Json, read_text
from glassformer.tokenizers.vocabulary import MAX_VOCAB_SIZE, check_no_gaps, checked_vocab

CONTINUES = "##"
UNKNOWN, BEGIN, END, PADDING, MASK = "[UNK]", "[CLS]", "[SEP]", "[PAD]", "[MASK]"
WORDS = r" *[^ ]+| +"  # no piece crosses a space
LONGEST_WORD = 100  # characters; a longer word is unknown
CLEANED = (
    (" .", "."), (" ?", "?"), (" !", "!"), (" ,", ","), (" ' ", "'"), (" n't", "n't"), (" 'm", "'m"),
    (" do not", " don't"), (" 's", "'s"), (" 've", "'ve"), (" 're", "'re"),
)  # fmt: skip  # what the library's decoder changes in each token, one after another
MAX_LONGEST_WORD = 1000  # the longest that a file may ask for: n letters take time as n³, of 10,000 it is 20 seconds


class WordPieceTokenizer(Tokenizer):
    """A vocabulary of word pieces; `##` begins those that continue a word.

    `lowercase` is that of the uncased vocabularies; accents are stripped where `strip_accents` says so, or with None
    where letters are lowered. `split_chinese` makes each Chinese character a word, `clean` drops control characters.
    With `cleanup` no space stands before a full stop and its like where ids become a text.
    """

    method = "longest match"

    def __init__(
        self,
        pieces: Mapping[str, int],
        special_tokens: Mapping[str, int] | None = None,
        *,
        lowercase: bool = True,
        strip_accents: bool | None = None,
        split_chinese: bool = True,
        clean: bool = True,
        cleanup: bool = False,
        longest_word: int = LONGEST_WORD,
    ) -> None:
        """Take the ids of all pieces; without `special_tokens`, BERT's own are special where they are pieces."""
        if special_tokens is None:
            of_bert = (PADDING, UNKNOWN, BEGIN, END, MASK)
            special_tokens = {token: pieces[token] for token in of_bert if token in pieces}
        if UNKNOWN not in pieces:
            raise TokenizerError(f"the vocabulary lacks {UNKNOWN}, which stands for all other words.")
        if len(pieces) > MAX_VOCAB_SIZE:
            raise TokenizerError(f"expected at most {MAX_VOCAB_SIZE} pieces, not {len(pieces)}.")
        ids = {**pieces, **special_tokens}
        super().__init__({id: piece.encode() for piece, id in ids.items()}, special_tokens, WORDS)
        self.bos_id, self.eos_id = (self.special_tokens.get(name) for name in (BEGIN, END))
        self.begin_ids, self.end_ids = (() if id is None else (id,) for id in (self.bos_id, self.eos_id))
        self.pieces = dict(pieces)
        self.lowercase = lowercase
        self.strip_accents = strip_accents
        self.split_chinese = split_chinese
        self.clean = clean
        self.cleanup = cleanup
        self.longest_word = longest_word
        self._library = self._build()

    def _build(self) -> Any:
        """The library's pipeline, without special tokens, which `base.py` finds before."""
        library = importlib.import_module("tokenizers")
        model = library.models.WordPiece(
            self.pieces,
            unk_token=UNKNOWN,
            max_input_chars_per_word=self.longest_word,
            continuing_subword_prefix=CONTINUES,
        )
        pipeline = library.Tokenizer(model)
        pipeline.normalizer = library.normalizers.BertNormalizer(
            clean_text=self.clean,
            handle_chinese_chars=self.split_chinese,
            strip_accents=self.strip_accents,
            lowercase=self.lowercase,
        )
        pipeline.pre_tokenizer = library.pre_tokenizers.BertPreTokenizer()
        return pipeline

    def _encode_pre_token(self, pre_token: str) -> list[int]:
        ids: list[int] = self._library.encode(pre_token, add_special_tokens=False).ids
        return ids

    def _steps(self, pre_token: str) -> tuple[list[bytes], list[EncodingStep]]:
        """The words that the library makes of it, and the pieces that are cut off them, the longest each time."""
        normal = self._library.normalizer.normalize_str(pre_token)
        words: list[str] = [word for word, _ in self._library.pre_tokenizer.pre_tokenize_str(normal)]
        return cutting([(word, self._pieces_of(word)) for word in words])

    def _pieces_of(self, word: str) -> list[CutPiece]:
        matches = longest_match(word, self.pieces, CONTINUES) if len(word) <= self.longest_word else None
        if matches is None:
            return [CutPiece(UNKNOWN.encode(), len(word))]
        return [CutPiece(piece.encode(), len(piece) - len(CONTINUES) * (i > 0)) for i, piece in enumerate(matches)]

    def sequence(self, text: str, pair: str | None = None) -> tuple[list[int], list[int]]:
        """[CLS] text [SEP], or [CLS] text [SEP] pair [SEP], as BERT reads it; and each token's type, 0 or 1."""
        if self.bos_id is None or self.eos_id is None:
            raise TokenizerError(f"the vocabulary lacks {BEGIN} or {END}, between which BERT reads a text.")
        ids = [self.bos_id, *self.encode(text, allowed_special="none"), self.eos_id]
        types = [0] * len(ids)
        if pair is not None:
            second = [*self.encode(pair, allowed_special="none"), self.eos_id]
            ids, types = ids + second, types + [1] * len(second)
        return ids, types

    def bytes_after(self, previous: int | None, id: int) -> bytes:
        """A piece that continues a word follows at once; all others follow a space."""
        piece = self.token_bytes(id)
        if previous is None:
            return piece
        continuation = piece.removeprefix(CONTINUES.encode())
        text = continuation if continuation != piece else b" " + piece
        if self.cleanup:
            for spaced, joined in CLEANED:
                text = text.replace(spaced.encode(), joined.encode())
        return text

    def to_json(self) -> Json:
        """A WordPiece model behind BERT's normalizer and pre-tokenizer."""
        return {
            "normalizer": {
                "type": "BertNormalizer",
                "clean_text": self.clean,
                "handle_chinese_chars": self.split_chinese,
                "strip_accents": self.strip_accents,
                "lowercase": self.lowercase,
            },
            "pre_tokenizer": {"type": "BertPreTokenizer"},
            "decoder": {"type": "WordPiece", "prefix": CONTINUES, "cleanup": self.cleanup},
            "model": {
                "type": "WordPiece",
                "unk_token": UNKNOWN,
                "continuing_subword_prefix": CONTINUES,
                "max_input_chars_per_word": self.longest_word,
                "vocab": self.pieces,
            },
        }

    @classmethod
    def from_json(cls, path: Path, file: Json, special_tokens: Mapping[str, int]) -> "WordPieceTokenizer":
        """The same read again. Its padding and truncation are the caller's business, as begin and end tokens are."""
        pieces = checked_vocab(path, file["model"].get("vocab"))
        check_added_ids(path, pieces, special_tokens)
        check_no_gaps(path, pieces.values(), special_tokens.values())
        parts = {"normalizer": "BertNormalizer", "pre_tokenizer": "BertPreTokenizer", "decoder": "WordPiece"}
        for part, needed in parts.items():
            value = file.get(part)
            if not isinstance(value, dict) or value.get("type") != needed:
                raise UnsupportedPipeline(
                    f"{path}: the {part} of a WordPiece vocabulary must be {needed}, not {excerpt(value)}."
                )
        model, normalizer = file["model"], file["normalizer"]
        for name, only in {"unk_token": UNKNOWN, "continuing_subword_prefix": CONTINUES}.items():
            if model.get(name, only) != only:
                raise UnsupportedPipeline(f"{path}: {name} is {excerpt(model[name])}, and only {only!r} is supported.")
        longest_word = model.get("max_input_chars_per_word", LONGEST_WORD)
        if type(longest_word) is not int or not 1 <= longest_word <= MAX_LONGEST_WORD:
            raise TokenizerError(
                f"{path}: max_input_chars_per_word must be a whole number from 1 to {MAX_LONGEST_WORD}."
            )
        for name in ("clean_text", "handle_chinese_chars", "strip_accents", "lowercase"):
            value = normalizer.get(name)
            if not (isinstance(value, bool) or (name == "strip_accents" and value is None)):
                raise TokenizerError(f"{path}: {name} must be true or false, not {excerpt(value)}.")
        cleanup = file["decoder"].get("cleanup", True)
        if not isinstance(cleanup, bool):
            raise TokenizerError(f"{path}: cleanup must be true or false, not {excerpt(cleanup)}.")
        return cls(
            pieces,
            special_tokens,
            lowercase=normalizer["lowercase"],
            strip_accents=normalizer.get("strip_accents"),
            split_chinese=normalizer["handle_chinese_chars"],
            clean=normalizer["clean_text"],
            cleanup=cleanup,
            longest_word=longest_word,
        )


def read_vocab_txt(path: Path) -> WordPieceTokenizer:
    """BERT's vocab.txt: a piece a line, in the order of the ids; its folder's tokenizer_config.json has the settings.

    Where those do not say so, a vocabulary without capitals is an uncased one.
    """
    lines = read_text(path).replace("\r\n", "\n").removesuffix("\n").split("\n")
    pieces = {line: id for id, line in enumerate(lines)}
    if len(pieces) != len(lines):
        doubled = next(line for id, line in enumerate(lines) if pieces[line] != id)
        raise TokenizerError(f"{path}: the piece {doubled[:40]!r} stands on two lines.")
    settings = read_settings(path.parent)
    uncased = not any(piece != piece.lower() for piece in pieces if not piece.startswith("["))
    return WordPieceTokenizer(
        pieces,
        lowercase=bool(settings.get("do_lower_case", uncased)),
        strip_accents=None if settings.get("strip_accents") is None else bool(settings["strip_accents"]),
        split_chinese=bool(settings.get("tokenize_chinese_chars", True)),
        cleanup=True,
    )
