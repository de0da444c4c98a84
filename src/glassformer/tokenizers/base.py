"""What every tokenizer does: text to ids, ids to text, as a whole or as a stream.

A tokenizer is a vocabulary (id to bytes), a way to cut text into pre-tokens (`pretokenize.py`), and a way to turn one
pre-token into ids. In the last the kinds of tokenizers differ: `byte_level.py`, `sentencepiece.py`, `wordpiece.py`,
`word_level.py`, `char.py`, `subword.py`, `marian.py`. `formats.py` has the files that they are published in.
"""

import codecs
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from glassformer.errors import TokenizerError
from glassformer.files import write_file
from glassformer.tokenizers.piece_cache import PieceCache
from glassformer.tokenizers.pretokenize import PreTokenizer
from glassformer.tokenizers.steps import EncodingStep, Method, PreToken
from glassformer.tokenizers.tokenizer_json import dump, template_processing
from glassformer.tokenizers.untrusted_files import Json

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

AllowedSpecial = Literal["all", "none"]

END_TOKENS = ("<|end_of_text|>", "<|endoftext|>", "</s>", "<eos>")  # where no file says what ends a text

REPLACEMENT = "\ufffd"
EACH_BYTE = "glassformer.each-byte"  # how bytes that are not UTF-8 become text, as "replace" is another way
WATCHED_CHARACTERS = 64  # of a pre-token whose merges `steps` lists one by one: n merges have n² / 2 symbols


