"""A model's tokenizer in the metadata of GGUF, as the files that a folder of Hugging Face's has of it.

    tokenizer.ggml.model       "gpt2", byte-level BPE with merges, "llama", sentencepiece's with scores, "t5",
                               sentencepiece's Unigram, or "bert", WordPiece
    tokenizer.ggml.pre         by which split pattern, of byte-level BPE
    tokenizer.ggml.tokens      and their token_type and scores; merges
    tokenizer.ggml.bos_token_id, add_bos_token …    which tokens begin and end a text
    tokenizer.chat_template    kept as it is, as are others, chat_template.NAME; chat_templates lists their names

`files_of` makes the files of it, and `read` reads them as any other folder's; `metadata_of` writes those of a
tokenizer. Next to read: `tokenizer_files.py`.
"""

import base64
import json
import re
import tempfile
from array import array
from collections.abc import Mapping
from itertools import groupby
from pathlib import Path
from typing import Any

from glassformer import files
from glassformer.checkpoints import chat_templates
from glassformer.checkpoints.gguf_file import GGUFFile
from glassformer.checkpoints.tokenizer_files import TOKENIZER_CONFIG, Tokenizers, read_tokenizers
from glassformer.errors import ExportError, TokenizerError
from glassformer.tokenizers.base import Tokenizer
from glassformer.tokenizers.byte_level import BYTE_LEVEL
from glassformer.tokenizers.pretokenize import PATTERNS
from glassformer.tokenizers.sentencepiece import MARK_SPACES, SPACE, UNMARK_SPACES, SentencePieceTokenizer
from glassformer.tokenizers.tokenizer_json import BPE
from glassformer.tokenizers.untrusted_files import Json
from glassformer.tokenizers.wordpiece import CONTINUES, END, MASK, PADDING, WordPieceTokenizer
from glassformer.tokenizers.wordpiece import UNKNOWN as UNKNOWN_PIECE

KEY = "tokenizer.ggml."
CHAT_TEMPLATE, TEMPLATE_NAMES = "tokenizer.chat_template", "tokenizer.chat_templates"
FILE_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = 1, 2, 3, 4, 5, 6  # of token_type
BYTE_PIECE = re.compile(r"<0x[0-9A-F]{2}>")
UNUSED_SCORE = -10_000.0
ROLES = {"bos": "bos_token", "eos": "eos_token", "unknown": "unk_token", "padding": "pad_token"}
ROLES_OF_BERT = {**ROLES, "bos": "cls_token", "eos": "sep_token", "mask": "mask_token"}
ENDS = ("eos", "eot", "eom")  # tokens of these roles end a text; chat models have several


NO_PREFIX: Json = {  # parts of tokenizer.json where no space is put before a text
    "normalizer": {"type": "Replace", "pattern": {"String": " "}, "content": SPACE},
    "decoder": {"type": "Sequence", "decoders": UNMARK_SPACES[:-1]},
}


def _split(pattern: str) -> Json:
    split = {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}
    return {"type": "Sequence", "pretokenizers": [split, BYTE_LEVEL | {"use_regex": False}]}


NONE = "none"  # the kind of tokenizer of a model that has none
WHOLE_WORDS = ("llama-bpe", "llama3", "llama-v3")  # where a word that is a token needs no merges; <bos> is usual
_DIGITS: Json = {"type": "Sequence", "pretokenizers": [{"type": "Digits", "individual_digits": True}, BYTE_LEVEL]}
NFC: Json = {"type": "NFC"}
PRE: dict[str, Json] = {  # by tokenizer.ggml.pre
    **{name: {"pre_tokenizer": BYTE_LEVEL} for name in ("gpt-2", "jais")},
    **{name: {"pre_tokenizer": BYTE_LEVEL, "normalizer": NFC} for name in ("olmo", "mpt")},  # GPT-NeoX's
    **{name: {"pre_tokenizer": _DIGITS} for name in ("smollm", "starcoder", "refact", "codeshell")},
    **{name: {"pre_tokenizer": _split(PATTERNS["llama3"])} for name in WHOLE_WORDS},
    "qwen2": {"pre_tokenizer": _split(PATTERNS["qwen2"]), "normalizer": NFC},
    "gpt-4o": {"pre_tokenizer": _split(PATTERNS["o200k"])},
}


