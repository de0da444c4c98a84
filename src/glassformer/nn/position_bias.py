"""Relative positions as a bias: a learned number for each head and distance, which adds to the scores of attention.

Raffel et al. 2019, §2.1 (arXiv:1910.10683). Only the distance from query to key counts, so a text has no last position.
Next to read: `attention.py`, whose `bias` it is.
"""

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from glassformer.nn import functional as F
from glassformer.nn import init
from glassformer.nn.mask import Mask


class RelativePositionBias(nn.Module):
    """For each head a number by the bucket of the distance; `bidirectional` where queries see later keys too."""

    def __init__(self, n_heads: int, *, n_buckets: int, max_distance: int, bidirectional: bool) -> None:
        super().__init__()
        self.n_buckets, self.max_distance, self.bidirectional = n_buckets, max_distance, bidirectional
        self.weight = nn.Parameter(torch.empty(n_buckets, n_heads))
        self.initialize()

    def initialize(self, generator: torch.Generator | None = None) -> None:
        """Draw the numbers, which are small beside scores."""
        init.normal(self.weight, 0.02, generator)

    def forward(self, mask: Mask) -> Float[Tensor, "*B H T S"]:
        """What is added to the score of each query with each key, by the positions that the mask has of them."""
        queries, keys = mask.queries[..., :, None], mask.keys[..., None, :]
        buckets = bucket(keys - queries, self.n_buckets, self.max_distance, bidirectional=self.bidirectional)
        if buckets.dim() > 2:  # of rows that differ, with an axis that stands for the heads
            buckets = buckets[..., 0, :, :]
        bias = F.embedding(buckets, self.weight).movedim(-1, -3)
        return bias


def bucket(
    distance: Int[Tensor, "*B T S"], n_buckets: int, max_distance: int, *, bidirectional: bool
) -> Int[Tensor, "*B T S"]:
    """The bucket of a distance from query to key: one each for half of them, then wider ones, as logarithms grow.

    From `max_distance` on all distances share the last one. With `bidirectional` half of the buckets are those of later
    keys; without, these have bucket 0, and a mask forbids them.

    >>> bucket(-torch.arange(12)[None], 8, 16, bidirectional=False)
    tensor([[0, 1, 2, 3, 4, 4, 5, 5, 6, 6, 6, 6]])
    >>> bucket(torch.tensor([[-3, -1, 0, 1, 3]]), 8, 16, bidirectional=True)
    tensor([[2, 1, 0, 5, 6]])
    """
    if not bidirectional:
        return bucket_of_steps((-distance).clamp(min=0), n_buckets, max_distance)
    half = n_buckets // 2
    later = (distance > 0) * half
    return later + bucket_of_steps(distance.abs(), half, max_distance)


def bucket_of_steps(steps: Int[Tensor, "*B T S"], n_buckets: int, max_distance: int) -> Int[Tensor, "*B T S"]:
    """The same of a distance without a direction."""
    n_exact = n_buckets // 2
    share = (steps.clamp(min=n_exact).float() / n_exact).log() / math.log(max_distance / n_exact)
    wide = n_exact + (share * (n_buckets - n_exact)).long()
    return torch.where(steps < n_exact, steps, wide.clamp(max=n_buckets - 1))
