"""Layer norm and RMS norm: what stands between the sublayers."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from glassformer.nn import functional as F
from glassformer.nn import init


class LayerNorm(nn.Module):
    """Zero mean and unit variance over the features, then a learned scale and shift."""

    def __init__(self, d_model: int, *, eps: float = 1e-5) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(d_model))
        self.bias = nn.Parameter(torch.empty(d_model))
        self.eps = eps
        self.initialize()

    def initialize(self, generator: torch.Generator | None = None) -> None:
        """Scale by 1, shift by 0."""
        init.constant(self.weight, 1.0)
        init.constant(self.bias, 0.0)

    def forward(self, x: Float[Tensor, "*B C"]) -> Float[Tensor, "*B C"]:
        """x, normalised at each position."""
        return F.layer_norm(x, self.weight, self.bias, self.eps)


class RMSNorm(nn.Module):
    """Unit root mean square over the features, then a learned scale."""

    def __init__(self, d_model: int, *, eps: float = 1e-5) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(d_model))
        self.eps = eps
        self.initialize()

    def initialize(self, generator: torch.Generator | None = None) -> None:
        """Scale by 1."""
        init.constant(self.weight, 1.0)

    def forward(self, x: Float[Tensor, "*B C"]) -> Float[Tensor, "*B C"]:
        """x, normalised at each position."""
        return F.rms_norm(x, self.weight, self.eps)
