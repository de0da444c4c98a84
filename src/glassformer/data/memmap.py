"""Token files: a corpus as one long array of ids on disk, mapped into memory, and batches drawn from it.

`encoding.py` writes them: a folder with the ids in one file or several, `tokens.json` (which tokenizer, how many
tokens), the tokenizer itself, and a manifest with everything's SHA-256. Next to read: `training/tasks/`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Int, UInt
from torch import Tensor

from glassformer import files
from glassformer.config import from_mapping, read_mapping
from glassformer.data.encoding import DTYPES, INFO, TOKENIZER, Shard, TokenInfo, are_alike, fingerprint
from glassformer.errors import ConfigError, DataError, TokenizerError
from glassformer.tokenizers import Tokenizer


class TokenShards:
    """Several arrays of ids that are read as one; none is copied but for what is asked of it."""

    def __init__(self, arrays: Sequence[UInt[np.ndarray, " _"]]) -> None:
        """Take them in their order; one may be empty."""
        self.dtype = arrays[0].dtype
        self.arrays = [array for array in arrays if len(array)]
        self.ends = np.cumsum([len(array) for array in self.arrays], dtype=np.int64)

    def __len__(self) -> int:
        return int(self.ends[-1]) if self.arrays else 0

    def max(self) -> int:
        """The greatest id."""
        return max(int(array.max()) for array in self.arrays)

    def __getitem__(self, places: Any) -> Any:
        """The ids at an array of places, in an array; or a span, in shards."""
        starts = self.ends - [len(array) for array in self.arrays]
        if isinstance(places, slice):
            start, stop, _ = places.indices(len(self))
            return TokenShards(
                [
                    array[max(start - first, 0) : max(stop - first, 0)]
                    for array, first in zip(self.arrays, starts.tolist(), strict=True)
                ]
            )
        shard = np.searchsorted(self.ends, places, side="right")
        ids = np.empty(places.shape, self.dtype)
        for n in np.unique(shard):
            ids[shard == n] = self.arrays[n][places[shard == n] - starts[n]]
        return ids


Tokens = UInt[np.ndarray, " _"] | Int[np.ndarray, " _"] | TokenShards


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenFile:
    """A corpus as token ids, mapped from `folder`."""

    folder: Path
    info: TokenInfo
    tokens: UInt[np.ndarray, " N"] | TokenShards

    def split(self, validation_fraction: float) -> tuple[Tokens, Tokens]:
        """The beginning to train on and the end to validate on."""
        n_train = int(len(self.tokens) * (1 - validation_fraction))
        return self.tokens[:n_train], self.tokens[n_train:]


def open_tokens(folder: Path, *, verify: bool = True, tokenizer: Tokenizer | None = None) -> TokenFile:
    """Map a token file. With `verify`, its bytes must have their SHA-256 and its ids must be in the vocabulary.

    A `tokenizer` must be the one that made the tokens, or one that makes the same.
    """
    try:
        info = from_mapping(TokenInfo, read_mapping(folder / INFO))
    except ConfigError as error:
        raise DataError(f"{folder} is not a folder of tokens: {error}") from None
    if tokenizer is not None and not _makes_these(tokenizer, folder, info):
        raise DataError(f"{folder} was made with another tokenizer than this model's; encode its text again.")
    if verify:
        files.verify(folder)
    if info.count == 0:
        raise DataError(f"{folder} holds no tokens: the text was empty.")
    shards = info.shards or (Shard(file="tokens.bin", count=info.count, sha256=""),)
    arrays = [_mapped(folder, shard, info, verify) for shard in shards if shard.count]
    return TokenFile(folder=folder, info=info, tokens=arrays[0] if len(arrays) == 1 else TokenShards(arrays))


def _makes_these(tokenizer: Tokenizer, folder: Path, info: TokenInfo) -> bool:
    """Whether a tokenizer is the one that made the tokens, or one like that."""
    if fingerprint(tokenizer) == info.tokenizer:
        return True
    try:
        maker = Tokenizer.load(folder / TOKENIZER)
    except TokenizerError:
        return False
    return fingerprint(maker) == info.tokenizer and are_alike(maker, tokenizer)


def _mapped(folder: Path, shard: Shard, info: TokenInfo, verify: bool) -> UInt[np.ndarray, " N"]:
    path, dtype = files.file_in(folder, shard.file), DTYPES[info.dtype]
    size = path.stat().st_size
    if size != shard.count * dtype.itemsize:
        raise DataError(f"{path} has {size:,} bytes; {shard.count:,} tokens of {dtype.itemsize} bytes were written.")
    tokens = np.memmap(path, dtype=dtype, mode="r")
    if verify and (highest := int(tokens.max())) >= info.vocab_size:
        raise DataError(f"{path} holds the id {highest}, but its tokenizer has {info.vocab_size} tokens.")
    return tokens


def get_batch(
    tokens: Tokens,
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
    spans = tokens[starts[:, None] + np.arange(context_length + 1)].astype(np.int64)
    both = torch.from_numpy(spans).to(device)
    return both[:, :-1], both[:, 1:]


def random_batch(
    tokens: Tokens,
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
