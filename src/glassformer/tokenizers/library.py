"""Any other tokenizer.json: its pipeline is run by the `tokenizers` library, behind the interface of `base.py`.

What a file may cost is bounded before the library reads it: patterns (`foreign_patterns.py`), how much a text may grow,
the sizes of vocabularies. Our own classes, which need no library, have the pipelines that they follow exactly.
"""

import base64
import binascii
import importlib
import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cached_property, partial
from itertools import groupby, pairwise
from pathlib import Path
from typing import Any, TypeVar

from glassformer.errors import TokenizerError
from glassformer.tokenizers.base import WATCHED_CHARACTERS, AllowedSpecial, Tokenizer, check_allowed_special
from glassformer.tokenizers.byte_level import from_printable
from glassformer.tokenizers.foreign_patterns import MOST_REPETITIONS, check_pattern
from glassformer.tokenizers.library_steps import BYTE_PIECE, ModelSteps
from glassformer.tokenizers.library_stream import PATTERNS_OF_STEPS, can_be_cut, last_cut
from glassformer.tokenizers.patience import within_reason
from glassformer.tokenizers.pretokenize import SCANNED_AGAIN, without_surrogates
from glassformer.tokenizers.special_tokens import SpecialTokens
from glassformer.tokenizers.steps import PreToken
from glassformer.tokenizers.tokenizer_json import excerpt
from glassformer.tokenizers.untrusted_files import Json
from glassformer.tokenizers.vocabulary import MAX_VOCAB_SIZE, checked_merges, checked_vocab
from glassformer.tokenizers.wordpiece import LONGEST_WORD, MAX_LONGEST_WORD

T = TypeVar("T")

LONGEST_TEXT = 1 << 24  # characters that are encoded at once, since a pipeline may look anywhere
LONGEST_STRING = 1 << 10  # characters of a piece, and of what a pipeline looks for
LONGEST_SCORED = 1 << 7  # characters of a unigram piece: each place of a text is looked up with pieces of all lengths
MAX_NODES = 1 << 21  # of a unigram vocabulary's tree of bytes, each of which takes some 350 bytes
MAX_STEPS = 64  # of a normalizer, a pre-tokenizer or a decoder
MAX_GROWTH = 1 << 8  # how many characters may come of one
LONGEST_NORMAL_FORM = 1 << 8  # bytes that one character may become by sentencepiece's table
BEFORE = "a"  # a piece before another one, which then is not the first of its text


