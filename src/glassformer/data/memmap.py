"""Token files: a corpus as one long array of ids on disk, mapped into memory, and batches drawn from it.

`tokenize_files` writes a folder: `tokens.bin` (uint16 or uint32, little-endian), `tokens.json` (which tokenizer, how
many tokens), the tokenizer itself, and a manifest with everything's SHA-256. Next to read: `training/tasks/`.
"""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Int, UInt
from numpy.lib.stride_tricks import sliding_window_view
from torch import Tensor

from glassformer import files
from glassformer.config import from_mapping, read_mapping
from glassformer.data.text import read_text, size_of
from glassformer.errors import ConfigError, DataError
from glassformer.tokenizers import Tokenizer

ReadProgress = Callable[[int, int], None]  # bytes of text read, of how many

DTYPES: dict[str, np.dtype[Any]] = {"uint16": np.dtype("<u2"), "uint32": np.dtype("<u4")}
WRITE_TOKENS = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenInfo:
    """What `tokens.json` says."""

    dtype: str
    count: int
    vocab_size: int
    tokenizer: str  # its fingerprint

    def __post_init__(self) -> None:
        if self.dtype not in DTYPES or self.count < 0 or self.vocab_size < 1:
            raise ConfigError(f"dtype {self.dtype!r}, count {self.count}, vocab_size {self.vocab_size} cannot be.")


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenFile:
    """A corpus as token ids, mapped from `folder`."""

    folder: Path
    info: TokenInfo
    tokens: UInt[np.ndarray, " N"]

    def split(self, validation_fraction: float) -> tuple[UInt[np.ndarray, " M"], UInt[np.ndarray, " K"]]:
        """The beginning to train on and the end to validate on."""
        n_train = int(len(self.tokens) * (1 - validation_fraction))
        return self.tokens[:n_train], self.tokens[n_train:]


def tokenize_files(
    paths: Sequence[Path],
    tokenizer: Tokenizer,
    out: Path,
    on_progress: ReadProgress | None = None,
    *,
    overwrite: bool = False,
) -> TokenFile:
    """Encode texts of any size into the folder `out`, one file after the other, in constant memory.

    Each file is encoded by itself: no token spans two of them, and none is put between them.
    """
    sizes = [size_of(path) for path in paths]
    dtype = "uint16" if tokenizer.vocab_size <= 1 << 16 else "uint32"
    count = 0
    with files.new_directory(out, overwrite=overwrite) as folder:
        with (folder / "tokens.bin").open("wb") as file:
            before = 0
            for path, size in zip(paths, sizes, strict=True):
                chunks = read_text(path, on_progress and _shifted(on_progress, before, sum(sizes)))
                ids = tokenizer.encode_iterable(chunks)
                while len(block := np.fromiter(islice(ids, WRITE_TOKENS), dtype=DTYPES[dtype])):
                    block.tofile(file)
                    count += len(block)
                before += size
        if count == 0:
            raise DataError(f"There is no text in {', '.join(map(str, paths))}.")
        info = TokenInfo(
            dtype=dtype, count=count, vocab_size=tokenizer.vocab_size, tokenizer=fingerprint(tokenizer)
        )  # fmt: skip
        (folder / "tokens.json").write_text(json.dumps(asdict(info), indent=1) + "\n")
        tokenizer.save(folder)
    return open_tokens(out, verify=False)


def open_tokens(folder: Path, *, verify: bool = True, tokenizer: Tokenizer | None = None) -> TokenFile:
    """Map a token file. With `verify`, its bytes must have their SHA-256 and its ids must be in the vocabulary.

    A `tokenizer` must be the one that made the tokens.
    """
    try:
        info = from_mapping(TokenInfo, read_mapping(folder / "tokens.json"))
    except ConfigError as error:
        raise DataError(f"{folder} is not a folder of tokens: {error}") from None
    if tokenizer is not None and fingerprint(tokenizer) != info.tokenizer:
        raise DataError(f"{folder} was made with another tokenizer than this model's; encode its text again.")
    if verify:
        files.verify(folder)
    path = files.file_in(folder, "tokens.bin")
    dtype = DTYPES[info.dtype]
    size = path.stat().st_size
    if size != info.count * dtype.itemsize:
        raise DataError(f"{path} has {size:,} bytes; {info.count:,} tokens of {dtype.itemsize} bytes were written.")
    if info.count == 0:
        raise DataError(f"{folder} holds no tokens: the text was empty.")
    tokens = np.memmap(path, dtype=dtype, mode="r")
    if verify and (highest := int(tokens.max())) >= info.vocab_size:
        raise DataError(f"{path} holds the id {highest}, but its tokenizer has {info.vocab_size} tokens.")
    return TokenFile(folder=folder, info=info, tokens=tokens)


def fingerprint(tokenizer: Tokenizer) -> str:
    """The SHA-256 of its tokenizer.json: two share it when they make the same tokens of every text."""
    return hashlib.sha256(tokenizer.tokenizer_json().encode()).hexdigest()


def _shifted(on_progress: ReadProgress, before: int, total: int) -> Callable[[int], None]:
    return lambda done: on_progress(before + done, total)


def get_batch(
    tokens: Int[np.ndarray, " N"] | UInt[np.ndarray, " N"],
    batch_size: int,
    context_length: int,
    device: str | torch.device = "cpu",
    generator: np.random.Generator | None = None,
) -> tuple[Int[Tensor, "B T"], Int[Tensor, "B T"]]:
    """Spans of text, and the same spans one token on: what to read, and what to predict at each position.

    A span starts anywhere from 0 to N − T − 1, with equal probability.
    """
    if len(tokens) <= context_length:
        raise DataError(
            f"One span with its targets needs {context_length + 1:,} tokens, but the text has {len(tokens):,} "
            f"(without what is held out for validation). Take more text or a smaller context_length."
        )
    generator = generator or np.random.default_rng()
    starts = generator.integers(len(tokens) - context_length, size=batch_size)
    spans = sliding_window_view(tokens, context_length + 1)[starts].astype(np.int64)
    both = torch.from_numpy(spans).to(device)
    return both[:, :-1], both[:, 1:]


def random_batch(
    tokens: Int[np.ndarray, " N"] | UInt[np.ndarray, " N"],
    batch_size: int,
    context_length: int,
    *,
    seed: int,
    step: int,
    micro_step: int = 0,
    device: str | torch.device = "cpu",
) -> tuple[Int[Tensor, "B T"], Int[Tensor, "B T"]]:
    """`get_batch` as a pure function of seed, step and micro-step: a resumed run gets the data it would have had."""
    return get_batch(tokens, batch_size, context_length, device, np.random.default_rng((seed, step, micro_step)))
