"""Negative sampling: a word is told from a few others drawn from noise, instead of from all of the vocabulary.

Mikolov et al. 2013, §2.2 and §2.3 (arXiv:1310.4546). Next to read: `models/word2vec.py`.
"""

from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor


def negative_sampling_loss(
    positive: Float[Tensor, " B"], negative: Float[Tensor, "B K"], reduction: Literal["mean", "sum"] = "mean"
) -> Float[Tensor, ""]:
    """The mean, or the sum, of −log σ(positive) − Σₖ log σ(−negative), eq. 4, over the batch, in nats.

    Of words seen together the score is `positive`; those of a word with others from the noise are `negative`.
    """
    losses = -log_sigmoid(positive) - log_sigmoid(-negative).sum(-1)
    return losses.sum() if reduction == "sum" else losses.mean()


def log_sigmoid(x: Float[Tensor, "*B"]) -> Float[Tensor, "*B"]:
    """log σ(x) = min(x, 0) − log(1 + exp(−|x|)), which overflows nowhere."""
    smaller = x.clamp(max=0)
    rest = torch.log1p(torch.exp(-x.abs()))
    return smaller - rest


def noise(counts: Int[Tensor, " V"]) -> Float[Tensor, " V"]:
    """How likely each word is drawn: in proportion to its count to the power of 3/4, in float64."""
    weights = counts.double() ** 0.75
    return weights / weights.sum()


def keep_probability(counts: Int[Tensor, " V"], threshold: float = 1e-5) -> Float[Tensor, " V"]:
    """How likely a word of a text is kept: √(t / f) for a share f of all words, eq. 5, and at most 1, in float64."""
    shares = counts.double() / counts.sum()
    kept = (threshold / shares).sqrt()
    return kept.clamp(max=1)
