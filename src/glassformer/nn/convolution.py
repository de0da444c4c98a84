"""Convolution along a sequence: every window of it times the same weights."""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

from glassformer.nn import init
from glassformer.nn.functional import FUSED
from glassformer.twins import twin


@twin(FUSED)
def conv1d(
    x: Float[Tensor, "B T d_in"],
    weight: Float[Tensor, "d_out d_in K"],
    bias: Float[Tensor, " d_out"] | None = None,
    stride: int = 1,
    padding: int = 0,
) -> Float[Tensor, "B U d_out"]:
    """yₜ = b + Σₖ Wₖ x₍ₛₜ₊ₖ₋ₚ₎ with stride s, and p zeros at both ends: a linear layer over windows of K positions.

    Features are the last axis. LeCun et al. 1989, §5, "Backpropagation applied to handwritten zip code recognition".
    """
    zeros = x.new_zeros(len(x), padding, x.shape[-1])
    padded = torch.cat([zeros, x, zeros], dim=1)
    windows = padded.unfold(1, weight.shape[-1], stride)  # B U d_in K
    y = windows.flatten(2) @ weight.flatten(1).mT
    if bias is not None:
        y = y + bias
    return y


class Conv1d(nn.Module):
    """`conv1d` with weights of its own, which start as those of `Linear` do: each window is d_in · width numbers."""

    def __init__(self, d_in: int, d_out: int, *, width: int, stride: int = 1, padding: int = 0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(d_out, d_in, width))
        self.bias = nn.Parameter(torch.empty(d_out))
        self.stride = stride
        self.padding = padding
        self.initialize()

    def initialize(self, generator: torch.Generator | None = None) -> None:
        """Draw the weights, and set the biases to 0."""
        d_out, d_in, width = self.weight.shape
        init.truncated_normal(self.weight, math.sqrt(2 / (d_in * width + d_out)), generator)
        init.constant(self.bias, 0.0)

    def forward(self, x: Float[Tensor, "B T d_in"]) -> Float[Tensor, "B U d_out"]:
        """y for each window of x."""
        return conv1d(x, self.weight, self.bias, self.stride, self.padding)
