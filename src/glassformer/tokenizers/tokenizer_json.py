"""tokenizer.json, the format of Hugging Face's `tokenizers`: what all kinds of tokenizers have in common there.

The file describes a pipeline: normalizer, pre-tokenizer, model, decoder. Each kind of tokenizer writes and reads these
four parts itself (`to_json`, `from_json`); this file has the rest: added tokens, the post-processor, and the checks.
Whatever a file asks for that is not followed here is an `UnsupportedPipeline`, never left out: `library.py` has those.
Truncation and padding are the caller's business, whatever a file says.
"""

import json
from collections.abc import Mapping, Sequence, Set
from pathlib import Path

from glassformer.errors import TokenizerError, UnsupportedPipeline
from glassformer.tokenizers.untrusted_files import Json
from glassformer.tokenizers.vocabulary import special_bytes

MAX_ADDED_TOKENS = 1 << 14
MAX_ADDED_CHARACTERS = 1 << 18  # of all of them: the pattern that finds them takes some 200 bytes for each
MAX_AROUND = 64  # tokens before or behind a text

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


def dump(
    parts: Json, special_tokens: Mapping[str, int], post_processor: Json | None, not_special: Set[int] = frozenset()
) -> str:
    """The text of tokenizer.json around the four parts of a tokenizer."""
    added = [
        {"id": id, "content": token, "single_word": False, "lstrip": False, "rstrip": False}
        | {"normalized": False, "special": id not in not_special}
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


def template_processing(special_tokens: Mapping[str, int], begin: Sequence[int], end: Sequence[int]) -> Json | None:
    """The post-processor that puts special tokens before and behind a text; None where there is nothing to put."""
    name_of = {id: name for name, id in special_tokens.items()}
    if not (begin or end):
        return None

    def around(sequence: str, type: int, before: Sequence[int], behind: Sequence[int]) -> list[Json]:
        first, last = (
            [{"SpecialToken": {"id": name_of[id], "type_id": type}} for id in ids] for ids in (before, behind)
        )
        return [*first, {"Sequence": {"id": sequence, "type_id": type}}, *last]

    single = around("A", 0, begin, end)
    second = around("B", 1, () if end else begin, end)  # what closes one text is enough between two
    tokens = {name_of[id]: {"id": name_of[id], "ids": [id], "tokens": [name_of[id]]} for id in (*begin, *end)}
    return {"type": "TemplateProcessing", "single": single, "pair": single + second, "special_tokens": tokens}


# ---- reading


def check_around(path: Path, file: Json) -> dict[str, int]:
    """Check all but the four parts of a file; returns its special tokens, text to id."""
    if not isinstance(file.get("model"), dict):
        raise TokenizerError(f'{path}: expected a tokenizer.json, an object with a "model".')
    for key in file.keys() - AROUND - PARTS:
        raise TokenizerError(f"{path}: {key!r} is no part of a tokenizer.json that we know.")
    return _added_tokens(path, file.get("added_tokens", []))


def model_type(file: Json) -> object:
    """The type of a file's model; older files leave out that of BPE."""
    model = file["model"]
    return model.get("type", "BPE" if "merges" in model else None)


def check_options(path: Path, file: Json) -> None:
    """Raise where an added token is to be looked for in another way than character by character."""
    unsupported = ["single_word", "lstrip", "rstrip"] + ["normalized"] * (file.get("normalizer") is not None)
    for entry in file.get("added_tokens", []):
        if asked := [option for option in unsupported if entry.get(option)]:
            raise UnsupportedPipeline(
                f"{path}: the added token {excerpt(entry['content'])} asks for {asked[0]}, which is not supported."
            )


def _added_tokens(path: Path, entries: object) -> dict[str, int]:
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
        if text in tokens or id in ids:
            raise TokenizerError(f"{path}: the added token {excerpt(text)} or its id comes twice.")
        tokens[text] = id
        ids.add(id)
    if (characters := sum(map(len, tokens))) > MAX_ADDED_CHARACTERS:
        raise TokenizerError(
            f"{path}: the added tokens have {characters:,} characters in all, and {MAX_ADDED_CHARACTERS:,} is the most."
        )
    return tokens


def tokens_around(path: Path, processor: object) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The tokens that a post-processor puts before a text, and those behind it."""
    before: tuple[int, ...] = ()
    behind: tuple[int, ...] = ()
    match processor:
        case None | {"type": "ByteLevel"}:
            pass
        case {"type": "BertProcessing" | "RobertaProcessing", "cls": [str(), int(first)], "sep": [str(), int(last)]}:
            before, behind = (first,), (last,)
        case {"type": "TemplateProcessing", "single": [*parts], "special_tokens": dict(tokens)}:
            before, behind = _tokens_of_template(path, parts, tokens)
        case {"type": "Sequence", "processors": [*steps]} if len(steps) <= MAX_AROUND:
            for step in steps:
                before_one, behind_one = tokens_around(path, step)
                before, behind = before_one + before, behind + behind_one
        case _:
            raise TokenizerError(f"{path}: the post-processor {excerpt(processor)} is not supported.")
    if max(len(before), len(behind)) > MAX_AROUND or not all(type(id) is int and id >= 0 for id in before + behind):
        raise TokenizerError(f"{path}: the post-processor {excerpt(processor)} puts no such tokens around a text.")
    return before, behind


def _tokens_of_template(
    path: Path, parts: Sequence[object], tokens: Mapping[str, object]
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The same of a template, which has the text once between tokens, each of which stands for some ids."""
    around: tuple[list[int], list[int]] = [], []
    texts = 0
    for part in parts[: 2 * MAX_AROUND + 1]:
        match part:
            case {"Sequence": {"id": "A"}}:
                texts += 1
            case {"SpecialToken": {"id": str(name)}}:
                entry = tokens.get(name)
                ids = entry.get("ids") if isinstance(entry, dict) else None
                if not isinstance(ids, list):
                    raise TokenizerError(f"{path}: the post-processor has no ids for {excerpt(name)}.")
                around[texts > 0].extend(ids[: MAX_AROUND + 1])
            case _:
                raise TokenizerError(f"{path}: {excerpt(part)} is no part of a template.")
    if texts != 1:
        raise TokenizerError(f"{path}: the post-processor must have the text once, not {texts} times.")
    return tuple(around[0]), tuple(around[1])


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
            raise UnsupportedPipeline(f"{path}: the model sets {key!r} to {excerpt(value)}, which is not supported.")


def expect(path: Path, part: str, value: object, supported: Sequence[object]) -> None:
    """Raise unless a part of a file is one of those that this kind of tokenizer follows."""
    if value not in supported:
        raise UnsupportedPipeline(f"{path}: the {part} {excerpt(value)} is not supported by this kind of tokenizer.")


def excerpt(value: object) -> str:
    """A part of a file for a message, at most 80 characters of it."""
    text = json.dumps(value) if isinstance(value, dict | list) else repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
