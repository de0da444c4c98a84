"""The files that vocabularies come in: which reader a path needs, GPT-2's pair of files, tiktoken's ranks.

Files come from strangers: sizes are checked before reading, and every departure from a format is a TokenizerError.
`tokenizer_json.py` has the Hugging Face format, `sentencepiece.py` its own.
"""

import base64
import binascii
import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from glassformer import files, strict_json
from glassformer.errors import CheckpointError, TokenizerError
from glassformer.files import write_file
from glassformer.tokenizers.base import Tokenizer
from glassformer.tokenizers.bpe import BPETokenizer

MAX_FILE_BYTES = 32 << 20
MAX_JSON_ITEMS = 4_000_000  # brackets and commas: o200k's tokenizer.json, the largest we know, has 1.5 million
LONGEST_RANKED_TOKEN = 4096
SOURCE_FOLDER = "source_tokenizer"  # inside a model's folder

_LLAMA3 = (
    ["<|begin_of_text|>", "<|end_of_text|>", *(f"<|reserved_special_token_{i}|>" for i in range(4))]
    + ["<|start_header_id|>", "<|end_header_id|>", "<|reserved_special_token_4|>", "<|eot_id|>"]
    + [f"<|reserved_special_token_{i}|>" for i in range(5, 251)]
)
PUBLISHED: dict[str, tuple[str, dict[str, int]]] = {
    "gpt2": ("gpt2", {"<|endoftext|>": 50256}),
    "multilingual": ("gpt2", {"<|endoftext|>": 50257}),  # Whisper's
    "cl100k_base": (
        "cl100k",
        {
            "<|endoftext|>": 100257,
            "<|fim_prefix|>": 100258,
            "<|fim_middle|>": 100259,
            "<|fim_suffix|>": 100260,
            "<|endofprompt|>": 100276,
        },
    ),
    "o200k_base": ("o200k", {"<|endoftext|>": 199999, "<|endofprompt|>": 200018}),
    "llama3": ("llama3", {token: 128000 + i for i, token in enumerate(_LLAMA3)}),
}
"""What tiktoken's files leave out, by their names: the split pattern and the special tokens."""


def load(path: Path, pattern: str | None = None) -> Tokenizer:
    """Read the tokenizer at `path`, a file or a directory, by the names of the files."""
    from glassformer.tokenizers.marian import read_marian
    from glassformer.tokenizers.nanogpt import read_meta
    from glassformer.tokenizers.sentencepiece import read_llama2c, read_sentencepiece_model
    from glassformer.tokenizers.subword import read_subword
    from glassformer.tokenizers.tokenizer_json import read_tokenizer_json
    from glassformer.tokenizers.wordpiece import read_vocab_txt

    if path.is_dir():
        found = find(path)
        if found is None:
            ranks = list(path.glob("*.tiktoken"))
            instead = f"are {len(ranks)} *.tiktoken: name one" if ranks else "is none of them"
            raise TokenizerError(
                f"{path}: expected tokenizer.json, target.spm, vocab.json with merges.txt, tokenizer.model, vocab.txt, "
                f"dict.txt, meta.pkl or a *.tiktoken file; there {instead}."
            )
        path = found
    name = path.name
    if name.endswith(("vocab.json", "merges.txt")):
        return _read_gpt2(path, pattern)
    if name.startswith("dict.") and name.endswith(".txt"):
        return read_subword(path)
    data = read_bytes(path)
    if name.endswith("meta.pkl"):
        return read_meta(path, data)
    if name.endswith(".json"):
        return read_tokenizer_json(path, data)
    if name.endswith("vocab.txt"):
        return read_vocab_txt(path, data)
    if name.endswith(".spm"):
        return read_marian(path, data)
    if name.endswith(".tiktoken"):
        return read_tiktoken(path, data, path.stem, pattern)
    if name.endswith(".bin"):
        return read_llama2c(path, data)
    if name.endswith(".model"):
        if re.match(rb"[A-Za-z0-9+/]+={0,2} \d+\n", data):  # Meta's name for Llama 3's ranks
            return read_tiktoken(path, data, "llama3", pattern)
        return read_sentencepiece_model(path, data)
    raise TokenizerError(
        f"{path}: expected tokenizer.json, vocab.json, merges.txt, vocab.txt, dict.*.txt, *.tiktoken, tok*.bin, "
        "*.model, *.spm or nanoGPT's meta.pkl, or their directory."
    )


