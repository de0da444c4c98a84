"""The files that tokenizers are published in: by which names each is recognised, and what reads it.

What writes them is with each kind of tokenizer: `save`, and `to_json` for its parts of tokenizer.json. This is the one
file that imports all kinds.
"""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from operator import itemgetter
from pathlib import Path

from glassformer.errors import TokenizerError, UnsupportedPipeline
from glassformer.tokenizers.base import Tokenizer
from glassformer.tokenizers.bpe_train import train_tokenizer
from glassformer.tokenizers.byte_level import BYTE_LEVEL, BPETokenizer, read_vocab_and_merges
from glassformer.tokenizers.char import CharTokenizer
from glassformer.tokenizers.library import LibraryTokenizer
from glassformer.tokenizers.marian import SOURCE, TARGET, read_marian
from glassformer.tokenizers.nanogpt import read_meta
from glassformer.tokenizers.pretokenize import PATTERNS
from glassformer.tokenizers.sentencepiece import SentencePieceTokenizer, parse_model, read_llama2c
from glassformer.tokenizers.subword import DICTIONARY, read_subword
from glassformer.tokenizers.tiktoken import parse_ranks, read_tiktoken
from glassformer.tokenizers.tokenizer_config import declare, read_added_tokens, read_settings
from glassformer.tokenizers.tokenizer_json import check_around, check_options, excerpt, model_type, tokens_around
from glassformer.tokenizers.untrusted_files import Json, file_in, read_bytes, read_json, read_text
from glassformer.tokenizers.vocabulary import special_bytes
from glassformer.tokenizers.word_level import WordTokenizer
from glassformer.tokenizers.wordpiece import WordPieceTokenizer, read_vocab_txt

TOKENIZER_JSON = "tokenizer.json"
NFC: Json = {"type": "NFC"}
PARTS_OF_CLASSES: dict[str, Json] = {  # vocab.json and merges.txt without a tokenizer.json are GPT-2's but for these
    "Qwen2Tokenizer": {
        "normalizer": NFC,
        "pre_tokenizer": {
            "type": "Sequence",
            "pretokenizers": [
                {"type": "Split", "pattern": {"Regex": PATTERNS["qwen2"]}, "behavior": "Isolated", "invert": False},
                BYTE_LEVEL | {"use_regex": False},
            ],
        },
    },
    "GPTNeoXTokenizer": {"normalizer": NFC},
}
SOURCE_FOLDER = "source_tokenizer"  # in the folder of an encoder-decoder whose source has a tokenizer of its own


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenizerFormat:
    """A published file: the patterns that its name fits, and the function that reads the tokenizer at a path.

    `in_folder` is the name, or a pattern that one name alone must fit, by which a folder has this format; None: a file
    of it is never looked for. `unsplit`: the file does not say how text is split, and the reader also takes the name of
    a split pattern, or None.
    """

    names: tuple[str, ...]
    read: Callable[..., Tokenizer]
    in_folder: str | None = None
    unsplit: bool = False


def read_tokenizer_json(path: Path) -> Tokenizer:
    """The tokenizer that a tokenizer.json describes: of one of our kinds, or run by the `tokenizers` library."""
    return tokenizer_of(path, read_text(path), read_json(path))


def tokenizer_of(path: Path, text: str, file: Json) -> Tokenizer:
    """The same of a file's text and what it says; `path` is for messages."""
    special_tokens = check_around(path, file)
    processor = file.get("post_processor")
    begin, end = tokens_around(path, processor)
    tokenizer: Tokenizer
    try:
        check_options(path, file)
        tokenizer = _kind(path, file).from_json(path, file, special_tokens)
    except UnsupportedPipeline:
        tokenizer = LibraryTokenizer.from_file(path, text, file)
    tokenizer.post_processor = processor
    tokenizer.not_special = frozenset(each["id"] for each in file.get("added_tokens", []) if not each.get("special"))
    tokenizer.begin_ids, tokenizer.end_ids = begin, end
    tokenizer.bos_id = begin[0] if begin else None
    tokenizer.eos_id = end[-1] if end else tokenizer.eos_id
    return tokenizer


def _kind(path: Path, file: Json) -> type[Tokenizer]:
    """The class that a tokenizer.json is read as, by the type of its model and what tells two of one type apart."""
    model = file["model"]
    match model_type(file):
        case "BPE":
            return SentencePieceTokenizer if model.get("byte_fallback") else BPETokenizer
        case "WordPiece":
            return WordPieceTokenizer
        case "WordLevel":
            vocab = model.get("vocab")
            has_unknown = isinstance(vocab, dict) and model.get("unk_token") in vocab
            return WordTokenizer if has_unknown else CharTokenizer
        case other:
            raise UnsupportedPipeline(f"{path}: the model is {excerpt(other)}, which none of our classes is.")


def read_model(path: Path, pattern: str | None = None) -> Tokenizer:
    """A *.model, which is sentencepiece's protocol buffer, or has Llama 3's ranks, as Meta names them."""
    data = read_bytes(path)
    if re.match(rb"[A-Za-z0-9+/]+={0,2} \d+\n", data):
        return parse_ranks(path, data, "llama3", pattern)
    return parse_model(path, data)


