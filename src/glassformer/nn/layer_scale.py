"""A learned scale for each feature of what a sublayer adds to the stream."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from glassformer.nn import init


class LayerScale(nn.Module):
    """γ ⊙ x. Touvron et al. 2021, eq. 4 (arXiv:2103.17239), who start γ near 0."""

    def __init__(self, d_model: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(d_model))
        self.initialize()

    def initialize(self, generator: torch.Generator | None = None) -> None:
        """Ones: what the sublayer adds, as it is."""
        init.constant(self.weight, 1.0)

    def forward(self, x: Float[Tensor, "*B C"]) -> Float[Tensor, "*B C"]:
        """Each feature by its own number."""
        return x * self.weight