def read(contents: Mapping[str, bytes]) -> Tokenizers:
    """The tokenizer in files as `files_of` makes them."""
    with tempfile.TemporaryDirectory() as folder:
        for name in ("tokenizer.json", TOKENIZER_CONFIG):
            files.write(Path(folder, name), contents[name])
        tokenizer, source, missing = read_tokenizers(Path(folder))
        return Tokenizers(tokenizer, source, missing.replace(f"{folder}/", ""))


def load(path: Path) -> Tokenizer:
    """The tokenizer in a GGUF file, whose tensors are not read; raises where it has none that is known here."""
    with files.errors_about(path):
        metadata = GGUFFile(path).metadata
    if not is_in(metadata):
        raise TokenizerError(f"{path} has no tokenizer.")
    try:
        tokenizer, _, missing = read(files_of(metadata))
    except TokenizerError as error:
        raise error.about(path) from None
    if tokenizer is None:
        raise TokenizerError(f"{path}: {missing}")
    return tokenizer


def is_in(metadata: Mapping[str, Any]) -> bool:
    """Whether a file has a tokenizer."""
    return metadata.get(f"{KEY}model") != NONE and any(name.startswith(KEY) for name in metadata)


def files_of(metadata: Mapping[str, Any]) -> dict[str, bytes]:
    """tokenizer.json, tokenizer_config.json and the chat template; raises where tokenizer.json cannot say the same."""
    kind = metadata.get(f"{KEY}model")
    if kind == "bert":
        metadata = _of_bert(metadata)
    tokens = _texts(metadata, "tokens")
    around = _around(metadata, tokens)
    roles = ROLES_OF_BERT if kind == "bert" else ROLES
    settings = {name: tokens[id] for role, name in roles.items() if (id := token_id(metadata, role)) is not None}
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": False, **settings}
    config |= {f"add_{role}_token": bool(ids) for role, ids in around.items()}
    processor = _template(around, tokens)
    if kind == "gpt2":
        parts = _byte_level(metadata, tokens)
    elif kind == "llama":
        parts = _sentencepiece(metadata, tokens)
    elif kind == "t5":
        parts = _unigram(metadata, tokens)
    elif kind == "bert":
        parts, processor = _word_pieces(metadata, tokens), _bert_processor(around, tokens)
    else:
        raise TokenizerError(
            f'its tokenizer is of the kind {str(kind)[:40]!r}; "gpt2", "llama", "t5" and "bert" are read here.'
        )
    added = [
        {"id": id, "content": text, "single_word": False, "lstrip": False, "rstrip": False}
        | {"normalized": False, "special": special}
        for id, (text, special) in _added(metadata, tokens).items()
    ]
    file = {"version": "1.0", "truncation": None, "padding": None, "added_tokens": added}
    contents = {
        "tokenizer.json": json.dumps(file | parts | {"post_processor": processor}, ensure_ascii=False),
        TOKENIZER_CONFIG: json.dumps(config, ensure_ascii=False),
    }
    templates = {name: metadata.get(f"{CHAT_TEMPLATE}.{name}") for name in _template_names(metadata)}
    templates |= {chat_templates.DEFAULT: metadata.get(CHAT_TEMPLATE)}
    contents |= {chat_templates.file_of(name): text for name, text in templates.items() if isinstance(text, str)}
    return {name: text.encode() for name, text in contents.items()}


def chat_metadata(templates: Mapping[str, str]) -> dict[str, Any]:
    """The metadata that have these chat templates, by name."""
    others = {name: text for name, text in templates.items() if name != chat_templates.DEFAULT}
    metadata: dict[str, Any] = {f"{CHAT_TEMPLATE}.{name}": text for name, text in others.items()}
    if others:
        metadata[TEMPLATE_NAMES] = [*others]
    if chat_templates.DEFAULT in templates:
        metadata[CHAT_TEMPLATE] = templates[chat_templates.DEFAULT]
    return metadata


def _template_names(metadata: Mapping[str, Any]) -> list[str]:
    """The names of chat templates beside the usual one, each of which names a file, too."""
    names = metadata.get(TEMPLATE_NAMES)
    texts = [name for name in names if isinstance(name, str)] if isinstance(names, list) else []
    return [name for name in texts if FILE_NAME.fullmatch(name)]


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
    for role, default in (("bos", begins), ("eos", metadata.get(f"{KEY}model") == "t5")):
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
    return parts if _flag(metadata, "add_space_prefix", True) else parts | NO_PREFIX


