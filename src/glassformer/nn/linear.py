"""The linear layer, y = x Wᵀ + b."""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

from glassformer.nn import functional as F
from glassformer.nn import init


class Linear(nn.Module):
    """y = x Wᵀ + b, with W of shape (d_out, d_in).

    W starts as a normal distribution of variance 2 / (d_in + d_out), cut at three standard deviations
    (Glorot & Bengio 2010, eq. 12, with the same variance); b starts at 0.
    """

    def __init__(self, d_in: int, d_out: int, *, bias: bool = True) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(d_out, d_in))
        self.bias = nn.Parameter(torch.empty(d_out)) if bias else None
        self.initialize()

    def initialize(self, generator: torch.Generator | None = None) -> None:
        """Draw W, and set b to 0."""
        d_out, d_in = self.weight.shape
        init.truncated_normal(self.weight, math.sqrt(2 / (d_in + d_out)), generator)
        if self.bias is not None:
            init.constant(self.bias, 0.0)

    def forward(self, x: Float[Tensor, "*B d_in"]) -> Float[Tensor, "*B d_out"]:
        """y for each x."""
        return F.linear(x, self.weight, self.bias)


class ScaledLinear(Linear):
    """y = x Wᵀ / scaling: a head whose logits are divided by a constant."""

    def __init__(self, d_in: int, d_out: int, scaling: float) -> None:
        super().__init__(d_in, d_out, bias=False)
        self.scaling = scaling

    def forward(self, x: Float[Tensor, "*B d_in"]) -> Float[Tensor, "*B d_out"]:
        """y for each x."""
        return super().forward(x) / self.scaling
