"""A model's tokenizer in the metadata of GGUF, as the files that a folder of Hugging Face's has of it.

    tokenizer.ggml.model       "gpt2", byte-level BPE with merges, or "llama", sentencepiece's with scores
    tokenizer.ggml.pre         by which split pattern, of byte-level BPE
    tokenizer.ggml.tokens      and their token_type and scores; merges
    tokenizer.ggml.bos_token_id, add_bos_token …    which tokens begin and end a text
    tokenizer.chat_template    kept as it is

`files_of` makes the files of it, and `read` reads them as any other folder's. Next to read: `tokenizer_files.py`.
"""

import json
import tempfile
from array import array
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from glassformer import files
from glassformer.checkpoints.tokenizer_files import TOKENIZER_CONFIG, Tokenizers, read_tokenizers
from glassformer.errors import TokenizerError
from glassformer.tokenizers.byte_level import BYTE_LEVEL
from glassformer.tokenizers.pretokenize import PATTERNS
from glassformer.tokenizers.sentencepiece import SentencePieceTokenizer
from glassformer.tokenizers.tokenizer_json import BPE
from glassformer.tokenizers.untrusted_files import Json

KEY = "tokenizer.ggml."
CHAT_TEMPLATE = "tokenizer.chat_template"
NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED = 1, 2, 3, 4, 5  # of token_type, beside 6, a byte
ROLES = {"bos": "bos_token", "eos": "eos_token", "unknown": "unk_token", "padding": "pad_token"}
ENDS = ("eos", "eot", "eom")  # tokens of these roles end a text; chat models have several


def _split(pattern: str) -> Json:
    split = {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}
    return {"type": "Sequence", "pretokenizers": [split, BYTE_LEVEL | {"use_regex": False}]}


WHOLE_WORDS = ("llama-bpe", "llama3", "llama-v3")  # where a word that is a token needs no merges; <bos> is usual
_DIGITS: Json = {"type": "Sequence", "pretokenizers": [{"type": "Digits", "individual_digits": True}, BYTE_LEVEL]}
_QWEN2 = PATTERNS["llama3"].replace(r"\p{N}{1,3}", r"\p{N}")
PRE: dict[str, Json] = {  # by tokenizer.ggml.pre
    **{name: {"pre_tokenizer": BYTE_LEVEL} for name in ("gpt-2", "mpt", "olmo", "jais")},
    **{name: {"pre_tokenizer": _DIGITS} for name in ("smollm", "starcoder", "refact", "codeshell")},
    **{name: {"pre_tokenizer": _split(PATTERNS["llama3"])} for name in WHOLE_WORDS},
    "qwen2": {"pre_tokenizer": _split(_QWEN2), "normalizer": {"type": "NFC"}},
    "gpt-4o": {"pre_tokenizer": _split(PATTERNS["o200k"])},
}


def read(contents: Mapping[str, bytes]) -> Tokenizers:
    """The tokenizer in files as `files_of` makes them."""
    with tempfile.TemporaryDirectory() as folder:
        for name, data in contents.items():
            files.write(Path(folder, name), data)
        tokenizer, source, missing = read_tokenizers(Path(folder))
        return Tokenizers(tokenizer, source, missing.replace(f"{folder}/", ""))


def files_of(metadata: Mapping[str, Any]) -> dict[str, bytes]:
    """tokenizer.json, tokenizer_config.json and the chat template; raises where tokenizer.json cannot say the same."""
    tokens = _texts(metadata, "tokens")
    around = _around(metadata, tokens)
    settings = {name: tokens[id] for role, name in ROLES.items() if (id := token_id(metadata, role)) is not None}
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": False, **settings}
    config |= {f"add_{role}_token": bool(ids) for role, ids in around.items()}
    kind = metadata.get(f"{KEY}model")
    if kind == "gpt2":
        parts = _byte_level(metadata, tokens)
    elif kind == "llama":
        parts = _sentencepiece(metadata, tokens)
    else:
        raise TokenizerError(f'its tokenizer is of the kind {str(kind)[:40]!r}; "gpt2" and "llama" are read here.')
    added = [
        {"id": id, "content": text, "single_word": False, "lstrip": False, "rstrip": False}
        | {"normalized": False, "special": special}
        for id, (text, special) in _added(metadata, tokens).items()
    ]
    file = {"version": "1.0", "truncation": None, "padding": None, "added_tokens": added}
    contents = {
        "tokenizer.json": json.dumps(file | parts | {"post_processor": _template(around, tokens)}, ensure_ascii=False),
        TOKENIZER_CONFIG: json.dumps(config, ensure_ascii=False),
    }
    if isinstance(template := metadata.get(CHAT_TEMPLATE), str):
        contents["chat_template.jinja"] = template
    return {name: text.encode() for name, text in contents.items()}