class LibraryTokenizer(Tokenizer):
    """The tokenizer of a tokenizer.json, as the library reads it; `file` is its text, which is saved as it is."""

    def __init__(self, file: str) -> None:
        """Take the text of a tokenizer.json whose cost has been checked."""
        self.file = file
        self._content: Json = json.loads(file)
        self._library = {"all": self._build(with_special=True)}
        added = self._content.get("added_tokens") or []
        self._added_tokens: dict[str, int] = {each["content"]: each["id"] for each in added}
        self._added = SpecialTokens(self._added_tokens)
        steps = [*steps_of(self._content.get("normalizer")), *steps_of(self._content.get("pre_tokenizer"))]
        self._has_unknown_patterns = not PATTERNS_OF_STEPS.issuperset(filter(None, map(regex_of, steps)))
        self._is_given_up = False
        pieces: dict[str, int] = self._library["all"].get_vocab(with_added_tokens=True)
        self._pieces = {id: piece for piece, id in pieces.items()}
        decoders = {step.get("type") for step in steps_of(self._content.get("decoder"))}
        self._byte_level, self._has_byte_pieces = "ByteLevel" in decoders, "ByteFallback" in decoders
        self.byte_runs = frozenset(id for id, piece in self._pieces.items() if self._is_byte(piece))
        vocab = {id: self._bytes_within_a_text(piece) for id, piece in self._pieces.items()}
        super().__init__(vocab, {each["content"]: each["id"] for each in added if each.get("special")}, r"[\s\S]+")
        self.method = self._model_steps.method

    @classmethod
    def from_file(cls, path: Path, text: str, file: Json) -> "LibraryTokenizer":
        """The tokenizer of a file whose added tokens have been checked; a TokenizerError where it is broken."""
        try:
            check_model(path, file["model"])
            for part in ("normalizer", "pre_tokenizer"):
                check_steps(file.get(part))
            check_steps(file.get("decoder"), most_repetitions=0)  # which is asked about each token
            tokenizer = cls(text)
        except TokenizerError as error:
            raise (error if str(path) in str(error) else error.about(path)) from None
        for entry in file.get("added_tokens") or []:
            if tokenizer._pieces.get(entry["id"]) != entry["content"]:
                raise TokenizerError(
                    f"{path}: the added token {excerpt(entry['content'])} and the vocabulary disagree about the id "
                    f"{entry['id']}."
                )
        return tokenizer

    def _build(self, *, with_special: bool) -> Any:
        """The library's tokenizer, which neither truncates nor pads, adds no tokens, and trims no offsets."""
        library = importlib.import_module("tokenizers")
        pipeline = guarded(lambda: library.Tokenizer.from_str(self.file))
        pipeline.no_truncation()
        pipeline.no_padding()
        pipeline.post_processor = None
        pipeline.encode_special_tokens = not with_special
        return pipeline

    # ---- text to ids

    def _encode_whole(self, text: str, allowed_special: AllowedSpecial) -> list[int]:
        ids: list[int] = self._encoding("".join(bounded([text])), allowed_special).ids
        return ids

    def _encode(self, chunks: Iterable[str], allowed_special: AllowedSpecial) -> Iterator[list[int]]:
        if not can_be_cut(self._content):
            yield self._encode_whole("".join(bounded(chunks)), allowed_special)
            return
        waiting, enough = "", 0
        for chunk in chunks:
            waiting += chunk
            if len(waiting) < enough or "\ud800" <= waiting[-1:] <= "\udbff":  # half of a pair
                continue
            waiting = without_surrogates("".join(bounded([waiting])))
            text = waiting[: len(waiting) - self._added.begun(waiting)]
            encoding = self._encoding(text, allowed_special)
            n_ids, end = last_cut(text, encoding)
            yield encoding.ids[:n_ids]
            waiting = waiting[end:]
            enough = 0 if len(waiting) < SCANNED_AGAIN else 2 * len(waiting)
        yield self._encode_whole(waiting, allowed_special)

    def _encoding(self, text: str, allowed_special: AllowedSpecial) -> Any:
        check_allowed_special(allowed_special)
        if allowed_special not in self._library:
            self._library[allowed_special] = self._build(with_special=allowed_special == "all")
        pipeline = self._library[allowed_special]
        text = without_surrogates(text)
        if not self._has_unknown_patterns:
            return guarded(lambda: pipeline.encode(text, add_special_tokens=False))
        try:
            if self._is_given_up:
                raise TimeoutError
            batch = partial(pipeline.encode_batch, [text], add_special_tokens=False)  # lets go of the lock
            return within_reason(partial(guarded, batch), len(text))[0]
        except TimeoutError:
            self._is_given_up = True
            raise TokenizerError(
                "The patterns of this tokenizer.json keep a text busy for ever, as far as one can wait: it is not run."
            ) from None

    def _encode_pre_token(self, pre_token: str) -> list[int]:
        ids: list[int] = self._encoding(pre_token, "all").ids
        return ids

    def steps(self, text: str, *, allowed_special: AllowedSpecial = "all") -> list[PreToken]:
        """The pre-tokens that the library cut, each with the characters before it that none has."""
        encoding = self._encoding(text, allowed_special)
        steps: list[PreToken] = []
        added = set(self._added_tokens.values())
        start = 0
        for _, group in groupby(range(len(encoding.ids)), key=encoding.word_ids.__getitem__):
            places = list(group)
            ids = [encoding.ids[place] for place in places]
            end = max(start, *(encoding.offsets[place][1] for place in places))
            word = "".join(encoding.tokens[place] for place in places)
            watched = len(word) <= WATCHED_CHARACTERS and not added.issuperset(ids)
            begin, ways = self._model_steps.steps(word) if watched else ([], [])
            tokens = self._bytes_of(ids)
            if not ways or ways[-1].symbols != tokens:  # a long word, or one that the library takes in another way
                begin, ways = tokens, []
            special = self._special_ids.issuperset(ids)
            steps.append(PreToken(text=text[start:end], ids=ids, begin=begin, steps=ways, special=special))
            start = end
        return steps

    @cached_property
    def _model_steps(self) -> ModelSteps:
        return ModelSteps(self._content["model"], self.token_bytes)

    # ---- ids to text

    def bytes_after(self, previous: int | None, id: int) -> bytes:
        """What the library's decoder adds for a token after another one."""
        piece = self._pieces[id]
        if self._byte_level or self._is_byte(piece):
            return self.vocab[id]
        if previous is None:
            return self._decoded([piece]).encode()
        before = self._pieces[previous]
        before = BEFORE if self._is_byte(before) else before
        return self._decoded([before, piece])[len(self._decoded([before])) :].encode()

    def _bytes_within_a_text(self, piece: str) -> bytes:
        if self._is_byte(piece):
            return bytes([int(piece[3:5], 16)])
        if self._byte_level:
            try:
                return from_printable(piece)
            except TokenizerError:  # an added token is written as it is
                return piece.encode()
        return self._decoded([BEFORE, piece])[len(self._decoded([BEFORE])) :].encode()

    def _is_byte(self, piece: str) -> bool:
        return self._has_byte_pieces and BYTE_PIECE.fullmatch(piece) is not None

    def _decoded(self, pieces: list[str]) -> str:
        decoder = self._decoder
        return " ".join(pieces) if decoder is None else str(guarded(lambda: decoder.decode(pieces)))

    @cached_property
    def _decoder(self) -> Any:
        return self._library["all"].decoder

    @property
    def added_tokens(self) -> Mapping[str, int]:
        """The added tokens of the file, which need not be special."""
        return self._added_tokens

    # ---- keeping it

    def to_json(self) -> Json:
        """The parts that make the tokenizer, as the file has them."""
        return {part: self._content.get(part) for part in ("normalizer", "pre_tokenizer", "decoder", "model")}

    def tokenizer_json(self, post_processor: Json | None = None) -> str:
        """The very file, unless other tokens are to stand around a text."""
        around = post_processor or self.template()
        if around == self._content.get("post_processor"):
            return self.file
        return json.dumps(self._content | {"post_processor": around}, ensure_ascii=False)