class Tokenizer(ABC):
    """Text to token ids and back; the base of all tokenizers.

    A model reads a text between `begin_ids` and `end_ids`, as the tokenizer's files declare; `encode` adds them where
    it is asked to (`special`). `bos_id` and `eos_id` are the tokens that stand for the beginning and the end of texts,
    whether they are added or not. A `post_processor` is that of the file, and goes along when it is saved.
    """

    post_processor: Json | None = None
    begin_ids: tuple[int, ...] = ()
    end_ids: tuple[int, ...] = ()
    bos_id: int | None = None
    eos_id: int | None = None
    not_special: frozenset[int] = frozenset()  # added tokens that a file calls not special, such as <think>

    method: Method = "look-up"  # how a pre-token becomes tokens, for `steps`
    broken_bytes = "replace"  # how bytes that are not UTF-8 become text: one U+FFFD for a character cut short
    byte_runs: frozenset[int] = frozenset()  # byte tokens of which a run is text if all of it is UTF-8

    # `formats.py`, which imports every kind, fills these in: a base class cannot import those that derive from it.
    _load: ClassVar[Callable[[Path, str | None], "Tokenizer"]]
    _train: ClassVar[Callable[..., "Tokenizer"]]

    def __init__(self, vocab: Mapping[int, bytes], special_tokens: Mapping[str, int], pattern: str) -> None:
        """Take a vocabulary, the special tokens in it, and the regular expression that cuts text into pre-tokens."""
        self.vocab = dict(vocab)
        self.special_tokens = dict(special_tokens)
        self._special_ids = frozenset(self.special_tokens.values())
        self.eos_id = next((self.special_tokens[name] for name in END_TOKENS if name in self.special_tokens), None)
        self._pretokenizer = {
            "all": PreTokenizer(pattern, self.special_tokens),
            "none": PreTokenizer(pattern),
        }
        self._cache = PieceCache(self._encode_pre_token)

    # ---- making one

    @staticmethod
    def train(
        files: str | os.PathLike[str] | Iterable[str | os.PathLike[str]],
        vocab_size: int,
        special_tokens: Sequence[str] = (),
        *,
        pattern: str = "gpt2",
        field: str = "text",
        workers: int | None = None,
        ray: str = "",
        progress: Callable[[str, int, int], None] | None = None,
    ) -> "Tokenizer":
        """Learn byte-level BPE from text files of any size; `vocab_size` counts bytes, merges and special tokens.

        Files may be texts, or documents, `field` in each: .jsonl and .parquet; packed as .gz or .zst they stay so.
        `workers` processes count the pre-tokens (None: one for small files, else one a core), or the Ray cluster at an
        address;
        `progress(stage, done, total)` is called now and then.
        """
        return Tokenizer._train(
            files, vocab_size, special_tokens, pattern=pattern, field=field, workers=workers, ray=ray, progress=progress
        )

    @staticmethod
    def load(path: str | os.PathLike[str], *, pattern: str | None = None) -> "Tokenizer":
        """Read a tokenizer: a directory, tokenizer.json, vocab.json with merges.txt, *.tiktoken, tok*.bin or *.model.

        tiktoken's files do not say how text is split: `pattern` does, where the name is not a published one.
        """
        return Tokenizer._load(Path(path), pattern)

    # ---- keeping it

    def save(self, directory: str | os.PathLike[str], *, overwrite: bool = False) -> Path:
        """Write `tokenizer.json`, which the `tokenizers` library loads as well; returns its path."""
        return self.write_tokenizer_json(Path(directory), overwrite=overwrite)

    def write_tokenizer_json(
        self, directory: Path, post_processor: Json | None = None, *, overwrite: bool = False
    ) -> Path:
        """Write tokenizer.json into a directory, whole or not at all; `post_processor` stands for `template()`."""
        path = directory / "tokenizer.json"
        write_file(path, self.tokenizer_json(post_processor).encode(), overwrite=overwrite)
        return path

    def tokenizer_json(self, post_processor: Json | None = None) -> str:
        """The text of tokenizer.json, all that encoding depends on; of what it is read as, the text is the same again.

        `post_processor` says which tokens other programs put around a text; None: as `template()` does.
        """
        return dump(self.to_json(), self.special_tokens, post_processor or self.template(), self.not_special)

    def template(self) -> Json | None:
        """The post-processor that puts `begin_ids` and `end_ids` around a text: the file's own, if it has one.

        None: nothing is put there.
        """
        if self.post_processor is not None:
            return self.post_processor
        return template_processing(self.special_tokens, self.begin_ids, self.end_ids)

    def begin_with(self, token: str) -> None:
        """Let this special token begin every text that a model reads; it is saved with the tokenizer."""
        if token not in self.special_tokens:
            raise TokenizerError(f"{token!r} is none of the special tokens of a {type(self).__name__}.")
        self.bos_id = self.special_tokens[token]
        self.begin_ids, self.post_processor = (self.bos_id,), None

    def to_json(self) -> Json:
        """The parts of tokenizer.json that make this tokenizer: normalizer, pre_tokenizer, decoder and model."""
        raise TokenizerError(f"a {type(self).__name__} has no form in tokenizer.json.")

    @classmethod
    def from_json(cls, path: Path, file: Json, special_tokens: Mapping[str, int]) -> "Tokenizer":
        """The tokenizer that these parts of a file describe; a part that is not followed exactly is a TokenizerError.

        `special_tokens` are the file's added tokens. `path` is for messages.
        """
        raise TokenizerError(f"{path}: a {cls.__name__} has no form in tokenizer.json.")

    # ---- text to ids

    @abstractmethod
    def _encode_pre_token(self, pre_token: str) -> list[int]:
        """The ids of one pre-token, a span of text that no token crosses."""

    def encode(self, text: str, *, special: bool = False, allowed_special: AllowedSpecial = "all") -> list[int]:
        """The ids of a text; with `special`, between the tokens that open and close one for the model.

        With `allowed_special="none"`, special tokens that are written in it are text like any other.
        """
        ids = self._encode_whole(text, allowed_special)
        return [*self.begin_ids, *ids, *self.end_ids] if special else ids

    def _encode_whole(self, text: str, allowed_special: AllowedSpecial) -> list[int]:
        ids: list[int] = []
        for ids_of_block in self._encode([text], allowed_special):
            ids += ids_of_block
        return ids

    def encode_iterable(self, chunks: Iterable[str], *, allowed_special: AllowedSpecial = "all") -> Iterator[int]:
        """The ids of the joined chunks, one at a time, in constant memory, wherever the chunks are cut."""
        for block in self._encode(chunks, allowed_special):
            yield from block

    def encode_arrays(
        self, chunks: Iterable[str], *, allowed_special: AllowedSpecial = "all"
    ) -> "Iterator[NDArray[np.int32]]":
        """The ids that `encode_iterable` gives, some at a time, in arrays."""
        import numpy as np

        for ids in self._encode(chunks, allowed_special):
            yield np.asarray(ids, np.int32)

    def _encode(self, chunks: Iterable[str], allowed_special: AllowedSpecial) -> Iterator[list[int]]:
        check_allowed_special(allowed_special)
        cache, at_beginning = self._cache, True
        for split, special in self._pretokenizer[allowed_special].stream(chunks):
            pre_tokens = [self._begin(split[0]), *split[1:]] if split and at_beginning else split
            ids: list[int] = []
            for pre_token in pre_tokens:
                ids += cache[pre_token]
            if special is not None:
                ids.append(self.special_tokens[special])
            at_beginning = special is not None or (at_beginning and not pre_tokens)
            yield ids

    def _begin(self, pre_token: str) -> str:
        """The first pre-token of a text, or of the text after a special token, as it is to be encoded."""
        return pre_token

    # ---- the same, to be watched

    def _steps(self, pre_token: str) -> tuple[list[bytes], list[EncodingStep]]:
        """The symbols of a pre-token at first, and the steps that lead to its tokens; a look-up has none."""
        return self._bytes_of(self._encode_pre_token(pre_token)), []

    def steps(self, text: str, *, allowed_special: AllowedSpecial = "all") -> list[PreToken]:
        """What `encode` does with a text, pre-token by pre-token; the ids together are those that it returns.

        The steps are those of `method`. Long pre-tokens have none.
        """
        steps: list[PreToken] = []
        at_beginning = True
        for split, special in self._pretokenizer[allowed_special].stream([text]):
            for span in split:
                pre_token = self._begin(span) if at_beginning else span
                at_beginning = False
                ids = self._encode_pre_token(pre_token)
                steps.append(self._watched(span, ids, pre_token))
            if special is not None:
                id = self.special_tokens[special]
                steps.append(PreToken(text=special, ids=[id], begin=self._bytes_of([id]), steps=[], special=True))
                at_beginning = True
        return steps

    def _watched(self, text: str, ids: list[int], word: str) -> PreToken:
        """A span of text that became these ids, and the steps of the word that was made of it."""
        tokens = self._bytes_of(ids)
        begin, steps = self._steps(word) if len(word) <= WATCHED_CHARACTERS else (tokens, [])
        if [begin, *(step.symbols for step in steps)][-1] != tokens:  # it is in the vocabulary as a whole
            steps = [EncodingStep(symbols=tokens, at=0)]
        return PreToken(text=text, ids=ids, begin=begin, steps=steps)

    def _bytes_of(self, ids: Iterable[int]) -> list[bytes]:
        return list(map(self.token_bytes, ids))

    # ---- ids to text

    def token_bytes(self, id: int) -> bytes:
        """The bytes that one token stands for; they need not be whole characters."""
        try:
            return self.vocab[id]
        except KeyError:
            raise TokenizerError(
                f"{id} is no token id: this vocabulary has {len(self.vocab)} tokens, the last is {self.vocab_size - 1}."
            ) from None

    def bytes_after(self, previous: int | None, id: int) -> bytes:
        """The bytes that `id` adds to a text whose last token was `previous` (None: at the beginning)."""
        return self.token_bytes(id)

    def decode_bytes(self, ids: Iterable[int]) -> bytes:
        """The bytes of a sequence of tokens; an id that no token has stands for none."""
        parts, previous = [], None
        for id in filter(self.vocab.__contains__, ids):  # a model may have rows that no token has
            parts.append(self.bytes_after(previous, id))
            previous = id
        return b"".join(parts)

    def decode(self, ids: Iterable[int]) -> str:
        """The text of a sequence of tokens, with U+FFFD where its bytes are not UTF-8."""
        if not self.byte_runs:
            return self.decode_bytes(ids).decode(errors=self.broken_bytes)
        stream = self.stream()
        return "".join([*map(stream.push, ids), stream.finish()])

    def stream(self, after: Iterable[int] = ()) -> "TextStream":
        """A decoder that takes one id at a time, for text that follows the tokens `after`."""
        return TextStream(self, after)

    # ---- facts

    @property
    def added_tokens(self) -> Mapping[str, int]:
        """Text to id of all that is looked for in a text as a whole: the special tokens, and perhaps others."""
        return self.special_tokens

    @property
    def skipped_ids(self) -> frozenset[int]:
        """The special tokens, which are no part of an answer: without those that a file calls not special."""
        return self._special_ids - self.not_special

    @property
    def vocab_size(self) -> int:
        """One more than the largest id: the rows that an embedding needs."""
        return max(self.vocab) + 1

    def __repr__(self) -> str:
        """The kind, the size of the vocabulary and the special tokens."""
        return f"{type(self).__name__}(vocab_size={self.vocab_size}, special_tokens={list(self.special_tokens)})"