def token_id(metadata: Mapping[str, Any], role: str) -> int | None:
    """The token of a role such as "eos", None where the file names none."""
    id = metadata.get(f"{KEY}{role}_token_id")
    n_tokens = len(_texts(metadata, "tokens"))
    if id is not None and not (type(id) is int and 0 <= id < n_tokens):
        raise TokenizerError(f"{KEY}{role}_token_id is {str(id)[:40]}, and there are {n_tokens:,} tokens.")
    return id


def end_ids(metadata: Mapping[str, Any]) -> frozenset[int]:
    """The tokens that end a text."""
    return frozenset(id for role in ENDS if (id := token_id(metadata, role)) is not None)


def _texts(metadata: Mapping[str, Any], name: str) -> list[str]:
    texts = metadata.get(KEY + name)
    if not isinstance(texts, list):
        raise TokenizerError(f"its metadata have no {KEY}{name}, a list of texts.")
    return texts


def _numbers(metadata: Mapping[str, Any], name: str, tokens: list[str]) -> list[Any]:
    """A number for each token."""
    numbers = metadata.get(KEY + name)
    if not isinstance(numbers, array) or len(numbers) != len(tokens):
        raise TokenizerError(f"{KEY}{name} must have a number for each of the {len(tokens):,} tokens.")
    return numbers.tolist()


def _flag(metadata: Mapping[str, Any], name: str, default: bool) -> bool:
    value = metadata.get(KEY + name, default)
    if not isinstance(value, bool):
        raise TokenizerError(f"{KEY}{name} must be true or false.")
    return value


def _around(metadata: Mapping[str, Any], tokens: list[str]) -> dict[str, list[int]]:
    """The tokens before and behind a text; where the file does not say, llama.cpp's own choice for the kind."""
    begins = metadata.get(f"{KEY}model") == "llama" or metadata.get(f"{KEY}pre") in WHOLE_WORDS
    around: dict[str, list[int]] = {}
    for role, default in (("bos", begins), ("eos", False)):
        id = token_id(metadata, role)
        around[role] = [id] if _flag(metadata, f"add_{role}_token", default) and id is not None else []
    return around


def _template(around: Mapping[str, list[int]], tokens: list[str]) -> Json:
    """The post-processor that puts these tokens around a text, perhaps none."""

    def ends(role: str, type: int) -> list[Json]:
        return [{"SpecialToken": {"id": tokens[id], "type_id": type}} for id in around[role]]

    first, second = (
        [*ends("bos", type), {"Sequence": {"id": name, "type_id": type}}, *ends("eos", type)]
        for type, name in enumerate("AB")
    )
    used = {id for ids in around.values() for id in ids}
    special = {tokens[id]: {"id": tokens[id], "ids": [id], "tokens": [tokens[id]]} for id in used}
    return {"type": "TemplateProcessing", "single": first, "pair": first + second, "special_tokens": special}


def _added(metadata: Mapping[str, Any], tokens: list[str]) -> dict[int, tuple[str, bool]]:
    """The tokens that are looked for in a text as a whole, and whether they are special."""
    types = enumerate(_numbers(metadata, "token_type", tokens))
    return {id: (tokens[id], type != USER_DEFINED) for id, type in types if type in (UNKNOWN, CONTROL, USER_DEFINED)}


def _byte_level(metadata: Mapping[str, Any], tokens: list[str]) -> Json:
    """The parts of tokenizer.json for byte-level BPE; rows of an embedding that was padded have no token."""
    pre = metadata.get(f"{KEY}pre")
    if not isinstance(pre, str) or pre not in PRE:
        raise TokenizerError(f"it splits text by {str(pre)[:40]!r} ({KEY}pre); known here are {', '.join(PRE)}.")
    types = _numbers(metadata, "token_type", tokens)
    vocab = {text: id for id, text in enumerate(tokens) if types[id] != UNUSED or text != f"[PAD{id}]"}
    if len({*tokens}) < len(tokens):
        raise TokenizerError(f"two of its {len(tokens):,} tokens are the same.")
    merges = [merge.split(" ", 1) for merge in _texts(metadata, "merges")]
    model = BPE | {"ignore_merges": pre in WHOLE_WORDS, "vocab": vocab, "merges": merges}
    return {"normalizer": None, **PRE[pre], "decoder": BYTE_LEVEL, "model": model}


def _sentencepiece(metadata: Mapping[str, Any], tokens: list[str]) -> Json:
    """The parts of tokenizer.json for sentencepiece's BPE, without a space in front where the file says so."""
    scores = _numbers(metadata, "scores", tokens)
    control = [text for text, _ in _added(metadata, tokens).values()]
    parts = SentencePieceTokenizer(tokens, scores, control).to_json()
    if not _flag(metadata, "add_space_prefix", True):
        parts["normalizer"] = {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}
        parts["decoder"]["decoders"] = [each for each in parts["decoder"]["decoders"] if each["type"] != "Strip"]
    return parts
