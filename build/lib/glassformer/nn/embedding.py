"""The table that turns token ids into vectors."""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from glassformer.nn import functional as F


class Embedding(nn.Module):
    """Row `id` of a (n, d_model) matrix, which starts as a unit normal distribution cut at three deviations."""

    def __init__(self, n: int, d_model: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(n, d_model))
        nn.init.trunc_normal_(self.weight, std=1.0, a=-3.0, b=3.0)

    def forward(self, tokens: Int[Tensor, "*B"]) -> Float[Tensor, "*B C"]:
        """See the class."""
        return F.embedding(tokens, self.weight)
