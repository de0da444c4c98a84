"""sentencepiece's BPE: characters are merged, the best-scoring piece first; characters without a piece become bytes.

Kudo & Richardson 2018 (arXiv:1808.06226), as Llama 1 and 2 and llama2.c use it. A space is written ▁, and one is put
before every text, and before the text after a special token. The vocabularies are sentencepiece's `.model` and
llama2.c's `tok*.bin`.
"""

import importlib
import math
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path

import regex

from glassformer.errors import MissingExtra, TokenizerError
from glassformer.tokenizers.base import EACH_BYTE, Tokenizer
from glassformer.tokenizers.bpe import merge
from glassformer.tokenizers.merge_table import MergeTable
from glassformer.tokenizers.steps import EncodingStep, merging
from glassformer.tokenizers.tokenizer_json import BPE, FUSE, check_added_ids, check_bpe, expect
from glassformer.tokenizers.untrusted_files import Json, read_bytes
from glassformer.tokenizers.vocabulary import MAX_VOCAB_SIZE, check_no_gaps, checked_merges, checked_vocab

SPACE = "▁"
WORDS = r"[ ▁]*[^ ▁]+|[ ▁]+"  # spaces and what follows them
BEGIN = "<s>"
CONTROL = ("<unk>", BEGIN, "</s>")
LONGEST_PIECE = 1024

MARK_SPACES: list[Json] = [
    {"type": "Prepend", "prepend": SPACE},
    {"type": "Replace", "pattern": {"String": " "}, "content": SPACE},
]
COLLAPSE_SPACES: list[Json] = [
    {"type": "Replace", "pattern": {"Regex": rf"\A +|[ {SPACE}]+\z"}, "content": ""},
    {"type": "Replace", "pattern": {"Regex": " +"}, "content": " "},
]
UNMARK_SPACES: list[Json] = [
    {"type": "Replace", "pattern": {"String": SPACE}, "content": " "},
    {"type": "ByteFallback"},
    FUSE,
    {"type": "Strip", "content": " ", "start": 1, "stop": 0},
]