METASPACE: Json = {"type": "Metaspace", "replacement": SPACE, "prepend_scheme": "always", "split": True}
WORDS: Json = {"type": "Sequence", "pretokenizers": [{"type": "WhitespaceSplit"}, METASPACE]}  # T5's


def _unigram(metadata: Mapping[str, Any], tokens: list[str]) -> Json:
    """The parts of tokenizer.json for sentencepiece's Unigram, after the table of characters that the file has."""
    pieces = list(zip(tokens, _numbers(metadata, "scores", tokens), strict=True))
    while pieces and pieces[-1][0] == f"[PAD{len(pieces) - 1}]":  # rows of an embedding that was padded
        pieces.pop()
    table = metadata.get(f"{KEY}precompiled_charsmap", array("B"))
    if not isinstance(table, array) or table.itemsize != 1:
        raise TokenizerError(f"{KEY}precompiled_charsmap must be bytes.")
    if not _flag(metadata, "add_space_prefix", True) or not _flag(metadata, "remove_extra_whitespaces", True):
        raise TokenizerError("its Unigram keeps spaces as they are, which is not read here.")
    normalizer = {"type": "Precompiled", "precompiled_charsmap": base64.b64encode(table.tobytes()).decode()}
    unknown = token_id(metadata, "unknown")
    model = {"type": "Unigram", "unk_id": 2 if unknown is None else unknown, "byte_fallback": False}
    return {
        "normalizer": normalizer if len(table) else None,
        "pre_tokenizer": WORDS,
        "decoder": METASPACE,
        "model": {**model, "vocab": pieces},
    }


