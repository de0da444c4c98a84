"""Loss and perplexity of a language model on a text."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor, nn

from glassformer.data.memmap import TokenFile, Tokens, open_tokens
from glassformer.data.text import read_text
from glassformer.errors import DataError
from glassformer.evaluation.eval_mode import evaluating
from glassformer.nn import functional as F
from glassformer.tokenizers import Tokenizer


@dataclass(frozen=True, slots=True, kw_only=True)
class Loss:
    """Mean −log p(token) over `tokens` of them, in nats."""

    nats_per_token: float
    tokens: int
    of_reference: "Loss | None" = None  # what another model has on the same tokens
    agreement: float | None = None  # how often both hold the same token for the likeliest

    @property
    def perplexity(self) -> float:
        """exp(loss): as unsure as a fair choice among this many tokens."""
        return math.exp(self.nats_per_token) if self.nats_per_token < 700 else math.inf


def loss(
    module: nn.Module,
    text: TokenFile | Tokens,
    *,
    context_length: int,
    batch_size: int = 32,
    batches: int = 0,
    progress: Callable[[int, int], None] | None = None,
    reference: nn.Module | None = None,
    begin: Sequence[int] = (),
) -> Loss:
    """The loss over a text cut into spans, each read without what came before it, behind the tokens of `begin`.

    With these, `context_length` tokens are read at once.
    Every token but the first is predicted once. With `batches`, only that many batches of spans are taken, spread
    evenly over the text. Sums are float64. The module's mode is as before when this returns. `progress(done, all)` is
    told tokens after each batch. A `reference` reads the same, so that two forms of a model are compared.
    """
    tokens = text.tokens if isinstance(text, TokenFile) else text
    if len(tokens) < 2:
        raise DataError(f"A loss needs two tokens or more, one to read and one to predict; the text has {len(tokens)}.")
    config: Any = getattr(module, "config", None)
    if config is not None and int(tokens.max()) >= config.vocab_size:
        raise DataError(f"The text has the token {tokens.max()}, but the model's vocabulary has {config.vocab_size}.")
    total, of_reference, agreed, count = 0.0, 0.0, 0, 0
    length = max(context_length - len(begin), 1)
    expected = min(len(tokens) - 1, (batches or len(tokens)) * batch_size * length)
    with evaluating(module) as device:
        for spans in _batches(tokens, length, batch_size, batches):
            both = torch.from_numpy(spans.astype(np.int64)).to(device)
            inputs, targets = begun(both[:, :-1], begin), both[:, 1:]
            logits = module(inputs)[:, len(begin) :].float()
            total += float(F.cross_entropy(logits, targets)) * targets.numel()
            if reference is not None:
                others = reference(inputs)[:, len(begin) :].float()
                of_reference += float(F.cross_entropy(others, targets)) * targets.numel()
                agreed += int((logits.argmax(-1) == others.argmax(-1)).sum())
            count += targets.numel()
            if progress is not None:
                progress(count, expected)
    if reference is None:
        return Loss(nats_per_token=total / count, tokens=count)
    other = Loss(nats_per_token=of_reference / count, tokens=count)
    return Loss(nats_per_token=total / count, tokens=count, of_reference=other, agreement=agreed / count)


def begun(tokens: Int[Tensor, "B T"], begin: Sequence[int]) -> Int[Tensor, "B S"]:
    """The tokens of each row behind those of `begin`."""
    return torch.cat([tokens.new_tensor(begin).expand(len(tokens), -1), tokens], -1)


def read_tokens(path: Path, tokenizer: Tokenizer | None) -> Tokens:
    """The tokens of a text file, or of a folder that `encode_files` has written."""
    if (path / "tokens.json").is_file():
        return open_tokens(path, tokenizer=tokenizer).tokens
    if inner := sorted(str(file.parent) for file in path.glob("*/tokens.json")):
        raise DataError(f"{path} holds no token ids itself; name {' or '.join(inner)}.")
    if tokenizer is None:
        raise DataError("This model came without a tokenizer; give a folder of token ids that a run has written.")
    return np.fromiter(tokenizer.encode_iterable(read_text(path)), dtype=np.uint32)


def _batches(tokens: Tokens, context_length: int, batch_size: int, batches: int) -> Iterator[np.ndarray]:
    """Arrays of (spans, context_length + 1) tokens, the last of one span being the first of the next."""
    n_whole = (len(tokens) - 1) // context_length
    starts = np.arange(n_whole) * context_length
    few = 0 < batches * batch_size < n_whole
    if few:
        starts = starts[np.linspace(0, n_whole - 1, batches * batch_size).round().astype(np.int64)]
    for first in range(0, len(starts), batch_size):
        yield tokens[starts[first : first + batch_size, None] + np.arange(context_length + 1)]
    tail = tokens[np.arange(n_whole * context_length, len(tokens))]
    if not few and len(tail) > 1:
        yield tail[None]