class TextStream:
    """Ids in, text out, as soon as its characters are whole; the parts together are the text of all ids."""

    def __init__(self, tokenizer: Tokenizer, after: Iterable[int] = ()) -> None:
        """Decode what follows the tokens `after`, whose own text is not given out again."""
        self._tokenizer = tokenizer
        self._decoder = codecs.getincrementaldecoder("utf-8")(tokenizer.broken_bytes)
        self._previous: int | None = None
        self._run = b""
        for id in after:
            self.push(id)
        before = codecs.getincrementaldecoder("utf-8")("replace")
        before.decode(self._run)
        self._run = before.getstate()[0]  # of a run in `after`, a character that goes on here

    def push(self, id: int) -> str:
        """The characters that `id` completes, perhaps none."""
        if id not in self._tokenizer.vocab:
            return ""
        data = self._tokenizer.bytes_after(self._previous, id)
        self._previous = id
        if id in self._tokenizer.byte_runs:
            self._run += data
            return ""
        return self._end_run() + self._decoder.decode(data)

    def finish(self) -> str:
        """What a text that ends here still owes: a run of bytes, U+FFFD for a character cut short, or nothing."""
        return self._end_run() + self._decoder.decode(b"", final=True)

    def _end_run(self) -> str:
        """The text of the byte tokens in a row that end here: as the `tokenizers` library has it, all of it or none."""
        run, self._run = self._run, b""
        try:
            return run.decode()
        except UnicodeDecodeError:
            return REPLACEMENT * len(run)


def _each_byte(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeDecodeError):
        raise error
    return REPLACEMENT * (error.end - error.start), error.end


codecs.register_error(EACH_BYTE, _each_byte)


def check_allowed_special(allowed_special: str) -> None:
    """Raise unless it says which special tokens a text may write."""
    if allowed_special not in ("all", "none"):
        raise TokenizerError(f'allowed_special={allowed_special!r}: expected "all" or "none".')