def _of_bert(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """The metadata of a BERT's tokenizer with pieces as WordPiece spells them, and what stands around its texts."""
    tokens = _texts(metadata, "tokens")
    types = _numbers(metadata, "token_type", tokens)
    pieces = [
        text if type in (UNKNOWN, CONTROL) else _plain_piece(text) for text, type in zip(tokens, types, strict=True)
    ]
    ids = {"bos": 101, "eos": metadata.get(f"{KEY}seperator_token_id", 102), "unknown": 100}  # llama.cpp's own
    defaults = {f"{KEY}{role}_token_id": id for role, id in ids.items()}
    return {**defaults, f"{KEY}add_bos_token": True, f"{KEY}add_eos_token": True, **metadata, f"{KEY}tokens": pieces}


def _word_pieces(metadata: Mapping[str, Any], tokens: list[str]) -> Json:
    """The parts of tokenizer.json for WordPiece, which llama.cpp has for uncased vocabularies alone."""
    if len({*tokens}) < len(tokens):
        raise TokenizerError(f"two of its {len(tokens):,} tokens are the same.")
    types = _numbers(metadata, "token_type", tokens)
    vocab = {text: id for id, text in enumerate(tokens) if types[id] != UNUSED or text != f"[PAD{id}]"}
    special = {text: id for id, (text, is_special) in _added(metadata, tokens).items() if is_special}
    return WordPieceTokenizer(vocab, special).to_json()


def _plain_piece(text: str) -> str:
    """A piece as WordPiece spells it; in GGUF those that begin a word are marked, those that continue one are not."""
    if _in_brackets(text):
        return text
    return text.removeprefix(SPACE) if text.startswith(SPACE) else CONTINUES + text


def _marked_piece(text: str) -> str:
    """The other way round."""
    if _in_brackets(text):
        return text
    return text.removeprefix(CONTINUES) if text.startswith(CONTINUES) else SPACE + text


def _in_brackets(text: str) -> bool:
    """Whether this is a piece such as [unused0], which llama.cpp's converter leaves as it is."""
    return text.startswith("[") and text.endswith("]")


def _bert_processor(around: Mapping[str, list[int]], tokens: list[str]) -> Json:
    """The post-processor that puts [CLS] before the first text alone, and [SEP] behind both."""
    if not around["bos"] or not around["eos"]:
        return _template(around, tokens)
    (begin,), (end,) = around["bos"], around["eos"]
    return {"type": "BertProcessing", "sep": [tokens[end], end], "cls": [tokens[begin], begin]}


# ---- writing


def metadata_of(tokenizer: Tokenizer, vocab_size: int) -> dict[str, Any]:
    """The metadata of a tokenizer for so many rows of an embedding; raises where they cannot say the same."""
    if tokenizer.vocab_size > vocab_size:
        raise ExportError(f"The tokenizer has the id {tokenizer.vocab_size - 1}, and the model {vocab_size:,} tokens.")
    file = json.loads(tokenizer.tokenizer_json())
    model = file["model"]
    if model.get("type") not in ("BPE", "WordPiece", "Unigram"):
        raise ExportError(
            f"GGUF is written of BPE, Unigram and WordPiece, and this tokenizer is a {model.get('type')}."
        )
    by_scores = bool(model.get("byte_fallback"))
    is_unigram = model["type"] == "Unigram"
    pieces = [piece for piece, _ in model["vocab"]] if is_unigram else []
    tokens = dict(enumerate(pieces)) or {id: text for text, id in model["vocab"].items()}
    types = dict.fromkeys(tokens, NORMAL)
    for added in file["added_tokens"]:
        _check_added(added, file)
        tokens[added["id"]] = added["content"]
        types[added["id"]] = CONTROL if added["special"] else USER_DEFINED
    texts = [tokens.get(id, f"[PAD{id}]") for id in range(vocab_size)]
    if by_scores:
        types |= {id: BYTE for id, text in tokens.items() if BYTE_PIECE.fullmatch(text)}
        types |= {id: UNKNOWN for id, text in tokens.items() if text == model.get("unk_token")}
        control = [tokens[id] for id, type in types.items() if type in (UNKNOWN, CONTROL, USER_DEFINED)]
        metadata = _scores_metadata(tokenizer, file, texts, control)
    elif is_unigram:
        types[model["unk_id"]] = UNKNOWN
        metadata = _unigram_metadata(file, vocab_size)
    elif model["type"] == "WordPiece":
        texts = [text if types.get(id) == CONTROL else _marked_piece(text) for id, text in enumerate(texts)]
        metadata = _pieces_metadata(tokenizer, model, texts, types)
    else:
        metadata = _merges_metadata(file)
    numbers = array("i", [types.get(id, UNUSED) for id in range(vocab_size)])
    return metadata | {f"{KEY}tokens": texts, f"{KEY}token_type": numbers}


def _check_added(added: Json, file: Json) -> None:
    """Raise unless an added token is looked for in a text as llama.cpp does: as it is spelled, wherever it stands."""
    text = added["content"]
    if setting := next((name for name in ("lstrip", "rstrip", "single_word") if added[name]), None):
        raise ExportError(
            f"GGUF cannot express that its token {text!r} takes the text beside it into account ({setting} in "
            "tokenizer.json)."
        )
    if not added["normalized"] or not file["model"].get("byte_fallback"):
        return
    if file.get("normalizer") != NO_PREFIX["normalizer"] or " " in text or SPACE in text:
        raise ExportError(
            f"GGUF cannot express that its token {text!r} is looked for only after spaces have been replaced "
            "(normalized in tokenizer.json): there, tokens are looked for in the text as it was typed."
        )


def _merges_metadata(file: Json) -> dict[str, Any]:
    """Byte-level BPE, which splits text as one of `PRE`."""
    model = file["model"]
    pre = [
        name
        for name, parts in PRE.items()
        if parts["pre_tokenizer"] == file.get("pre_tokenizer")
        and parts.get("normalizer") == file.get("normalizer")
        and (name in WHOLE_WORDS) == bool(model.get("ignore_merges"))
    ]
    if not pre:
        raise ExportError(
            f"Its tokenizer is not among those that are written in GGUF: byte-level BPE that splits text as one of "
            f"{', '.join(PRE)}, and sentencepiece's."
        )
    merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in model["merges"]]
    return {f"{KEY}model": "gpt2", f"{KEY}pre": pre[0], f"{KEY}merges": merges}


