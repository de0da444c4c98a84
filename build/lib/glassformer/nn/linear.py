"""The linear layer, y = x Wᵀ + b."""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

from glassformer.nn import functional as F


class Linear(nn.Module):
    """y = x Wᵀ + b, with W of shape (d_out, d_in).

    W starts as a normal distribution of variance 2 / (d_in + d_out), cut at three standard deviations
    (Glorot & Bengio 2010, eq. 12, with the same variance); b starts at 0.
    """

    def __init__(self, d_in: int, d_out: int, *, bias: bool = True) -> None:
        super().__init__()
        std = math.sqrt(2 / (d_in + d_out))
        self.weight = nn.Parameter(torch.empty(d_out, d_in))
        self.bias = nn.Parameter(torch.zeros(d_out)) if bias else None
        nn.init.trunc_normal_(self.weight, std=std, a=-3 * std, b=3 * std)

    def forward(self, x: Float[Tensor, "*B d_in"]) -> Float[Tensor, "*B d_out"]:
        """See the class."""
        return F.linear(x, self.weight, self.bias)
