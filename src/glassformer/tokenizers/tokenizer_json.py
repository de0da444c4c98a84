"""tokenizer.json, the format of Hugging Face's `tokenizers`: what all kinds of tokenizers have in common there.

The file describes a pipeline: normalizer, pre-tokenizer, model, decoder. Each kind of tokenizer writes and reads these
four parts itself (`to_json`, `from_json`); this file has the rest: added tokens, the post-processor, and the checks.
Whatever a file asks for that is not followed here is refused, never left out.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from glassformer.errors import TokenizerError
from glassformer.tokenizers.untrusted_files import Json
from glassformer.tokenizers.vocabulary import special_bytes

MAX_ADDED_TOKENS = 1 << 13
MAX_ADDED_CHARACTERS = 1 << 18  # of all of them: the pattern that finds them takes some 200 bytes for each

FUSE: Json = {"type": "Fuse"}
EACH_CHARACTER: Json = {
    "type": "Split",
    "pattern": {"Regex": r"[\s\S]"},
    "behavior": "Isolated",
    "invert": False,
}
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
PARTS = {"normalizer", "pre_tokenizer", "decoder", "model"}
AROUND = {"version", "truncation", "padding", "added_tokens", "post_processor"}


# ---- writing


def dump(parts: Json, special_tokens: Mapping[str, int], post_processor: Json | None) -> str:
    """The text of tokenizer.json around the four parts of a tokenizer."""
    added = [
        {"id": id, "content": token, "single_word": False, "lstrip": False, "rstrip": False}
        | {"normalized": False, "special": True}
        for token, id in sorted(special_tokens.items(), key=lambda item: item[1])
    ]
    around = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": added,
        "post_processor": post_processor,
    }
    return json.dumps(around | parts, ensure_ascii=False)


def template_processing(special_tokens: Mapping[str, int], begin: int | None, end: int | None) -> Json | None:
    """The post-processor that puts special tokens before and behind a text; None where there is nothing to put."""
    name_of = {id: name for name, id in special_tokens.items()}
    used = [id for id in (begin, end) if id is not None]
    if not used:
        return None

    def around(sequence: str, type: int, ids: tuple[int | None, int | None]) -> list[Json]:
        before, behind = ([] if id is None else [{"SpecialToken": {"id": name_of[id], "type_id": type}}] for id in ids)
        return [*before, {"Sequence": {"id": sequence, "type_id": type}}, *behind]

    single = around("A", 0, (begin, end))
    second = around("B", 1, (begin if end is None else None, end))  # one token is enough between two texts
    tokens = {name_of[id]: {"id": name_of[id], "ids": [id], "tokens": [name_of[id]]} for id in used}
    return {"type": "TemplateProcessing", "single": single, "pair": single + second, "special_tokens": tokens}


# ---- reading


def check_around(path: Path, file: Json) -> dict[str, int]:
    """Check all but the four parts of a file; returns its special tokens, text to id."""
    if not isinstance(file.get("model"), dict):
        raise TokenizerError(f'{path}: expected a tokenizer.json, an object with a "model".')
    for key in file.keys() - AROUND - PARTS:
        raise TokenizerError(f"{path}: {key!r} is no part of a tokenizer.json that we know.")
    for key in ("truncation", "padding"):
        if file.get(key) is not None and model_type(file) != "WordPiece":  # whose caller truncates and pads
            raise TokenizerError(f"{path} asks for {key}, which is not supported: set it to null.")
    _check_post_processor(path, file.get("post_processor"))
    unsupported = ["single_word", "lstrip", "rstrip"] + ["normalized"] * (file.get("normalizer") is not None)
    return _added_tokens(path, file.get("added_tokens", []), unsupported)


def model_type(file: Json) -> object:
    """The type of a file's model; older files leave out that of BPE."""
    model = file["model"]
    return model.get("type", "BPE" if "merges" in model else None)


def _added_tokens(path: Path, entries: object, unsupported: list[str]) -> dict[str, int]:
    """Text to id of the tokens that are looked for in a text as a whole."""
    if not isinstance(entries, list) or len(entries) > MAX_ADDED_TOKENS:
        raise TokenizerError(f"{path}: expected added_tokens, a list of at most {MAX_ADDED_TOKENS}.")
    tokens: dict[str, int] = {}
    ids: set[int] = set()
    for entry in entries:
        match entry:
            case {"id": int(id), "content": str(text)} if id >= 0 and type(id) is int:
                special_bytes(text)
            case _:
                raise TokenizerError(f"{path}: {excerpt(entry)} is no added token: expected its id and its content.")
        for option in unsupported:
            if entry.get(option):
                raise TokenizerError(
                    f"{path}: the added token {excerpt(text)} asks for {option}, which is not supported."
                )
        if text in tokens or id in ids:
            raise TokenizerError(f"{path}: the added token {excerpt(text)} or its id comes twice.")
        tokens[text] = id
        ids.add(id)
    if (characters := sum(map(len, tokens))) > MAX_ADDED_CHARACTERS:
        raise TokenizerError(
            f"{path}: the added tokens have {characters:,} characters in all, and {MAX_ADDED_CHARACTERS:,} is the most."
        )
    return tokens


def _check_post_processor(path: Path, processor: object) -> None:
    """Only what adds begin and end tokens, which `encode` leaves to its caller, or moves offsets, which it has not."""
    match processor:
        case None | {"type": "ByteLevel" | "TemplateProcessing"}:
            return
        case {"type": "Sequence", "processors": [*steps]} if all(isinstance(step, dict) for step in steps):
            for step in steps:
                expect(path, "post-processor", step.get("type"), ["ByteLevel", "TemplateProcessing"])
        case _:
            raise TokenizerError(f"{path}: the post-processor {excerpt(processor)} is not supported.")


def check_added_ids(path: Path, vocab: Mapping[str, int], special_tokens: Mapping[str, int]) -> None:
    """Raise unless added tokens that stand in the model's vocabulary as well have the same ids there."""
    text_of = {id: text for text, id in vocab.items()}
    for text, id in special_tokens.items():
        if vocab.get(text, id) != id or text_of.get(id, text) != text:
            raise TokenizerError(
                f"{path}: the added token {excerpt(text)} and the vocabulary disagree about the id {id}."
            )


def check_bpe(path: Path, model: Json, used: set[str]) -> None:
    """Raise unless every setting of a BPE model is one that is followed, or is off."""
    for key, value in model.items():
        if key not in used | {"type", "vocab", "merges"} and (key not in BPE or value):
            raise TokenizerError(f"{path}: the model sets {key!r} to {excerpt(value)}, which is not supported.")


def expect(path: Path, part: str, value: object, supported: Sequence[object]) -> None:
    """Raise unless a part of a file is one of those that this kind of tokenizer follows."""
    if value not in supported:
        raise TokenizerError(f"{path}: the {part} {excerpt(value)} is not supported by this kind of tokenizer.")


def excerpt(value: object) -> str:
    """A part of a file for a message, at most 80 characters of it."""
    text = json.dumps(value) if isinstance(value, dict | list) else repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