def guarded(run: Callable[[], T]) -> T:
    """What the library returns; its errors, and its panics, which are no exceptions, are a TokenizerError."""
    try:
        return run()
    except BaseException as error:
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        reason = " ".join(str(error).split())[:200]
        raise TokenizerError(f"the tokenizers library says: {reason}.") from None


def bounded(chunks: Iterable[str]) -> Iterator[str]:
    """The chunks of a text that is not too long to be encoded at once."""
    size = 0
    for chunk in chunks:
        size += len(chunk)
        if size > LONGEST_TEXT:
            raise TokenizerError(
                f"The text has more than {LONGEST_TEXT:,} characters, the most that such a tokenizer reads at once."
            )
        yield chunk


# ---- what a file may cost


def steps_of(part: object) -> list[Json]:
    """The steps of a normalizer, a pre-tokenizer or a decoder, those of nested sequences among them."""
    if not isinstance(part, dict):
        return []
    steps: list[Json] = [part]
    for key in ("normalizers", "pretokenizers", "decoders"):
        if isinstance(part.get(key), list):
            steps += [step for each in part[key] for step in steps_of(each)]
    return steps


def regex_of(step: Json) -> str | None:
    """The regular expression of a step, where it has one."""
    pattern = step.get("pattern")
    regex = pattern.get("Regex") if isinstance(pattern, dict) else None
    return regex if isinstance(regex, str) else None