class SentencePieceTokenizer(Tokenizer):
    """BPE over characters: of all neighbours, the two whose concatenation has the best score are joined first.

    Of equal scores the leftmost goes first. `pieces` are in the order of their ids: `<unk>`, control tokens such as
    `<s>` (`control`), the bytes `<0x00>` to `<0xFF>`, then the rest. Without `scores`, `merges` lists what is joined
    first, as tokenizer.json has it. `collapse_spaces`: runs of spaces count as one, and spaces at either end of a text
    as none.
    """

    method = "merges"
    broken_bytes = EACH_BYTE

    def __init__(
        self,
        pieces: Sequence[str],
        scores: Sequence[float] | None,
        control: Sequence[str] = CONTROL,
        *,
        merges: Sequence[tuple[str, str]] = (),
        collapse_spaces: bool = False,
    ) -> None:
        """Take the pieces of a vocabulary with either their scores or a list of merges."""
        ids = {piece: id for id, piece in enumerate(pieces)}
        _check(pieces, control, ids)
        special_tokens = {piece: ids[piece] for piece in control}
        byte_ids = [ids[f"<0x{byte:02X}>"] for byte in range(256)]
        vocab = {id: piece.replace(SPACE, " ").encode() for id, piece in enumerate(pieces)}
        vocab |= {id: bytes([byte]) for byte, id in enumerate(byte_ids)}
        # Where a piece goes on after a word, merges cross from word to word: then the whole text is one piece.
        one_word = all(regex.fullmatch(f"{SPACE}*[^{SPACE}]*", piece) for piece in pieces)
        super().__init__(vocab, special_tokens, WORDS if one_word else r"[\s\S]+")
        self.bos_id = self.special_tokens.get(BEGIN)
        self.begin_ids = () if self.bos_id is None else (self.bos_id,)
        self.pieces = list(pieces)
        self.collapse_spaces = collapse_spaces
        self._byte_ids = byte_ids
        unmerged = {*special_tokens.values(), *byte_ids}
        self._ids = {piece: id for piece, id in ids.items() if id not in unmerged}
        self._scores = None if scores is None else list(scores)
        self._merges = list(merges)
        self._table = self._merge_table(scores)

    def _merge_table(self, scores: Sequence[float] | None) -> MergeTable:
        if scores is None:
            return MergeTable.from_merges(self._merges, self._ids)
        return MergeTable.from_ranks(self._ranks_of_scores(scores), self._ids, dict(enumerate(self.pieces)))

    @property
    def scores(self) -> list[float] | None:
        """The scores of the pieces; None where a list of merges stands for them."""
        return self._scores

    def listed_merges(self) -> list[tuple[str, str]]:
        """The merges; for a vocabulary with scores, merges that do the same, of equal scores the lower id first."""
        return self._merges or [(self.pieces[left], self.pieces[right]) for left, right in self._table.ranks]

    def _ranks_of_scores(self, scores: Sequence[float]) -> dict[str, int]:
        """The best score has the rank 0, and equal scores have one rank; in the order of the ids."""
        if len(scores) != len(self.pieces) or not all(map(math.isfinite, scores)):
            raise TokenizerError("expected a finite score for every piece.")
        rank_of = {score: rank for rank, score in enumerate(sorted(set(scores), reverse=True))}
        return {piece: rank_of[scores[id]] for piece, id in self._ids.items()}

    def _begin(self, pre_token: str) -> str:
        return " " + pre_token

    def _encode_pre_token(self, pre_token: str) -> list[int]:
        return merge(self._symbols(pre_token), self._table)

    def _steps(self, pre_token: str) -> tuple[list[bytes], list[EncodingStep]]:
        symbols = self._symbols(pre_token)
        scores = dict(enumerate(self._scores or ()))
        return self._bytes_of(symbols), list(merging(symbols, self._table, self.token_bytes, scores.get))

    def _symbols(self, pre_token: str) -> list[int]:
        """The ids of a pre-token's characters, or of their bytes where a character is no piece."""
        if self.collapse_spaces:
            pre_token = regex.sub(" +", " ", pre_token).rstrip(f" {SPACE}")  # spaces end a text, and no word of one
        symbols: list[int] = []
        for character in pre_token.replace(" ", SPACE):
            id = self._ids.get(character)
            symbols += [self._byte_ids[byte] for byte in character.encode()] if id is None else [id]
        return symbols

    def bytes_after(self, previous: int | None, id: int) -> bytes:
        """The space that `encode` put before a text, or before the text after a special token, is taken away again."""
        token = self.token_bytes(id)
        begins = previous is None or previous in self._special_ids
        return token.removeprefix(b" ") if begins and id not in self._special_ids else token

    def to_json(self) -> Json:
        """A BPE model with byte fallback, behind the normalizers that mark spaces."""
        normalizers = COLLAPSE_SPACES + MARK_SPACES if self.collapse_spaces else MARK_SPACES
        return {
            "normalizer": {"type": "Sequence", "normalizers": normalizers},
            "pre_tokenizer": None,
            "decoder": {"type": "Sequence", "decoders": UNMARK_SPACES},
            "model": BPE
            | {"unk_token": "<unk>", "fuse_unk": True, "byte_fallback": True}
            | {"vocab": {piece: id for id, piece in enumerate(self.pieces)}}
            | {"merges": [list(pair) for pair in self.listed_merges()]},
        }

    def parts_with_spaces(self, scheme: str) -> Json:
        """The parts of `to_json` that differ where a space is put before a text alone ("first"), or nowhere ("never").

        Here it is put before each part of a text between special tokens as well.
        """
        metaspace = {"type": "Metaspace", "replacement": SPACE, "prepend_scheme": scheme, "split": False}
        collapse = {"type": "Sequence", "normalizers": COLLAPSE_SPACES} if self.collapse_spaces else None
        decoders = UNMARK_SPACES[:-1] if scheme == "never" else UNMARK_SPACES
        decoder = {"type": "Sequence", "decoders": decoders}
        return {"normalizer": collapse, "pre_tokenizer": metaspace, "decoder": decoder}

    @classmethod
    def from_json(cls, path: Path, file: Json, special_tokens: Mapping[str, int]) -> "SentencePieceTokenizer":
        """The same read again; a file of this form has merges instead of scores, and its bytes are text run by run."""
        model = file["model"]
        check_bpe(path, model, {"fuse_unk", "byte_fallback", "unk_token"})
        plain: Json = {"type": "Sequence", "normalizers": MARK_SPACES}
        collapsing: Json = {"type": "Sequence", "normalizers": COLLAPSE_SPACES + MARK_SPACES}
        expect(path, "normalizer", file.get("normalizer"), [plain, collapsing])
        expect(path, "pre_tokenizer", file.get("pre_tokenizer"), [None])
        expect(path, "decoder", file.get("decoder"), [{"type": "Sequence", "decoders": UNMARK_SPACES}])
        vocab = checked_vocab(path, model.get("vocab"))
        check_added_ids(path, vocab, special_tokens)
        vocab |= special_tokens
        check_no_gaps(path, vocab.values())
        pieces = sorted(vocab, key=vocab.__getitem__)
        merges = checked_merges(path, model.get("merges"))
        collapse_spaces = file["normalizer"] == collapsing
        tokenizer = cls(pieces, None, list(special_tokens), merges=merges, collapse_spaces=collapse_spaces)
        tokenizer.byte_runs = frozenset(tokenizer._byte_ids)  # as the `tokenizers` library reads such a file
        return tokenizer


