"""Layer norm, RMS norm, and dropout's module: what stands between the sublayers."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from glassformer.nn import functional as F


class LayerNorm(nn.Module):
    """Zero mean and unit variance over the features, then a learned scale and shift."""

    def __init__(self, d_model: int, *, eps: float = 1e-5) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(d_model))
        self.bias = nn.Parameter(torch.zeros(d_model))
        self.eps = eps

    def forward(self, x: Float[Tensor, "*B C"]) -> Float[Tensor, "*B C"]:
        """See the class."""
        return F.layer_norm(x, self.weight, self.bias, self.eps)


class RMSNorm(nn.Module):
    """Unit root mean square over the features, then a learned scale."""

    def __init__(self, d_model: int, *, eps: float = 1e-5) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(d_model))
        self.eps = eps

    def forward(self, x: Float[Tensor, "*B C"]) -> Float[Tensor, "*B C"]:
        """See the class."""
        return F.rms_norm(x, self.weight, self.eps)


class Dropout(nn.Module):
    """Dropout with probability p while training, nothing otherwise."""

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(self, x: Float[Tensor, "*B"]) -> Float[Tensor, "*B"]:
        """See the class."""
        return F.dropout(x, self.p) if self.training and self.p > 0 else x
