"""What every tokenizer does: text to ids, ids to text, as a whole or as a stream.

A tokenizer is a vocabulary (id to bytes), a way to cut text into pieces (`pretokenize.py`), and a way to turn one piece
into ids (`bpe.py`, `sentencepiece.py`, `char.py`). `Tokenizer.train` and `Tokenizer.load` make one.
"""

import codecs
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from glassformer.errors import TokenizerError
from glassformer.tokenizers.pretokenize import BLOCK, PreTokenizer

if TYPE_CHECKING:
    from glassformer.tokenizers.bpe import BPETokenizer

AllowedSpecial = Literal["all", "none"]

BEGIN_TOKENS = ("<|begin_of_text|>", "<|startoftext|>", "<s>", "<bos>")
END_TOKENS = ("<|end_of_text|>", "<|endoftext|>", "</s>", "<eos>")

CACHED_PIECES = 1 << 16
CACHED_CHARACTERS = 64  # longer pieces seldom come again
WATCHED = 64  # characters of a piece whose merges `steps` lists one by one: n merges have n² / 2 symbols


class Tokenizer(ABC):
    """Text to token ids and back; the base of all tokenizers.

    `encode` adds nothing to the text: who wants a begin or end token puts `bos_id` or `eos_id` there. What the
    tokenizer.json that it came from lets other programs add is its `post_processor`, which goes along when it is saved.
    """

    post_processor: dict[str, Any] | None = None

    def __init__(self, vocab: Mapping[int, bytes], special_tokens: Mapping[str, int], pattern: str) -> None:
        self.vocab = dict(vocab)
        self.special_tokens = dict(special_tokens)
        self._special_ids = frozenset(self.special_tokens.values())
        self._pretokenizer = {
            "all": PreTokenizer(pattern, self.special_tokens),
            "none": PreTokenizer(pattern),
        }
        self._cache: dict[str, list[int]] = {}

    # ---- making one

    @staticmethod
    def train(
        files: str | os.PathLike[str] | Iterable[str | os.PathLike[str]],
        vocab_size: int,
        special_tokens: Sequence[str] = (),
        *,
        pattern: str = "gpt2",
        workers: int | None = None,
        progress: Callable[[str, int, int], None] | None = None,
    ) -> "BPETokenizer":
        """Learn byte-level BPE from text files of any size; `vocab_size` counts bytes, merges and special tokens.

        `workers` processes count the pre-tokens (None: one for small files, else one a core);
        `progress(stage, done, total)` is called now and then.
        """
        from glassformer.tokenizers.bpe import BPETokenizer
        from glassformer.tokenizers.bpe_train import train_bpe

        vocab, merges = train_bpe(
            files, vocab_size, special_tokens, pattern=pattern, workers=workers, progress=progress
        )
        return BPETokenizer(vocab, merges, special_tokens, pattern=pattern)

    @staticmethod
    def load(path: str | os.PathLike[str], *, pattern: str | None = None) -> "Tokenizer":
        """Read a tokenizer: a directory, tokenizer.json, vocab.json with merges.txt, *.tiktoken, tok*.bin or *.model.

        tiktoken's files do not say how text is split: `pattern` does, where the name is not a published one.
        """
        from glassformer.tokenizers.bpe_files import load

        return load(Path(path), pattern)

    def save(self, directory: str | os.PathLike[str], *, overwrite: bool = False) -> Path:
        """Write `tokenizer.json`, which the `tokenizers` library loads as well; returns its path."""
        from glassformer.tokenizers.tokenizer_json import write_tokenizer_json

        return write_tokenizer_json(self, Path(directory), overwrite=overwrite)

    # ---- text to ids

    @abstractmethod
    def _encode_piece(self, piece: str) -> list[int]:
        """The ids of one piece of text, which no token crosses."""

    def encode(self, text: str, *, allowed_special: AllowedSpecial = "all") -> list[int]:
        """The ids of a text; with `allowed_special="none"`, special tokens in it are text like any other."""
        ids: list[int] = []
        for block in self._encode((text[i : i + BLOCK] for i in range(0, len(text), BLOCK)), allowed_special):
            ids += block
        return ids

    def encode_iterable(self, chunks: Iterable[str], *, allowed_special: AllowedSpecial = "all") -> Iterator[int]:
        """The ids of the joined chunks, one at a time, in constant memory, wherever the chunks are cut."""
        for block in self._encode(chunks, allowed_special):
            yield from block

    def _encode(self, chunks: Iterable[str], allowed_special: AllowedSpecial) -> Iterator[list[int]]:
        if allowed_special not in self._pretokenizer:
            raise TokenizerError(f'allowed_special={allowed_special!r}: expected "all" or "none".')
        cache, beginning = self._cache, True
        for split, special in self._pretokenizer[allowed_special].stream(chunks):
            pieces = [self._begin(split[0]), *split[1:]] if split and beginning else split
            ids: list[int] = []
            for piece in pieces:
                known = cache.get(piece)
                ids += self._encode_new(piece) if known is None else known
            if special is not None:
                ids.append(self.special_tokens[special])
            beginning = special is not None or (beginning and not pieces)
            yield ids

    def _begin(self, piece: str) -> str:
        """The first piece of a stretch of text between special tokens, as it is to be encoded."""
        return piece

    def _encode_new(self, piece: str) -> list[int]:
        ids = self._encode_piece(piece)
        if len(piece) <= CACHED_CHARACTERS:
            if len(self._cache) >= CACHED_PIECES:
                self._cache.clear()
            self._cache[piece] = ids
        return ids

    # ---- the same, to be watched

    def _merging(self, piece: str) -> list[list[int]]:
        """The symbols of a piece at first and after each merge; a tokenizer that merges nothing has its ids at once."""
        return [self._encode_piece(piece)]

    def steps(self, text: str, *, allowed_special: AllowedSpecial = "all") -> list["Piece"]:
        """What `encode` does with a text, piece by piece; the ids together are those that it returns."""
        found: list[Piece] = []
        beginning = True
        for split, special in self._pretokenizer[allowed_special].stream([text]):
            for piece in split:
                given = self._begin(piece) if beginning else piece
                beginning = False
                ids = self._encode_piece(given)
                rows = self._merging(given) if len(given) <= WATCHED else []
                rows = rows if rows[-1:] == [ids] else [*rows[:1], ids]  # whole pieces come about without merges
                found.append(Piece(text=piece, ids=ids, symbols=[list(map(self.token_bytes, row)) for row in rows]))
            if special is not None:
                id = self.special_tokens[special]
                found.append(Piece(text=special, ids=[id], symbols=[[self.token_bytes(id)]], special=True))
                beginning = True
        return found

    # ---- ids to text

    def token_bytes(self, id: int) -> bytes:
        """The bytes that one token stands for; they need not be whole characters."""
        try:
            return self.vocab[id]
        except KeyError:
            raise TokenizerError(
                f"{id} is no token id: this vocabulary has {len(self.vocab)} tokens, the last is {self.vocab_size - 1}."
            ) from None

    def _bytes_after(self, previous: int | None, id: int) -> bytes:
        """The bytes that `id` adds to a text whose last token was `previous` (None: at the beginning)."""
        return self.token_bytes(id)

    def decode_bytes(self, ids: Iterable[int]) -> bytes:
        """The bytes of a sequence of tokens."""
        pieces, previous = [], None
        for id in ids:
            pieces.append(self._bytes_after(previous, id))
            previous = id
        return b"".join(pieces)

    def decode(self, ids: Iterable[int]) -> str:
        """The text of a sequence of tokens, with U+FFFD where its bytes are not UTF-8."""
        return self.decode_bytes(ids).decode(errors="replace")

    def stream(self, after: Iterable[int] = ()) -> "TextStream":
        """A decoder that takes one id at a time, for text that follows the tokens `after`."""
        return TextStream(self, after)

    # ---- facts

    @property
    def vocab_size(self) -> int:
        """One more than the largest id: the rows that an embedding needs."""
        return max(self.vocab) + 1

    @property
    def bos_id(self) -> int | None:
        """The special token that begins a text, if the vocabulary has one."""
        return self._first_of(BEGIN_TOKENS)

    @property
    def eos_id(self) -> int | None:
        """The special token that ends a text, if the vocabulary has one."""
        return self._first_of(END_TOKENS)

    def _first_of(self, names: Iterable[str]) -> int | None:
        return next((self.special_tokens[name] for name in names if name in self.special_tokens), None)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(vocab_size={self.vocab_size}, special_tokens={list(self.special_tokens)})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """A stretch of text that no token crosses; its symbols at first and after each merge, the last being its tokens."""

    text: str
    ids: list[int]
    symbols: list[list[bytes]]
    special: bool = False


class TextStream:
    """Ids in, text out, as soon as its characters are whole; the pieces together are the text of all ids."""

    def __init__(self, tokenizer: Tokenizer, after: Iterable[int] = ()) -> None:
        self._tokenizer = tokenizer
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._previous: int | None = None
        for id in after:
            self.push(id)

    def push(self, id: int) -> str:
        """The characters that `id` completes, perhaps none."""
        data = self._tokenizer._bytes_after(self._previous, id)
        self._previous = id
        return self._decoder.decode(data)

    def finish(self) -> str:
        """What a text that ends here still owes: U+FFFD for a character cut short, else nothing."""
        return self._decoder.decode(b"", final=True)
