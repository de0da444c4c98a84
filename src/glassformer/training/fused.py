"""Fast twins of training's equations, over all parameters at once. `benchmarks/training.py` measures a whole step."""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor


def adamw(
    parameters: Sequence[Tensor],
    gradients: Sequence[Tensor],
    means: Sequence[Tensor],
    mean_squares: Sequence[Tensor],
    steps: Sequence[Tensor],
    *,
    lr: float,
    betas: tuple[float, float],
    eps: float,
    weight_decay: float,
) -> None:
    """Twin of `adamw.adamw`: torch's fused kernel reads and writes every number once."""
    if parameters:
        torch._fused_adamw_(
            list(parameters),
            list(gradients),
            list(means),
            list(mean_squares),
            [],
            list(steps),
            lr=lr,
            beta1=betas[0],
            beta2=betas[1],
            weight_decay=weight_decay,
            eps=eps,
            amsgrad=False,
            maximize=False,
        )


def clip_gradients(parameters: Iterable[Tensor], max_norm: float) -> Tensor:
    """Twin of `clip.clip_gradients`."""
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    if not gradients:
        return torch.zeros(())
    wide = torch.float64 if any(gradient.dtype == torch.float64 for gradient in gradients) else torch.float32
    norm: Tensor = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients, dtype=wide)))
    if max_norm <= norm < torch.inf:
        torch._foreach_mul_(gradients, max_norm / (norm + 1e-6))
    return norm
