"""Layer norm and RMS norms: what stands between the sublayers."""

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


class UnitOffsetRMSNorm(nn.Module):
    """Unit root mean square over the features, then a learned scale that is kept as its distance from 1.

    As Gemma's files have it: in bfloat16 the distance keeps digits that the scale itself would lose, and weight decay
    draws the scale to 1. All of it is in float32 whatever x is.
    """

    def __init__(self, d_model: int, *, eps: float = 1e-6) -> None:
        super().__init__()
        self.offset = nn.Parameter(torch.empty(d_model))
        self.eps = eps
        self.initialize()

    def initialize(self, generator: torch.Generator | None = None) -> None:
        """Scale by 1."""
        init.constant(self.offset, 0.0)

    def forward(self, x: Float[Tensor, "*B C"]) -> Float[Tensor, "*B C"]:
        """x, normalised at each position."""
        wide = x if x.dtype == torch.float64 else x.float()
        scale = 1 + self.offset.to(wide.dtype)
        return F.rms_norm(wide, scale, self.eps).to(x.dtype)


class WideRMSNorm(RMSNorm):
    """RMSNorm that is in float32 up to its end whatever x is, scale included, so that it rounds once."""

    def forward(self, x: Float[Tensor, "*B C"]) -> Float[Tensor, "*B C"]:
        """x, normalised at each position."""
        wide = x if x.dtype == torch.float64 else x.float()
        return F.rms_norm(wide, self.weight.to(wide.dtype), self.eps).to(x.dtype)


class JointRMSNorm(WideRMSNorm):
    """RMSNorm of queries or keys over the features of all their heads together (OLMo 2, §2, arXiv:2501.00656)."""

    def forward(self, x: Float[Tensor, "*B H T D"]) -> Float[Tensor, "*B H T D"]:
        """x, normalised at each position."""
        heads = x.transpose(-3, -2)  # *B T H D
        joined = super().forward(heads.flatten(-2))
        return joined.reshape(heads.shape).transpose(-3, -2)