def check_steps(part: object, most_repetitions: int = MOST_REPETITIONS) -> None:
    """Raise where a normalizer, a pre-tokenizer or a decoder could take much time or memory for a short text."""
    steps = steps_of(part)
    if len(steps) > MAX_STEPS:
        raise TokenizerError(f"a pipeline of {len(steps)} steps, and {MAX_STEPS} are the most.")
    growth = 1
    for step in steps:
        if pattern := regex_of(step):
            check_pattern(pattern, most_repetitions)
        if any(isinstance(value, str) and len(value) > LONGEST_STRING for value in _strings(step)):
            raise TokenizerError(f"the step {excerpt(step)} has a string of more than {LONGEST_STRING} characters.")
        growth *= max(1, *(len(step[key]) for key in ("content", "prepend") if isinstance(step.get(key), str)), 1)
        if growth > MAX_GROWTH:
            raise TokenizerError(f"the step {excerpt(step)} makes texts more than {MAX_GROWTH} times as long.")
        if step.get("type") == "Precompiled":
            _check_charsmap(step.get("precompiled_charsmap"))
        if step.get("type") == "FixedLength" and not step.get("length", 5):
            raise TokenizerError("a pre-tokenizer asks for pre-tokens of no length.")


def _strings(step: Json) -> Iterator[object]:
    pattern = step.get("pattern")
    yield from (step.get(key) for key in ("content", "prepend", "prefix", "suffix", "replacement"))
    yield pattern.get("String") if isinstance(pattern, dict) else pattern


def _check_charsmap(encoded: object) -> None:
    """sentencepiece's table of normal forms: the size of a tree, the tree, and strings, each before a zero byte."""
    try:
        table = base64.b64decode(encoded, validate=True) if isinstance(encoded, str) else b""
    except (binascii.Error, ValueError):
        table = b""
    size = int.from_bytes(table[:4], "little")
    if not 0 < size <= len(table) - 4:
        raise TokenizerError("the precompiled_charsmap of the normalizer is none.")
    if max(map(len, table[4 + size :].split(b"\0"))) > LONGEST_NORMAL_FORM:
        raise TokenizerError(f"the precompiled_charsmap makes more than {LONGEST_NORMAL_FORM} bytes of a character.")


def check_model(path: Path, model: Json) -> None:
    """Raise where a model's vocabulary is none, or too large, or encoding would be random."""
    if model.get("dropout"):
        raise TokenizerError("the model drops merges at random (dropout), which only training does.")
    if isinstance(model.get("vocab"), list):
        _check_scored(model["vocab"])
        return
    vocab = checked_vocab(path, model.get("vocab"))
    if max(map(len, vocab)) > LONGEST_STRING:
        raise TokenizerError(f"a token has {max(map(len, vocab))} characters, and {LONGEST_STRING} is the most.")
    if max(vocab.values()) >= MAX_VOCAB_SIZE:
        raise TokenizerError(f"the id {max(vocab.values())} is beyond the largest that is read, {MAX_VOCAB_SIZE - 1}.")
    if "merges" in model:
        checked_merges(path, model["merges"])
    longest_word = model.get("max_input_chars_per_word", LONGEST_WORD)
    if type(longest_word) is not int or not 1 <= longest_word <= MAX_LONGEST_WORD:
        raise TokenizerError(f"max_input_chars_per_word must be a whole number from 1 to {MAX_LONGEST_WORD}.")


def _check_scored(vocab: list[object]) -> None:
    """A unigram vocabulary: pieces and their scores, in the order of their ids."""
    pieces: list[bytes] = []
    for entry in vocab:
        match entry:
            case [str(piece), float() | int() as score] if len(piece) <= LONGEST_SCORED and math.isfinite(score):
                pieces.append(piece.encode())
            case _:
                raise TokenizerError(
                    f"{excerpt(entry)} is no piece of at most {LONGEST_SCORED} characters with its score."
                )
    pieces.sort()
    shared = sum(_shared(*pair) for pair in pairwise(pieces))
    if not pieces or len(pieces) >= MAX_VOCAB_SIZE or sum(map(len, pieces)) - shared > MAX_NODES:
        raise TokenizerError(
            f"expected a vocabulary of at most {MAX_VOCAB_SIZE} pieces, which begin in at most {MAX_NODES:,} ways."
        )


def _shared(first: bytes, second: bytes) -> int:
    """How many bytes two pieces begin with alike."""
    return next(
        (n for n, (a, b) in enumerate(zip(first, second, strict=False)) if a != b), min(len(first), len(second))
    )
