"""tokenizer.json, the format of Hugging Face's `tokenizers`: written so that it encodes the same, read if we can.

The file describes a pipeline (normalizer, pre-tokenizer, model, decoder). Five of them are ours: byte-level BPE,
sentencepiece's BPE, WordPiece, and lists of words or characters; whatever else a file asks for is refused, never left
out.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from glassformer.errors import TokenizerError
from glassformer.tokenizers.base import Tokenizer
from glassformer.tokenizers.bpe import BPETokenizer, special_bytes
from glassformer.tokenizers.bpe_files import (
    check_no_gaps,
    checked_merges,
    checked_vocab,
    from_printable,
    merges_of_lines,
    parse_json,
    to_printable,
    write_text,
)
from glassformer.tokenizers.char import CharTokenizer
from glassformer.tokenizers.pretokenize import PATTERNS
from glassformer.tokenizers.sentencepiece import SPACE, SentencePieceTokenizer
from glassformer.tokenizers.wordpiece import WordPieceTokenizer, of_json
from glassformer.tokenizers.words import Unit, WordTokenizer

Json = dict[str, Any]

SPELLINGS = {pattern: name for name, pattern in PATTERNS.items()} | {
    r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+": "gpt2",
}
"""Split patterns as published files spell them."""

MAX_ADDED_TOKENS = 1 << 13
MAX_ADDED_CHARACTERS = 1 << 18  # of all of them: the pattern that finds them takes some 200 bytes for each

BYTE_LEVEL: Json = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
EACH_CHARACTER: Json = {
    "type": "Split",
    "pattern": {"Regex": r"[\s\S]"},
    "behavior": "Isolated",
    "invert": False,
}
WORDS: dict[Unit, tuple[Json, Json | None]] = {  # what cuts a text into them, and what joins them
    "word": ({"type": "WhitespaceSplit"}, None),
    "character": (EACH_CHARACTER, {"type": "Fuse"}),
}
LOWERCASE: Json = {"type": "Lowercase"}
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
    {"type": "Fuse"},
    {"type": "Strip", "content": " ", "start": 1, "stop": 0},
]
BPE: Json = {
    "type": "BPE",
    "dropout": None,
    "unk_token": None,
    "continuing_subword_prefix": None,
    "end_of_word_suffix": None,
    "fuse_unk": False,
    "byte_fallback": False,
    "ignore_merges": False,
}


# ---- writing


def write_tokenizer_json(
    tokenizer: Tokenizer, directory: Path, around: Json | None = None, *, overwrite: bool = False
) -> Path:
    """Write tokenizer.json into a directory, whole or not at all; `around` stands for `template_of`."""
    text = tokenizer_json(tokenizer, around or template_of(tokenizer))
    return write_text(directory / "tokenizer.json", text, overwrite=overwrite)


def tokenizer_json(tokenizer: Tokenizer, around: Json | None = None) -> str:
    """The text of tokenizer.json, all that encoding depends on; of what it is read as, the text is the same again.

    `around` is the post-processor: which tokens other programs put around a text (`template`).
    """
    added = [
        {"id": id, "content": token, "single_word": False, "lstrip": False, "rstrip": False}
        | {"normalized": False, "special": True}
        for token, id in sorted(tokenizer.special_tokens.items(), key=lambda item: item[1])
    ]
    outside = {"version": "1.0", "truncation": None, "padding": None, "added_tokens": added, "post_processor": around}
    match tokenizer:
        case BPETokenizer():
            pipeline = _byte_level(tokenizer)
        case SentencePieceTokenizer():
            pipeline = _sentencepiece(tokenizer)
        case CharTokenizer():
            pipeline = _characters(tokenizer)
        case WordPieceTokenizer():
            pipeline = tokenizer.pipeline()
        case WordTokenizer():
            pipeline = _words(tokenizer)
        case _:
            raise TokenizerError(f"a {type(tokenizer).__name__} has no form in tokenizer.json.")
    return json.dumps(outside | pipeline, ensure_ascii=False)


def template_of(tokenizer: Tokenizer) -> Json | None:
    """What stands around a text that the tokenizer's model reads: as its file says, or what we put there ourselves.

    That is the token that begins a text, and in BERT's reading the one that ends it.
    """
    if tokenizer.post_processor is not None:
        return tokenizer.post_processor
    end = tokenizer.eos_id if isinstance(tokenizer, WordPieceTokenizer) else None
    return template(tokenizer, tokenizer.bos_id, end)


def template(tokenizer: Tokenizer, begin: int | None, end: int | None) -> Json | None:
    """The post-processor that puts special tokens before and behind a text; None where there is nothing to put."""
    names = {id: name for name, id in tokenizer.special_tokens.items()}
    used = [id for id in (begin, end) if id is not None]
    if not used:
        return None

    def around(sequence: str, type: int, ids: tuple[int | None, int | None]) -> list[Json]:
        before, behind = ([] if id is None else [{"SpecialToken": {"id": names[id], "type_id": type}}] for id in ids)
        return [*before, {"Sequence": {"id": sequence, "type_id": type}}, *behind]

    single = around("A", 0, (begin, end))
    second = around("B", 1, (begin if end is None else None, end))  # one token is enough between two texts
    tokens = {names[id]: {"id": names[id], "ids": [id], "tokens": [names[id]]} for id in used}
    return {"type": "TemplateProcessing", "single": single, "pair": single + second, "special_tokens": tokens}


def _byte_level(tokenizer: BPETokenizer) -> Json:
    merges = [[to_printable(left), to_printable(right)] for left, right in tokenizer.listed_merges()]
    merged = {left + right for left, right in merges}
    vocab: dict[str, int] = {}
    special = {id: text for text, id in tokenizer.special_tokens.items()}
    for id, token in sorted(tokenizer.vocab.items()):
        printable = to_printable(token)
        text = special.get(id, printable) if len(token) > 1 and printable not in merged else printable
        if text in vocab:
            raise TokenizerError(
                f"tokenizer.json cannot hold the special token {_short(text)}: another is written the same."
            )
        vocab[text] = id
    split = {
        "type": "Split",
        "pattern": {"Regex": PATTERNS[tokenizer.pattern]},
        "behavior": "Isolated",
        "invert": False,
    }
    sequence = {"type": "Sequence", "pretokenizers": [split, BYTE_LEVEL | {"use_regex": False}]}
    return {
        "normalizer": None,
        "pre_tokenizer": BYTE_LEVEL if tokenizer.pattern == "gpt2" else sequence,
        "decoder": BYTE_LEVEL,
        "model": BPE | {"ignore_merges": tokenizer.whole_pieces, "vocab": vocab, "merges": merges},
    }


def _sentencepiece(tokenizer: SentencePieceTokenizer) -> Json:
    vocab = {piece: id for id, piece in enumerate(tokenizer.pieces)}
    normalizers = COLLAPSE_SPACES + MARK_SPACES if tokenizer.collapse_spaces else MARK_SPACES
    return {
        "normalizer": {"type": "Sequence", "normalizers": normalizers},
        "pre_tokenizer": None,
        "decoder": {"type": "Sequence", "decoders": UNMARK_SPACES},
        "model": BPE
        | {"unk_token": "<unk>", "fuse_unk": True, "byte_fallback": True}
        | {"vocab": vocab, "merges": [list(pair) for pair in tokenizer.listed_merges()]},
    }


def _characters(tokenizer: CharTokenizer) -> Json:
    vocab = {character: id for id, character in enumerate(tokenizer.alphabet)}
    return {
        "normalizer": None,
        "pre_tokenizer": EACH_CHARACTER,
        "decoder": {"type": "Fuse"},
        "model": {"type": "WordLevel", "vocab": vocab, "unk_token": "<unk>"},
    }


def _words(tokenizer: WordTokenizer) -> Json:
    vocab = {token: id for id, token in enumerate(tokenizer.tokens)}
    split, join = WORDS[tokenizer.unit]
    return {
        "normalizer": LOWERCASE if tokenizer.lowercase else None,
        "pre_tokenizer": split,
        "decoder": join,
        "model": {"type": "WordLevel", "vocab": vocab, "unk_token": tokenizer.unknown},
    }


# ---- reading


def read_tokenizer_json(path: Path, data: bytes) -> Tokenizer:
    """The tokenizer that a tokenizer.json describes, if it is of one of our kinds."""
    file = parse_json(path, data)
    tokenizer = _read(path, file)
    tokenizer.post_processor = file.get("post_processor")
    return tokenizer


def _read(path: Path, file: Json) -> Tokenizer:
    known = {"version", "truncation", "padding", "added_tokens", "normalizer", "pre_tokenizer", "post_processor"}
    if not isinstance(file.get("model"), dict):
        raise TokenizerError(f'{path}: expected a tokenizer.json, an object with a "model".')
    for key in file.keys() - known - {"decoder", "model"}:
        raise TokenizerError(f"{path}: {key!r} is no part of a tokenizer.json that we know.")
    kind = file["model"].get("type", "BPE" if "merges" in file["model"] else None)
    for key in ("truncation", "padding"):
        if file.get(key) is not None and kind != "WordPiece":
            raise TokenizerError(f"{path} asks for {key}, which is not supported: set it to null.")
    _check_post_processor(path, file.get("post_processor"))
    unsupported = ["single_word", "lstrip", "rstrip"] + ["normalized"] * (file.get("normalizer") is not None)
    special_tokens = _added_tokens(path, file.get("added_tokens", []), unsupported)
    if kind == "WordLevel":
        vocab = file["model"].get("vocab")
        knows_unknown = isinstance(vocab, dict) and file["model"].get("unk_token") in vocab
        return (_read_words if knows_unknown else _read_characters)(path, file, special_tokens)
    if kind == "WordPiece":
        return _read_wordpiece(path, file, special_tokens)
    if kind != "BPE":
        raise TokenizerError(
            f"{path}: the model is {str(kind)[:40]!r}, and only BPE, WordPiece and WordLevel are supported."
        )
    if file["model"].get("byte_fallback"):
        return _read_sentencepiece(path, file, special_tokens)
    return _read_byte_level(path, file, special_tokens)


def _read_byte_level(path: Path, file: Json, special_tokens: Mapping[str, int]) -> BPETokenizer:
    model = file["model"]
    _check_model(path, model, {"fuse_unk", "ignore_merges", "unk_token"})
    _expect(path, "normalizer", file.get("normalizer"), [None])
    pattern = _pattern(path, file.get("pre_tokenizer"))
    decoder = file.get("decoder")
    if not isinstance(decoder, dict) or decoder.get("type") != "ByteLevel":
        raise TokenizerError(f"{path}: the decoder is {_short(decoder)}, and byte-level BPE has ByteLevel.")
    whole_pieces = model.get("ignore_merges", False)
    if not isinstance(whole_pieces, bool):
        raise TokenizerError(f"{path}: ignore_merges is {_short(whole_pieces)}, expected true or false.")
    texts = checked_vocab(path, model.get("vocab"))
    _check_ids(path, texts, special_tokens)
    special_ids = set(special_tokens.values())
    ordinary = {id: from_printable(text) for text, id in texts.items() if id not in special_ids}
    check_no_gaps(path, ordinary, special_ids)
    vocab = ordinary | {id: text.encode() for text, id in special_tokens.items()}
    merges = merges_of_lines(path, model.get("merges"))
    return BPETokenizer(vocab, merges, special_tokens, pattern, whole_pieces=whole_pieces)


def _read_sentencepiece(path: Path, file: Json, special_tokens: Mapping[str, int]) -> SentencePieceTokenizer:
    model = file["model"]
    _check_model(path, model, {"fuse_unk", "byte_fallback", "unk_token"})
    plain, collapsing = ({"type": "Sequence", "normalizers": n} for n in (MARK_SPACES, COLLAPSE_SPACES + MARK_SPACES))
    _expect(path, "normalizer", file.get("normalizer"), [plain, collapsing])
    _expect(path, "pre_tokenizer", file.get("pre_tokenizer"), [None])
    _expect(path, "decoder", file.get("decoder"), [{"type": "Sequence", "decoders": UNMARK_SPACES}])
    vocab = checked_vocab(path, model.get("vocab"))
    _check_ids(path, vocab, special_tokens)
    vocab |= special_tokens
    check_no_gaps(path, vocab.values(), ())
    pieces = sorted(vocab, key=vocab.__getitem__)
    merges = checked_merges(path, model.get("merges"))
    collapse_spaces = file["normalizer"] == collapsing
    return SentencePieceTokenizer(pieces, None, list(special_tokens), merges=merges, collapse_spaces=collapse_spaces)


def _read_characters(path: Path, file: Json, special_tokens: Mapping[str, int]) -> CharTokenizer:
    _expect(path, "normalizer", file.get("normalizer"), [None])
    _expect(path, "pre_tokenizer", file.get("pre_tokenizer"), [EACH_CHARACTER])
    _expect(path, "decoder", file.get("decoder"), [{"type": "Fuse"}])
    vocab = checked_vocab(path, file["model"].get("vocab"))
    check_no_gaps(path, vocab.values(), ())
    if special_tokens or any(len(text) != 1 for text in vocab):
        raise TokenizerError(f"{path}: of WordLevel models, only those of single characters are supported.")
    return CharTokenizer("".join(sorted(vocab, key=vocab.__getitem__)))


def _read_words(path: Path, file: Json, special_tokens: Mapping[str, int]) -> WordTokenizer:
    """Words or characters of a list that has one for the unknown."""
    found = (file.get("pre_tokenizer"), file.get("decoder"))
    _expect(path, "normalizer", file.get("normalizer"), [None, LOWERCASE])
    _expect(path, "pre_tokenizer", found[0], [split for split, _ in WORDS.values()])
    unit = next(unit for unit, (split, _) in WORDS.items() if split == found[0])
    _expect(path, "decoder", found[1], [WORDS[unit][1]])
    vocab = checked_vocab(path, file["model"]["vocab"])
    _check_ids(path, vocab, special_tokens)
    vocab |= special_tokens
    check_no_gaps(path, vocab.values(), ())
    return WordTokenizer(
        sorted(vocab, key=vocab.__getitem__),
        list(special_tokens),
        unknown=file["model"]["unk_token"],
        unit=unit,
        lowercase=file.get("normalizer") is not None,
    )


def _read_wordpiece(path: Path, file: Json, special_tokens: Mapping[str, int]) -> WordPieceTokenizer:
    pieces = checked_vocab(path, file["model"].get("vocab"))
    _check_ids(path, pieces, special_tokens)
    check_no_gaps(path, pieces.values(), special_tokens.values())
    return of_json(path, file, pieces, special_tokens)


def _added_tokens(path: Path, entries: object, unsupported: list[str]) -> dict[str, int]:
    """Text to id of the tokens that are found in a text as a whole."""
    if not isinstance(entries, list) or len(entries) > MAX_ADDED_TOKENS:
        raise TokenizerError(f"{path}: expected added_tokens, a list of at most {MAX_ADDED_TOKENS}.")
    tokens: dict[str, int] = {}
    ids: set[int] = set()
    for entry in entries:
        match entry:
            case {"id": int(id), "content": str(text)} if id >= 0 and type(id) is int:
                special_bytes(text)
            case _:
                raise TokenizerError(f"{path}: {_short(entry)} is no added token: expected its id and its content.")
        for option in unsupported:
            if entry.get(option):
                raise TokenizerError(
                    f"{path}: the added token {_short(text)} asks for {option}, which is not supported."
                )
        if text in tokens or id in ids:
            raise TokenizerError(f"{path}: the added token {_short(text)} or its id comes twice.")
        tokens[text] = id
        ids.add(id)
    if (characters := sum(map(len, tokens))) > MAX_ADDED_CHARACTERS:
        raise TokenizerError(
            f"{path}: the added tokens have {characters:,} characters in all, and {MAX_ADDED_CHARACTERS:,} is the most."
        )
    return tokens


def _check_ids(path: Path, vocab: Mapping[str, int], special_tokens: Mapping[str, int]) -> None:
    texts = {id: text for text, id in vocab.items()}
    for text, id in special_tokens.items():
        if vocab.get(text, id) != id or texts.get(id, text) != text:
            raise TokenizerError(
                f"{path}: the added token {_short(text)} and the vocabulary disagree about the id {id}."
            )


def _check_model(path: Path, model: Json, used: set[str]) -> None:
    """Every setting of a BPE model is one that we follow, or is off."""
    for key, value in model.items():
        if key not in used | {"type", "vocab", "merges"} and (key not in BPE or value):
            raise TokenizerError(f"{path}: the model sets {key!r} to {_short(value)}, which is not supported.")


def _pattern(path: Path, pre_tokenizer: object) -> str:
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
        } if pattern in SPELLINGS and (behavior, invert) in {("Isolated", False), ("Removed", True)}:
            return SPELLINGS[pattern]
    raise TokenizerError(
        f"{path}: the pre-tokenizer {_short(pre_tokenizer)} is not supported: expected ByteLevel, or the split pattern "
        f"of {', '.join(PATTERNS)} before it."
    )


def _check_post_processor(path: Path, processor: object) -> None:
    """Only what adds begin and end tokens, which `encode` leaves to its caller, or moves offsets, which it has not."""
    match processor:
        case None | {"type": "ByteLevel" | "TemplateProcessing"}:
            return
        case {"type": "Sequence", "processors": [*steps]} if all(isinstance(step, dict) for step in steps):
            for step in steps:
                _expect(path, "post-processor", step.get("type"), ["ByteLevel", "TemplateProcessing"])
        case _:
            raise TokenizerError(f"{path}: the post-processor {_short(processor)} is not supported.")


def _expect(path: Path, part: str, found: object, supported: list[Any]) -> None:
    if found not in supported:
        raise TokenizerError(f"{path}: the {part} {_short(found)} is not supported by this kind of tokenizer.")


def _short(value: object) -> str:
    text = json.dumps(value) if isinstance(value, dict | list) else repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