def find(folder: Path, within: str = "") -> Path | None:
    """The file by which a folder's tokenizer is read; None where there is none, or no saying which.

    `within` is a folder in this one, which also may be no link out of it.
    """
    names = ["target.spm", "tokenizer.json", "vocab.json", "tokenizer.model", "vocab.txt", "dict.txt", "meta.pkl"]
    ranks = [path.name for path in (folder / within).glob("*.tiktoken")]
    names += ranks if len(ranks) == 1 else []
    return next((inside(folder, f"{within}{name}") for name in names if (folder / within / name).is_file()), None)


def find_source(folder: Path) -> Path | None:
    """The same for the source of an encoder-decoder; None where it shares the tokenizer of the target."""
    marian = "source.spm"
    return find(folder, f"{SOURCE_FOLDER}/") or (inside(folder, marian) if (folder / marian).is_file() else None)


def inside(folder: Path, name: str) -> Path:
    """A file of a folder, which may come from a stranger; a link that leads out of it is an error."""
    try:
        return files.inside(folder, name)
    except CheckpointError as error:
        raise TokenizerError(f"{folder}: {error}") from None


def beside(path: Path, name: str) -> Path:
    """The file of another name in the same folder, which must be there."""
    if not path.with_name(name).is_file():
        raise TokenizerError(f"{path}: expected {name} beside it, and there is none.")
    return inside(path.parent, name)


# ---- GPT-2's vocab.json and merges.txt


def _printable_bytes() -> dict[int, str]:
    """GPT-2's way to write any byte as a visible character: itself where it is one, else the next from U+0100 on."""
    visible = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    hidden = [byte for byte in range(256) if byte not in visible]
    return {byte: chr(byte) for byte in visible} | {byte: chr(256 + i) for i, byte in enumerate(hidden)}


_PRINTABLE = _printable_bytes()
_NO_BYTE = 0xFFFF
_FROM_PRINTABLE = dict.fromkeys(range(256), _NO_BYTE) | {ord(shown): byte for byte, shown in _PRINTABLE.items()}


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


def read_vocab_and_merges(vocab_path: Path, merges_path: Path) -> tuple[dict[int, bytes], list[tuple[bytes, bytes]]]:
    """GPT-2's pair of files."""
    vocab = vocab_of_json(vocab_path, parse_json(vocab_path, read_bytes(vocab_path)))
    check_no_gaps(vocab_path, vocab, ())
    try:
        lines = read_bytes(merges_path).decode().split("\n")
    except UnicodeDecodeError:
        raise TokenizerError(f"{merges_path} is not UTF-8: expected lines of two tokens.") from None
    rules = [line for number, line in enumerate(lines) if line and not (number == 0 and line.startswith("#version"))]
    return vocab, merges_of_lines(merges_path, rules)


def write_vocab_and_merges(tokenizer: BPETokenizer, directory: Path) -> tuple[Path, Path]:
    """Write vocab.json and merges.txt, which people can read; returns their paths."""
    if tokenizer.merges is None:
        raise TokenizerError("this vocabulary has ranks and no merges: save it as tokenizer.json instead.")
    vocab = {to_printable(token): id for id, token in sorted(tokenizer.vocab.items())}
    lines = [f"{to_printable(left)} {to_printable(right)}" for left, right in tokenizer.merges]
    return (
        write_text(directory / "vocab.json", json.dumps(vocab, ensure_ascii=False)),
        write_text(directory / "merges.txt", "\n".join(["#version: 0.2", *lines, ""])),
    )


def _read_gpt2(path: Path, pattern: str | None) -> BPETokenizer:
    """The pair of files of which `path` is one. What no merge makes, and is no byte, can only be a special token."""
    stem = path.name.removesuffix("vocab.json").removesuffix("merges.txt")
    vocab, merges = read_vocab_and_merges(beside(path, f"{stem}vocab.json"), beside(path, f"{stem}merges.txt"))
    made = {left + right for left, right in merges}
    special = [token for token in vocab.values() if len(token) > 1 and token not in made]
    try:
        return BPETokenizer(vocab, merges, [token.decode() for token in special], pattern or "gpt2")
    except UnicodeDecodeError:
        raise TokenizerError(
            f"{path}: some tokens that no merge makes are not UTF-8; merges.txt is cut short."
        ) from None


def vocab_of_json(path: Path, vocab: object) -> dict[int, bytes]:
    """Token to id, in printable characters, turned into id to bytes."""
    return {id: from_printable(text) for text, id in checked_vocab(path, vocab).items()}


def checked_vocab(path: Path, vocab: object) -> dict[str, int]:
    """A vocabulary as JSON has it, when it is one: distinct text to distinct ids from 0 on."""
    if not isinstance(vocab, dict) or not vocab:
        raise TokenizerError(f"{path}: expected a vocabulary, an object of tokens and their ids.")
    for text, id in vocab.items():
        if type(id) is not int or id < 0:
            raise TokenizerError(
                f"{path}: the id of {text[:40]!r} is {str(id)[:40]}, expected a whole number from 0 on."
            )
    if len(set(vocab.values())) != len(vocab):
        raise TokenizerError(f"{path}: two tokens have the same id.")
    return vocab


