"""tiktoken's files of ranks: byte-level BPE without a list of merges, as OpenAI and Meta publish it.

A pair merges when its concatenation is a token, that of the least rank first. How text is split and which tokens are
special the files leave out; for published ones it is known by their names.
"""

import base64
import binascii
from pathlib import Path

from glassformer.errors import TokenizerError
from glassformer.tokenizers.byte_level import BPETokenizer
from glassformer.tokenizers.untrusted_files import read_bytes
from glassformer.tokenizers.vocabulary import check_no_gaps

LONGEST_RANKED_TOKEN = 4096

BEGIN = "<|begin_of_text|>"
_LLAMA3 = (
    [BEGIN, "<|end_of_text|>", *(f"<|reserved_special_token_{i}|>" for i in range(4))]
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


def read_tiktoken(path: Path, pattern: str | None = None) -> BPETokenizer:
    """The tokenizer of a *.tiktoken; its name is that of a published one, else `pattern` says how text is split."""
    return parse_ranks(path, read_bytes(path), path.stem, pattern)


def parse_ranks(path: Path, data: bytes, name: str, pattern: str | None = None) -> BPETokenizer:
    """On each line a token in base64 and its rank, which is its id; `name` is that of a published vocabulary."""
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
    if clashes := vocab.keys() & special_tokens.values():
        raise TokenizerError(
            f"{path}: rank {min(clashes)} belongs to a special token of {name}.", python="Pass pattern=... for others."
        )
    check_no_gaps(path, vocab, special_tokens.values())
    vocab |= {id: token.encode() for token, id in special_tokens.items()}
    tokenizer = BPETokenizer(vocab, None, special_tokens, pattern)
    if BEGIN in special_tokens:
        tokenizer.bos_id = special_tokens[BEGIN]
        tokenizer.begin_ids = (special_tokens[BEGIN],)
    return tokenizer