def _unigram_metadata(file: Json, vocab_size: int) -> dict[str, Any]:
    """Unigram as T5 has it: spaces and ends of lines divide words, each of which begins with a mark."""
    model, normalizer = file["model"], file.get("normalizer") or {"type": "Precompiled", "precompiled_charsmap": ""}
    if file.get("pre_tokenizer") != WORDS or normalizer["type"] != "Precompiled" or model["unk_id"] is None:
        raise ExportError("GGUF has Unigram as T5 has it alone, and this tokenizer treats spaces or letters otherwise.")
    scores = [score for _, score in model["vocab"]]
    table = array("B", base64.b64decode(normalizer["precompiled_charsmap"]))
    return {
        f"{KEY}model": "t5",
        f"{KEY}pre": "default",
        f"{KEY}scores": array("f", [*scores, *[UNUSED_SCORE] * (vocab_size - len(scores))]),
        f"{KEY}add_space_prefix": True,
        f"{KEY}remove_extra_whitespaces": True,
        f"{KEY}unknown_token_id": model["unk_id"],
        **({f"{KEY}precompiled_charsmap": table} if table else {}),
    }


def _pieces_metadata(tokenizer: Tokenizer, model: Json, texts: list[str], types: Mapping[int, int]) -> dict[str, Any]:
    """WordPiece as llama.cpp has it: of letters that are lowered, without accents."""
    if not isinstance(tokenizer, WordPieceTokenizer) or not (
        tokenizer.lowercase and tokenizer.strip_accents is not False and tokenizer.split_chinese and tokenizer.clean
    ):
        raise ExportError("GGUF has WordPiece of uncased vocabularies alone, whose letters are lowered.")
    for text, id in model["vocab"].items():
        if types[id] != CONTROL and _plain_piece(texts[id]) != text:
            raise ExportError(f"GGUF cannot express the piece {text!r}, which would begin a word there.")
    special = tokenizer.special_tokens
    ids = {"unknown": special.get(UNKNOWN_PIECE), "seperator": special.get(END)}
    ids |= {"mask": special.get(MASK), "padding": special.get(PADDING)}
    return {f"{KEY}model": "bert", f"{KEY}pre": "default"} | {
        f"{KEY}{role}_token_id": id for role, id in ids.items() if id is not None
    }


def _scores_metadata(tokenizer: Tokenizer, file: Json, tokens: list[str], control: list[str]) -> dict[str, Any]:
    """sentencepiece's BPE, whose pieces have scores: their own, or those that its merges come of."""
    spaces = {part: file.get(part) for part in ("normalizer", "pre_tokenizer")}
    prefix = spaces == {"normalizer": {"type": "Sequence", "normalizers": MARK_SPACES}, "pre_tokenizer": None}
    if not prefix and spaces != {"normalizer": NO_PREFIX["normalizer"], "pre_tokenizer": None}:
        raise ExportError(
            "GGUF has sentencepiece's texts with a space put before all their parts or before none, and nothing else "
            "that is done to spaces and letters, as this tokenizer does."
        )
    scores = tokenizer.scores if isinstance(tokenizer, SentencePieceTokenizer) else None
    if scores is None:
        pairs = [merge.split(" ") if isinstance(merge, str) else merge for merge in file["model"]["merges"]]
        scores = _scores(tokens, [(left, right) for left, right in pairs], control)
    unknown = [id for id, text in enumerate(tokens) if text == file["model"].get("unk_token")]
    return {
        f"{KEY}model": "llama",
        f"{KEY}pre": "default",
        f"{KEY}scores": array("f", [*scores, *[UNUSED_SCORE] * (len(tokens) - len(scores))]),
        f"{KEY}add_space_prefix": prefix,
        **{f"{KEY}unknown_token_id": id for id in unknown},
    }


def _scores(tokens: list[str], merges: list[tuple[str, str]], control: list[str]) -> list[float]:
    """Scores by which pieces are joined in the order of these merges; raises where no scores do that."""
    joined = [piece for piece, _ in groupby(left + right for left, right in merges)]
    place = {piece: n for n, piece in enumerate(joined)}
    scores = [-float(place.get(token, len(place))) for token in tokens]
    again = SentencePieceTokenizer(tokens, scores, control)
    if len(place) < len(joined) or set(again.listed_merges()) != set(merges):
        raise ExportError("GGUF has sentencepiece's pieces by their scores, which do not express its merges.")
    return scores
