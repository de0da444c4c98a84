"""Gradient clipping: a long step is shortened, its direction kept."""

from collections.abc import Iterable

import torch
from jaxtyping import Float
from torch import Tensor

from glassformer.twins import twin


@twin("glassformer.training.fused")
def clip_gradients(parameters: Iterable[Tensor], max_norm: float) -> Float[Tensor, ""]:
    """Multiply all gradients by max_norm / (norm + 10⁻⁶), at most by 1; return the norm that they had.

    The norm is that of all gradients as one vector (Pascanu et al. 2012, algorithm 1, arXiv:1211.5063), in float32 if
    they are narrower. Parameters without a gradient are passed over. A norm that is not finite clips nothing and comes
    back as it is. Nothing here waits for the device.
    """
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    wide = [gradient if gradient.dtype == torch.float64 else gradient.float() for gradient in gradients]
    squares = [(gradient * gradient).sum() for gradient in wide]
    norm = torch.stack(squares).sum().sqrt() if squares else torch.zeros(())
    factor = max_norm / (norm + 1e-6)
    factor = torch.where(norm.isfinite(), factor.clamp(max=1), 1)
    for gradient in gradients:
        gradient.mul_(factor)
    return norm
