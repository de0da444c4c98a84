"""AdamW: Adam whose weight decay acts on the weights alone, not through the gradient's moments.

Loshchilov & Hutter 2017, algorithm 2 (arXiv:1711.05101). Next to read: `clip.py`, `schedule.py`.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from glassformer.errors import ConfigError
from glassformer.twins import twin


class AdamW(torch.optim.Optimizer):
    """θ ← θ − α m̂ / (√v̂ + ε) − α λ θ. Parameters without a gradient stay as they are; groups may differ."""

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[dict[str, Any]],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.01,
    ) -> None:
        if not (lr >= 0 and eps >= 0 and weight_decay >= 0 and all(0 <= beta < 1 for beta in betas)):
            raise ConfigError(
                f"AdamW needs lr, eps and weight_decay of at least 0 and betas from 0 up to, not including, 1; "
                f"not lr {lr}, eps {eps}, weight_decay {weight_decay}, betas {tuple(betas)}."
            )
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Move every parameter that has a gradient."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            parameters = [parameter for parameter in group["params"] if parameter.grad is not None]
            states = [self._state_of(parameter) for parameter in parameters]
            adamw(
                parameters,
                [parameter.grad for parameter in parameters],
                [state["mean"] for state in states],
                [state["mean_square"] for state in states],
                [state["step"] for state in states],
                lr=group["lr"],
                betas=group["betas"],
                eps=group["eps"],
                weight_decay=group["weight_decay"],
            )
        return loss

    def _state_of(self, parameter: Tensor) -> dict[str, Any]:
        state: dict[str, Any] = self.state[parameter]
        if not state:
            state["step"] = torch.zeros((), device=parameter.device)  # a tensor, as torch's fused kernel takes it
            state["mean"] = torch.zeros_like(parameter, memory_format=torch.preserve_format)
            state["mean_square"] = torch.zeros_like(parameter, memory_format=torch.preserve_format)
        return state


@twin("glassformer.training.fused")
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
    """Algorithm 2's lines 5 to 12 for each parameter, all in place: parameters, both moments, and the count of steps.

    m̂ / √v̂ is the course's m / √v with the step size lr √(1 − β₂ᵗ) / (1 − β₁ᵗ).
    """
    beta1, beta2 = betas
    for parameter, gradient, mean, mean_square, step in zip(
        parameters, gradients, means, mean_squares, steps, strict=True
    ):
        step.add_(1)
        t = float(step)
        mean.copy_(beta1 * mean + (1 - beta1) * gradient)
        mean_square.copy_(beta2 * mean_square + (1 - beta2) * gradient * gradient)
        unbiased_mean = mean / (1 - beta1**t)
        unbiased_square = mean_square / (1 - beta2**t)
        parameter.sub_(lr * weight_decay * parameter)
        parameter.sub_(lr * unbiased_mean / (unbiased_square.sqrt() + eps))


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """The weights of linear layers decay; norms, biases and embeddings do not.

    Norms and biases because their size is not what overfits, embeddings because a rare token's row would shrink at
    every step without being read. A head tied to the embedding is the embedding.
    """
    kept_whole = {
        id(parameter)
        for name, module in model.named_modules()
        for parameter in module.parameters(recurse=False)
        if parameter.dim() < 2 or name.endswith("embedding")
    }
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    return [
        {"params": [p for p in parameters if id(p) not in kept_whole], "weight_decay": weight_decay},
        {"params": [p for p in parameters if id(p) in kept_whole], "weight_decay": 0.0},
    ]
