"""A text as one vector: the mean of its tokens' vectors, at length 1, so that a dot product is the cosine.

Reimers & Gurevych 2019, §3 (arXiv:1908.10084), as sentence-transformers computes it.
"""

from collections.abc import Sequence
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from glassformer.errors import ConfigError, GenerationError
from glassformer.inference.padding import right_padded
from glassformer.models.bert import Bert

Pooling = Literal["mean", "cls"]
SHORTEST = 1e-12  # a vector that is shorter is not brought to length 1


@torch.no_grad()
def embed(
    model: Bert, texts: Sequence[Sequence[int]], *, pooling: Pooling = "mean", normalise: bool = True
) -> Float[Tensor, "B C"]:
    """One vector a text, given as its tokens, [CLS] and [SEP] among them."""
    tokens, valid = padded(texts, model.config.context_length)
    device = next(model.parameters()).device
    valid = valid.to(device)
    vectors = model.encode(tokens.to(device), valid)
    pooled = pool(vectors, valid, pooling)
    return unit(pooled) if normalise else pooled


def pool(
    vectors: Float[Tensor, "B T C"], valid: Bool[Tensor, "B T"], pooling: Pooling = "mean"
) -> Float[Tensor, "B C"]:
    """The mean over the tokens that are no padding, or the vector of the first token."""
    if pooling not in ("mean", "cls"):
        raise ConfigError(f'pooling must be "mean" or "cls", not {pooling!r}.')
    if pooling == "cls":
        return vectors[:, 0]
    counted = valid[..., None]
    total = vectors.where(counted, 0.0).sum(-2)
    return total / counted.sum(-2)


def unit(x: Float[Tensor, "*B C"]) -> Float[Tensor, "*B C"]:
    """x / |x|."""
    length = (x * x).sum(-1, keepdim=True).sqrt()
    return x / length.clamp(min=SHORTEST)


def padded(texts: Sequence[Sequence[int]], context_length: int) -> tuple[Int[Tensor, "B T"], Bool[Tensor, "B T"]]:
    """The texts as one batch, and where it holds their tokens; raises for a text that cannot be read."""
    lengths = [len(text) for text in texts]
    if min(lengths, default=0) == 0:
        raise GenerationError("There must be at least one text, and every text must have at least one token.")
    if max(lengths) > context_length:
        raise GenerationError(
            f"Text {lengths.index(max(lengths))} has {max(lengths)} tokens; this model reads at most {context_length}."
        )
    tokens, valid = right_padded([torch.tensor(text) for text in texts])
    return tokens, torch.ones_like(tokens, dtype=torch.bool) if valid is None else valid
