"""Byte-level BPE, the tokenizer of GPT-2 and of most that came after: a pre-token's bytes are merged, pair by pair.

Radford et al. 2019, §2.2. `bpe.py` has the algorithm, `bpe_train.py` learns merges from a corpus. Published as
tokenizer.json, as vocab.json with merges.txt, and as ranks (`tiktoken.py`); the first two write a byte as a visible
character.
"""

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from glassformer.errors import TokenizerError, UnsupportedPipeline
from glassformer.files import write_file
from glassformer.tokenizers.base import AllowedSpecial, Tokenizer, check_allowed_special
from glassformer.tokenizers.byte_pieces import BytePieces, IdArray
from glassformer.tokenizers.merge_table import MergeTable
from glassformer.tokenizers.pretokenize import MANY, PATTERNS, split_pattern, without_surrogates
from glassformer.tokenizers.safe_blocks import LONGEST, in_order, safe_blocks
from glassformer.tokenizers.steps import EncodingStep, merging
from glassformer.tokenizers.tokenizer_json import BPE, check_added_ids, check_bpe, excerpt, expect
from glassformer.tokenizers.untrusted_files import Json, read_json, read_text, sibling
from glassformer.tokenizers.vocabulary import (
    check_no_gaps,
    checked_merges,
    checked_vocab,
    shorten,
    with_special_tokens,
)
from glassformer.twins import twin

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

IDS_AT_ONCE = 1 << 12  # that a stream has as a list
BYTE_LEVEL: Json = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
PATTERN_NAMES = {pattern: name for name, pattern in PATTERNS.items()} | {
    r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+": "gpt2",
}
"""Split patterns as published files spell them."""


@twin("glassformer.tokenizers.byte_level_fast")
def encode(
    text: str, pieces: BytePieces, goes_on: bool, *, in_little_memory: bool = False
) -> "tuple[list[int] | NDArray[np.int32], int]":
    """The ids of a text, of one that goes on but for its last two pre-tokens; and of how many characters.

    The twin has them in an array, and remembers fewer pieces `in_little_memory`.
    """
    return pieces.encode(text, goes_on)


@twin("glassformer.tokenizers.byte_level_fast")
def decode(ids: "Sequence[int] | IdArray", pieces: BytePieces) -> bytes:
    """The bytes of a sequence of tokens; an id that no token has stands for none."""
    return pieces.decode(ids)