def _check(pieces: Sequence[str], control: Sequence[str], ids: Mapping[str, int]) -> None:
    if len(ids) != len(pieces):
        doubled = next(piece for id, piece in enumerate(pieces) if ids[piece] != id)
        raise TokenizerError(f"the piece {doubled!r} has two ids: expected no doubles.")
    if len(pieces) > MAX_VOCAB_SIZE or not all(0 < len(piece) <= LONGEST_PIECE for piece in pieces):
        raise TokenizerError(f"expected at most {MAX_VOCAB_SIZE} pieces of 1 to {LONGEST_PIECE} characters.")
    needed = [*control, *(f"<0x{byte:02X}>" for byte in range(256))]
    if missing := [piece for piece in needed if piece not in ids]:
        raise TokenizerError(
            f"the vocabulary lacks {missing[0]!r}: expected {', '.join(control)} and the 256 bytes <0x00> to <0xFF>."
        )


def read_llama2c(path: Path) -> SentencePieceTokenizer:
    """llama2.c's tokenizer file: int32 longest token, then float32 score, int32 length and bytes of each token."""
    data = read_bytes(path)
    pieces: list[str] = []
    scores: list[float] = []
    at = 4
    while at < len(data):
        if at + 8 > len(data):
            raise TokenizerError(f"{path} ends within token {len(pieces)}: the file is cut short.")
        score, length = struct.unpack_from("<fi", data, at)
        at += 8
        if not 0 < length <= min(len(data) - at, 4 * LONGEST_PIECE):
            raise TokenizerError(
                f"{path}: token {len(pieces)} is said to have {length} bytes; this is no tokenizer of llama2.c's."
            )
        try:
            piece = data[at : at + length].decode()
        except UnicodeDecodeError:
            raise TokenizerError(f"{path}: token {len(pieces)} is not UTF-8.") from None
        at += length
        # Its writer put control tokens on lines of their own, and spaces where sentencepiece has ▁.
        pieces.append(piece.strip("\n") if piece.strip("\n") in CONTROL else piece.replace(" ", SPACE))
        scores.append(score)
    if not pieces:
        raise TokenizerError(f"{path} has no tokens: the file is cut short.")
    return SentencePieceTokenizer(pieces, scores)


def parse_model(path: Path, data: bytes) -> SentencePieceTokenizer:
    """sentencepiece's own file, a protocol buffer; BPE with byte fallback and no text normalisation."""
    try:
        message = importlib.import_module("google.protobuf.message")
        protocol = importlib.import_module("sentencepiece.sentencepiece_model_pb2")
    except ImportError:
        raise MissingExtra("sentencepiece", "text", f"Reading {path}") from None
    model = protocol.ModelProto()
    try:
        model.ParseFromString(data)
    except message.DecodeError:
        raise TokenizerError(f"{path} is no sentencepiece model: expected its protocol buffer.") from None
    if not all(isinstance(piece.piece, str) for piece in model.pieces):  # bytes that are no text come as they are
        raise TokenizerError(f"{path}: a piece is not UTF-8, so the file is damaged: take another copy.")
    trainer, normalizer = model.trainer_spec, model.normalizer_spec
    kinds = type(model).SentencePiece.Type
    needs = {
        "model_type BPE": trainer.model_type == type(trainer).BPE,
        "byte_fallback": trainer.byte_fallback,
        "no treat_whitespace_as_suffix": not trainer.treat_whitespace_as_suffix,
        "no normalization": not normalizer.precompiled_charsmap,
        "add_dummy_prefix": normalizer.add_dummy_prefix,
        "escape_whitespaces": normalizer.escape_whitespaces,
        "no user-defined or unused pieces": not {piece.type for piece in model.pieces}
        & {kinds.USER_DEFINED, kinds.UNUSED},
    }
    if unmet := [need for need, met in needs.items() if not met]:
        raise TokenizerError(f"{path}: only sentencepiece models with {unmet[0]} are read.")
    control = [piece.piece for piece in model.pieces if piece.type in (kinds.UNKNOWN, kinds.CONTROL)]
    pieces, scores = [piece.piece for piece in model.pieces], [piece.score for piece in model.pieces]
    collapse_spaces = bool(normalizer.remove_extra_whitespaces)
    tokenizer = SentencePieceTokenizer(pieces, scores, control, collapse_spaces=collapse_spaces)
    begin, end = (id if 0 <= id < len(pieces) else None for id in (trainer.bos_id, trainer.eos_id))  # -1: there is none
    tokenizer.bos_id, tokenizer.eos_id = begin, end
    tokenizer.begin_ids = () if begin is None else (begin,)
    return tokenizer