FORMATS = (  # in the order in which a folder is searched
    TokenizerFormat(names=("*.spm",), in_folder=TARGET, read=read_marian),
    TokenizerFormat(names=("*.json",), in_folder=TOKENIZER_JSON, read=read_tokenizer_json),
    TokenizerFormat(
        names=("*vocab.json", "*merges.txt"), in_folder="vocab.json", read=read_vocab_and_merges, unsplit=True
    ),
    TokenizerFormat(
        names=("*encoder.json", "*vocab.bpe"), in_folder="encoder.json", read=read_vocab_and_merges, unsplit=True
    ),
    TokenizerFormat(names=("*.model",), in_folder="tokenizer.model", read=read_model, unsplit=True),
    TokenizerFormat(names=("*vocab.txt",), in_folder="vocab.txt", read=read_vocab_txt),
    TokenizerFormat(names=("dict.txt", "dict.*.txt"), in_folder=DICTIONARY, read=read_subword),
    TokenizerFormat(names=("*meta.pkl",), in_folder="meta.pkl", read=read_meta),
    TokenizerFormat(names=("*.tiktoken",), in_folder="*.tiktoken", read=read_tiktoken, unsplit=True),
    TokenizerFormat(names=("*.bin",), read=read_llama2c),
)


def load(path: Path, pattern: str | None = None) -> Tokenizer:
    """Read the tokenizer at `path`, a file or a directory, by the names of the files; `Tokenizer.load` is this."""
    file = _file_of(path) if path.is_dir() else path
    format = format_of(file.name)
    if format is None:
        names = ", ".join(name for format in FORMATS for name in format.names)
        raise TokenizerError(f"{path}: expected a tokenizer's file ({names}), or a folder that has one.")
    tokenizer = format.read(file, pattern) if format.unsplit else format.read(file)
    if file.name == format.in_folder:
        settings = read_settings(file.parent)
        alone = file.name != TOKENIZER_JSON
        if alone and isinstance(tokenizer, BPETokenizer | SentencePieceTokenizer | WordPieceTokenizer):
            tokenizer = configured(file, tokenizer, settings)
        declare(tokenizer, settings, around=alone)
    return tokenizer


def configured(path: Path, tokenizer: Tokenizer, settings: Json) -> Tokenizer:
    """The tokenizer of a vocabulary as its folder's settings have it, made by the tokenizer.json that says the same."""
    id_of = {data: id for id, data in tokenizer.vocab.items()}
    id_of |= {text.encode(): id for text, id in tokenizer.special_tokens.items()}
    added: list[Json] = []
    for token in read_added_tokens(path.parent, settings):
        id = token.get("id", id_of.get(special_bytes(token["content"])))
        if id is not None:
            added.append(token | {"id": id})
    normalizes = not isinstance(tokenizer, BPETokenizer)
    changes = _changes(tokenizer, settings)
    if not changes and all(
        tokenizer.special_tokens.get(token["content"]) == token["id"]
        and not (token["single_word"] or token["lstrip"] or token["rstrip"] or (token["normalized"] and normalizes))
        for token in added
    ):
        return tokenizer
    file = json.loads(tokenizer.tokenizer_json()) | changes
    tokens = {token["content"]: token for token in (*file["added_tokens"], *added)}
    file["added_tokens"] = sorted(tokens.values(), key=itemgetter("id"))
    again = tokenizer_of(path, json.dumps(file, ensure_ascii=False), file)
    again.bos_id, again.eos_id = tokenizer.bos_id, tokenizer.eos_id
    return again


def _changes(tokenizer: Tokenizer, settings: Json) -> Json:
    """What tokenizer.json says otherwise, by the settings: how text is cut, and before what a space is put."""
    prefix = settings.get("add_prefix_space")
    match tokenizer:
        case BPETokenizer(pattern="gpt2"):
            parts = PARTS_OF_CLASSES.get(str(settings.get("tokenizer_class")).removesuffix("Fast"), {})
            spaces = {"pre_tokenizer": BYTE_LEVEL | {"add_prefix_space": True}} if prefix is True else {}
            return spaces | parts
        case SentencePieceTokenizer() if prefix is False or settings.get("legacy") is False:
            return tokenizer.parts_with_spaces("never" if prefix is False else "first")
    return {}


def format_of(name: str) -> TokenizerFormat | None:
    """The format that a file's name fits; of several patterns the longest decides, *vocab.json before *.json."""
    fits = [(len(pattern), format) for format in FORMATS for pattern in format.names if fnmatchcase(name, pattern)]
    return max(fits, key=lambda fit: fit[0])[1] if fits else None


def _file_of(folder: Path) -> Path:
    """The file by which a folder's tokenizer is read, which must exist."""
    file = find(folder)
    if file is None:
        patterns = [format.in_folder for format in FORMATS if format.in_folder is not None]
        several = [f"{n} {pattern}" for pattern in patterns if (n := len(list(folder.glob(pattern)))) > 1]
        instead = f"are {several[0]}: name one" if several else "is none of them"
        raise TokenizerError(
            f"{folder}: expected tokenizer.json or another tokenizer's file ({', '.join(patterns)}); there {instead}."
        )
    return file


def find(folder: Path, within: str = "") -> Path | None:
    """The file by which a folder's tokenizer is read; None where there is none, or no saying which.

    `within` is a folder in this one, which also may be no link out of it.
    """
    names = names_in(folder / within)
    return file_in(folder, f"{within}{names[0]}") if names else None


def names_in(folder: Path) -> list[str]:
    """The files by which a folder's tokenizer could be read, the first of which counts."""
    names: list[str] = []
    for format in FORMATS:
        if format.in_folder is not None:
            fits = [path.name for path in folder.glob(format.in_folder) if path.is_file()]
            names += fits if len(fits) == 1 else []
    return names


def find_source(folder: Path) -> Path | None:
    """The same for the source of an encoder-decoder; None where it shares the tokenizer of the target."""
    return find(folder, f"{SOURCE_FOLDER}/") or (file_in(folder, SOURCE) if (folder / SOURCE).is_file() else None)


Tokenizer._load, Tokenizer._train = load, train_tokenizer
