"""Dropout as a layer: on while training, and nothing otherwise.

Srivastava et al. 2014, "Dropout: a simple way to prevent neural networks from overfitting"; the equation is
`functional.dropout`.
"""

from jaxtyping import Float
from torch import Tensor, nn

from glassformer.nn import functional as F


class Dropout(nn.Module):
    """Dropout with probability p while training, nothing otherwise."""

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(self, x: Float[Tensor, "*B"]) -> Float[Tensor, "*B"]:
        """x, thinned out while training."""
        return F.dropout(x, self.p) if self.training and self.p > 0 else x