class BPETokenizer(Tokenizer):
    """Byte-level BPE over `vocab` (id to bytes, special tokens included).

    `merges` in order of creation, as GPT-2 has them; None where only ranks are published (tiktoken): then a pair's
    rank is the id of its concatenation. Special tokens that `vocab` lacks get the next ids.
    With `whole_pieces`, a pre-token that is in the vocabulary is its own id, even if no merges lead there; rank-only
    vocabularies have it so.
    """

    method = "merges"

    def __init__(
        self,
        vocab: Mapping[int, bytes],
        merges: Sequence[tuple[bytes, bytes]] | None,
        special_tokens: Iterable[str] | None = None,
        pattern: str = "gpt2",
        *,
        whole_pieces: bool | None = None,
    ) -> None:
        """Take a vocabulary and its merges; `pattern` is the name of a split pattern."""
        vocab, special_ids = with_special_tokens(vocab, special_tokens or ())
        super().__init__(vocab, special_ids, split_pattern(pattern))
        self.pattern = pattern
        self.merges = None if merges is None else list(merges)
        self.whole_pieces = merges is None if whole_pieces is None else whole_pieces
        self._ids = self._ordinary_ids()
        self._table = self._merge_table()
        self._pieces = BytePieces(self.vocab, self._ids, self._table, pattern, self.whole_pieces)
        self._cache = self._pieces.cache
        self._n_characters = 0  # so far

    @classmethod
    def from_files(
        cls,
        vocab_path: str | os.PathLike[str],
        merges_path: str | os.PathLike[str],
        special_tokens: Iterable[str] | None = None,
        pattern: str = "gpt2",
    ) -> "BPETokenizer":
        """Read GPT-2's pair of files, vocab.json and merges.txt; only `special_tokens` are special."""
        vocab, merges = _vocab_of_file(Path(vocab_path)), _merges_of_file(Path(merges_path))
        return cls(vocab, merges, special_tokens, pattern)

    def _merge_table(self) -> MergeTable:
        if self.merges is not None:
            return MergeTable.from_merges(self.merges, self._ids)
        return MergeTable.from_ranks(self._ids, self._ids, self.vocab)

    def listed_merges(self) -> list[tuple[bytes, bytes]]:
        """The merges; for a vocabulary that has only ranks, merges that do the same."""
        if self.merges is not None:
            return self.merges
        return [(self.vocab[left], self.vocab[right]) for left, right in self._table.ranks]

    def encode_array(
        self, text: str, *, allowed_special: AllowedSpecial = "all", threads: int = 1
    ) -> "NDArray[np.int32]":
        """The ids that `encode` gives, in an array, by so many threads; kernels run without the interpreter's lock."""
        check_allowed_special(allowed_special)
        self._n_characters += len(text)
        with ThreadPoolExecutor(threads) as pool:
            run = partial(in_order, pool, n_waiting=4 * threads) if threads > 1 else map
            try:
                return _joined(run(self._encode_block, self._blocks(text, allowed_special, threads)), len(text) // 2)
            except UnicodeEncodeError:
                text = without_surrogates(text)
                return _joined(run(self._encode_block, self._blocks(text, allowed_special, threads)), len(text) // 2)

    def _blocks(self, text: str, allowed_special: AllowedSpecial, threads: int) -> Iterator[str | int]:
        """A text as blocks that are encoded by themselves, and the ids of special tokens between them."""
        for span, special in self._pretokenizer[allowed_special].spans(text):
            yield from safe_blocks(span, threads)
            if special is not None:
                yield self.special_tokens[special]

    def _encode_block(self, block: str | int) -> "Sequence[int] | NDArray[np.int32]":
        if isinstance(block, int):
            return [block]
        if len(block) > 2 * LONGEST:
            return _joined(self._ids_of_spans([block], "none", in_little_memory=False), len(block) // 2)
        if self._n_characters < MANY:
            return self._pieces.encode(block, False)[0]
        return encode(block, self._pieces, False)[0]

    def encode_batch(
        self, texts: Sequence[str], *, allowed_special: AllowedSpecial = "all", threads: int = 1
    ) -> "list[NDArray[np.int32]]":
        """The ids of each text, in an array, by so many threads; kernels run without the interpreter's lock."""
        self._n_characters += sum(map(len, texts))
        with ThreadPoolExecutor(threads) as pool:
            return list(pool.map(partial(self.encode_array, allowed_special=allowed_special), texts))

    def encode_arrays(
        self, chunks: Iterable[str], *, allowed_special: AllowedSpecial = "all"
    ) -> "Iterator[NDArray[np.int32]]":
        """The ids that `encode_iterable` gives, some at a time, in arrays."""
        import numpy as np

        for ids in self._ids_of_spans(chunks, allowed_special, in_little_memory=False):
            yield np.asarray(ids, np.int32)

    def _encode_whole(self, text: str, allowed_special: AllowedSpecial) -> list[int]:
        if self._n_characters + len(text) >= MANY:
            ids: list[int] = self.encode_array(text, allowed_special=allowed_special).tolist()
            return ids
        self._n_characters += len(text)
        return super()._encode_whole(text, allowed_special)

    def _encode(self, chunks: Iterable[str], allowed_special: AllowedSpecial) -> Iterator[list[int]]:
        for ids in self._ids_of_spans(chunks, allowed_special):
            if isinstance(ids, list):
                yield ids
            else:
                for start in range(0, len(ids), IDS_AT_ONCE):  # as numbers of Python, they take eight times the memory
                    yield ids[start : start + IDS_AT_ONCE].tolist()

    def _ids_of_spans(
        self, chunks: Iterable[str], allowed_special: AllowedSpecial, *, in_little_memory: bool = True
    ) -> "Iterator[list[int] | NDArray[np.int32]]":
        check_allowed_special(allowed_special)
        make = partial(self._encode_text, in_little_memory=in_little_memory)
        for ids, special in self._pretokenizer[allowed_special].each(chunks, make):
            yield ids
            if special is not None:
                yield [self.special_tokens[special]]

    def _encode_text(
        self, text: str, goes_on: bool, *, in_little_memory: bool
    ) -> "tuple[list[int] | NDArray[np.int32], int]":
        self._n_characters += len(text)
        if self._n_characters < MANY:
            return self._pieces.encode(text, goes_on)
        return encode(text, self._pieces, goes_on, in_little_memory=in_little_memory)

    def _encode_pre_token(self, pre_token: str) -> list[int]:
        return self._pieces.encode_piece(pre_token)

    def _steps(self, pre_token: str) -> tuple[list[bytes], list[EncodingStep]]:
        symbols = self._pieces.symbols(pre_token.encode())
        return self._bytes_of(symbols), list(merging(symbols, self._table, self.token_bytes))

    def decode_bytes(self, ids: "Iterable[int] | IdArray") -> bytes:
        """The bytes of a sequence of tokens, of an array too; an id that no token has stands for none."""
        sequence: Any = ids if hasattr(ids, "astype") or isinstance(ids, list) else list(ids)
        self._n_characters += len(sequence)
        return self._pieces.decode(sequence) if self._n_characters < MANY else decode(sequence, self._pieces)

    def _ordinary_ids(self) -> dict[bytes, int]:
        """Bytes to id, without the special tokens; a special token that is a single byte stays a byte."""
        ids: dict[bytes, int] = {}
        merged = {left + right for left, right in self.merges or ()}
        for id, token in self.vocab.items():
            if id in self._special_ids and len(token) > 1 and token not in merged:
                continue
            if token in ids:
                raise TokenizerError(
                    f"the tokens {ids[token]} and {id} are both {shorten(token)}: expected no doubles."
                )
            ids[token] = id
        return ids

    # ---- tokenizer.json

    def to_json(self) -> Json:
        """A BPE model whose tokens are in printable characters, behind a ByteLevel pre-tokenizer."""
        merges = [[to_printable(left), to_printable(right)] for left, right in self.listed_merges()]
        merged = {left + right for left, right in merges}
        vocab: dict[str, int] = {}
        special = {id: text for text, id in self.special_tokens.items()}
        for id, token in sorted(self.vocab.items()):
            printable = to_printable(token)
            text = special.get(id, printable) if len(token) > 1 and printable not in merged else printable
            if text in vocab:
                raise TokenizerError(
                    f"tokenizer.json cannot hold the special token {excerpt(text)}: another is written the same."
                )
            vocab[text] = id
        split = {
            "type": "Split",
            "pattern": {"Regex": PATTERNS[self.pattern]},
            "behavior": "Isolated",
            "invert": False,
        }
        sequence = {"type": "Sequence", "pretokenizers": [split, BYTE_LEVEL | {"use_regex": False}]}
        return {
            "normalizer": None,
            "pre_tokenizer": BYTE_LEVEL if self.pattern == "gpt2" else sequence,
            "decoder": BYTE_LEVEL,
            "model": BPE | {"ignore_merges": self.whole_pieces, "vocab": vocab, "merges": merges},
        }

    @classmethod
    def from_json(cls, path: Path, file: Json, special_tokens: Mapping[str, int]) -> "BPETokenizer":
        """The same read again, and what other programs write of byte-level BPE with one of the split patterns."""
        model = file["model"]
        check_bpe(path, model, {"fuse_unk", "ignore_merges", "unk_token"})
        expect(path, "normalizer", file.get("normalizer"), [None])
        pattern = _pattern_name(path, file.get("pre_tokenizer"))
        decoder = file.get("decoder")
        if not isinstance(decoder, dict) or decoder.get("type") != "ByteLevel":
            raise UnsupportedPipeline(f"{path}: the decoder is {excerpt(decoder)}, and byte-level BPE has ByteLevel.")
        whole_pieces = model.get("ignore_merges", False)
        if not isinstance(whole_pieces, bool):
            raise TokenizerError(f"{path}: ignore_merges is {excerpt(whole_pieces)}, expected true or false.")
        printable = checked_vocab(path, model.get("vocab"))
        check_added_ids(path, printable, special_tokens)
        special_ids = set(special_tokens.values())
        ordinary = {id: from_printable(text) for text, id in printable.items() if id not in special_ids}
        check_no_gaps(path, ordinary, special_ids)
        bytes_of = set(ordinary.values())
        if not bytes_of.isdisjoint(text.encode() for text in special_tokens):
            raise UnsupportedPipeline(f"{path}: an added token has the bytes of an ordinary one.")
        if model.get("unk_token") is not None and not bytes_of.issuperset(bytes([byte]) for byte in range(256)):
            raise UnsupportedPipeline(f"{path}: bytes that the vocabulary lacks become {excerpt(model['unk_token'])}.")
        vocab = ordinary | {id: text.encode() for text, id in special_tokens.items()}
        merges = _merges_from_printable(path, model.get("merges"))
        return cls(vocab, merges, special_tokens, pattern, whole_pieces=whole_pieces)


def _joined(parts: "Iterable[Sequence[int] | NDArray[np.int32]]", n_expected: int) -> "NDArray[np.int32]":
    """All ids in one array, whose memory is used as far as ids are in it."""
    import numpy as np

    ids, n = np.empty(n_expected, np.int32), 0
    for part in parts:
        end = n + len(part)
        if end > len(ids):
            ids, fewer = np.empty(2 * end, np.int32), ids
            ids[:n] = fewer[:n]
        ids[n:end] = part
        n = end
    ids.resize(n, refcheck=False)
    return ids


def _pattern_name(path: Path, pre_tokenizer: object) -> str:
    """The name of the split pattern that a byte-level pre-tokenizer uses."""
    match pre_tokenizer:
        case {"type": "ByteLevel", "add_prefix_space": False, **options} if options.get("use_regex", True) is True:
            return "gpt2"
        case {
            "type": "Sequence",
            "pretokenizers": [
                {"type": "Split", "pattern": {"Regex": str(pattern)}, "behavior": behavior, "invert": invert},
                {"type": "ByteLevel", "add_prefix_space": False, "use_regex": False},
            ],
        } if pattern in PATTERN_NAMES and (behavior, invert) in {("Isolated", False), ("Removed", True)}:
            return PATTERN_NAMES[pattern]
    raise UnsupportedPipeline(
        f"{path}: the pre-tokenizer {excerpt(pre_tokenizer)} is not supported: expected ByteLevel, or the split "
        f"pattern of {', '.join(PATTERNS)} before it."
    )


# ---- bytes in printable characters


def _printable_bytes() -> dict[int, str]:
    """GPT-2's way to write any byte as a visible character: itself where it is one, else the next from U+0100 on."""
    visible = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    hidden = [byte for byte in range(256) if byte not in visible]
    return {byte: chr(byte) for byte in visible} | {byte: chr(256 + i) for i, byte in enumerate(hidden)}


_PRINTABLE = _printable_bytes()
_NO_BYTE = 0xFFFF
_FROM_PRINTABLE = dict.fromkeys(range(256), _NO_BYTE) | {ord(character): byte for byte, character in _PRINTABLE.items()}


def to_printable(token: bytes) -> str:
    """The token in GPT-2's printable characters, as vocab.json, merges.txt and tokenizer.json have it."""
    return token.decode("latin-1").translate(_PRINTABLE)


def from_printable(text: str) -> bytes:
    """The bytes that GPT-2's printable characters stand for."""
    try:
        return text.translate(_FROM_PRINTABLE).encode("latin-1")
    except UnicodeEncodeError as error:
        raise TokenizerError(
            f"the token {text[:40]!r} has the character {text[error.start]!r}, which stands for no byte: "
            "expected a byte-level vocabulary, as GPT-2's."
        ) from None


# ---- vocab.json and merges.txt, or encoder.json and vocab.bpe


PAIRS = (("vocab.json", "merges.txt"), ("encoder.json", "vocab.bpe"))  # by the names of Hugging Face, and of OpenAI


def read_vocab_and_merges(path: Path, pattern: str | None = None) -> BPETokenizer:
    """GPT-2's pair of files, of which `path` is one. What no merge makes, and is no byte, can only be special."""
    of_vocab, of_merges = next(pair for pair in PAIRS if path.name.endswith(pair))
    prefix = path.name.removesuffix(of_vocab).removesuffix(of_merges)
    vocab = _vocab_of_file(sibling(path, f"{prefix}{of_vocab}"))
    merges = _merges_of_file(sibling(path, f"{prefix}{of_merges}"))
    merged = {left + right for left, right in merges}
    special = [token for token in vocab.values() if len(token) > 1 and token not in merged]
    try:
        return BPETokenizer(vocab, merges, [token.decode() for token in special], pattern or "gpt2")
    except UnicodeDecodeError:
        raise TokenizerError(
            f"{path}: some tokens that no merge makes are not UTF-8; merges.txt is cut short."
        ) from None


def write_vocab_and_merges(tokenizer: BPETokenizer, directory: Path) -> tuple[Path, Path]:
    """Write vocab.json and merges.txt, which people can read; returns their paths."""
    if tokenizer.merges is None:
        raise TokenizerError("this vocabulary has ranks and no merges: save it as tokenizer.json instead.")
    vocab = {to_printable(token): id for id, token in sorted(tokenizer.vocab.items())}
    lines = [f"{to_printable(left)} {to_printable(right)}" for left, right in tokenizer.merges]
    vocab_path, merges_path = directory / "vocab.json", directory / "merges.txt"
    write_file(vocab_path, json.dumps(vocab, ensure_ascii=False).encode())
    write_file(merges_path, "\n".join(["#version: 0.2", *lines, ""]).encode())
    return vocab_path, merges_path


def _vocab_of_file(path: Path) -> dict[int, bytes]:
    """The vocabulary of vocab.json: token to id there, id to bytes here."""
    vocab = {id: from_printable(text) for text, id in checked_vocab(path, read_json(path)).items()}
    check_no_gaps(path, vocab)
    return vocab


def _merges_of_file(path: Path) -> list[tuple[bytes, bytes]]:
    """The merges of merges.txt, a pair a line, perhaps after a line with a version."""
    lines = read_text(path).replace("\r\n", "\n").split("\n")
    merges = [line for number, line in enumerate(lines) if line and not (number == 0 and line.startswith("#version"))]
    return _merges_from_printable(path, merges)


def _merges_from_printable(path: Path, merges: object) -> list[tuple[bytes, bytes]]:
    """Merges as lines `left right` or as pairs, in printable characters."""
    pairs = checked_merges(path, merges)
    token_of = {text: from_printable(text) for text in {text for pair in pairs for text in pair}}
    return [(token_of[left], token_of[right]) for left, right in pairs]