def check_no_gaps(path: Path, ordinary: Iterable[int], special: Iterable[int]) -> None:
    """Ordinary and special tokens fill the ids from 0 on; only special tokens at the end may leave some out."""
    special, ids = set(special), {*ordinary, *special}
    top = max(ids - special, default=-1)
    gap = next(id for id in range(len(ids) + 1) if id not in ids)
    if gap < top:
        raise TokenizerError(f"{path}: no token has the id {gap}, though others go up to {top}.")
    if max(special, default=0) > top + (1 << 16):
        raise TokenizerError(f"{path}: a special token has the id {max(special)}, far beyond the last token's, {top}.")


def merges_of_lines(path: Path, lines: object) -> list[tuple[bytes, bytes]]:
    """Merges as lines `left right` or as pairs, in printable characters."""
    merges = checked_merges(path, lines)
    tokens = {text: from_printable(text) for text in {text for merge in merges for text in merge}}
    return [(tokens[left], tokens[right]) for left, right in merges]


def checked_merges(path: Path, lines: object) -> list[tuple[str, str]]:
    """Merges as a list of pairs, when each line is one."""
    if not isinstance(lines, list):
        raise TokenizerError(f"{path}: expected merges, a list of pairs of tokens.")
    merges: list[tuple[str, str]] = []
    for line in lines:
        pair = line.split(" ") if isinstance(line, str) else line
        if not isinstance(pair, list) or [type(half) for half in pair] != [str, str] or not all(pair):
            raise TokenizerError(f"{path}: merge {len(merges)} is {str(line)[:40]!r}, expected two tokens.")
        merges.append((pair[0], pair[1]))
    return merges


# ---- tiktoken's ranks


def read_tiktoken(path: Path, data: bytes, name: str, pattern: str | None = None) -> BPETokenizer:
    """tiktoken's file of ranks: on each line a token in base64 and its rank, which is its id."""
    if name not in PUBLISHED and pattern is None:
        raise TokenizerError(
            f"{path} does not say how text is split: give it a published name, {', '.join(PUBLISHED)}.",
            python="Or pass pattern=....",
        )
    pattern, special_tokens = (pattern, {}) if pattern is not None else PUBLISHED[name]
    vocab: dict[int, bytes] = {}
    for number, line in enumerate(data.splitlines(), 1):
        try:
            encoded, rank = line.split()
            if encoded == b"=":  # Whisper's multilingual file ends with a token of no bytes, which no text has
                vocab[int(rank)] = b""
                continue
            token, id = base64.b64decode(encoded, validate=True), int(rank)
        except (ValueError, binascii.Error):
            raise TokenizerError(f"{path}: line {number} is not a token in base64 and its rank.") from None
        if id in vocab or not 0 < len(token) <= LONGEST_RANKED_TOKEN:
            raise TokenizerError(f"{path}: line {number} has a rank that came before, or no token.")
        vocab[id] = token
    if taken := vocab.keys() & special_tokens.values():
        raise TokenizerError(
            f"{path}: rank {min(taken)} belongs to a special token of {name}.", python="Pass pattern=... for others."
        )
    check_no_gaps(path, vocab, special_tokens.values())
    vocab |= {id: token.encode() for token, id in special_tokens.items()}
    return BPETokenizer(vocab, None, special_tokens, pattern)


# ---- reading and writing


def read_bytes(path: Path) -> bytes:
    """The bytes of a file that is not larger than a tokenizer can be."""
    try:
        if not path.is_file():
            raise TokenizerError(f"{path}: expected a tokenizer file, and there is none.")
        if path.stat().st_size > MAX_FILE_BYTES:
            raise TokenizerError(f"{path} has {path.stat().st_size} bytes: a tokenizer has at most {MAX_FILE_BYTES}.")
        return path.read_bytes()
    except OSError as error:
        raise TokenizerError(f"{path} cannot be read: {error.strerror}.") from error


def parse_json(path: Path, data: bytes) -> dict[str, Any]:
    """The JSON object of a tokenizer's file."""
    return strict_json.parse(data, str(path), max_values=MAX_JSON_ITEMS, error=TokenizerError)


def write_text(path: Path, text: str, *, overwrite: bool = False) -> Path:
    """Write a file whole or not at all; its folder is made."""
    write_file(path, text.encode(), overwrite=overwrite)
    return path
