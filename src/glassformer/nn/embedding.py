"""The table that turns token ids into vectors."""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from glassformer.nn import functional as F
from glassformer.nn import init


class Embedding(nn.Module):
    """Row `id` of a (n, d_model) matrix, which starts as a unit normal distribution cut at three deviations."""

    def __init__(self, n: int, d_model: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(n, d_model))
        self.initialize()

    def initialize(self, generator: torch.Generator | None = None) -> None:
        """Draw the rows."""
        init.truncated_normal(self.weight, 1.0, generator)

    def forward(self, tokens: Int[Tensor, "*B"]) -> Float[Tensor, "*B C"]:
        """The row of each token."""
        return F.embedding(tokens, self.weight)
