"""Fast twins of training's equations, over all parameters at once. `benchmarks/training.py` measures a whole step."""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor
from torch.nn.utils import clip_grads_with_norm_, get_total_norm
from torch.optim import adamw as torch_adamw

SQUARES_FIT = (torch.float32, torch.float64)  # types that hold the squares of their numbers; in float16 256² overflows


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
    torch_adamw.adamw(
        list(parameters),
        list(gradients),
        list(means),
        list(mean_squares),
        [],
        list(steps),
        fused=True,
        amsgrad=False,
        beta1=betas[0],
        beta2=betas[1],
        lr=lr,
        weight_decay=weight_decay,
        eps=eps,
        maximize=False,
    )


def clip_gradients(parameters: Iterable[Tensor], max_norm: float) -> Tensor:
    """Twin of `clip.clip_gradients`."""
    parameters = [parameter for parameter in parameters if parameter.grad is not None]
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    norm: Tensor = get_total_norm([g if g.dtype in SQUARES_FIT else g.float() for g in gradients])
    clip_grads_with_norm_(parameters, max_norm, torch.where(norm.isfinite(), norm, 0))
    return norm
