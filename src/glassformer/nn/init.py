"""How weights start.

Constructing a model is not initialising it: it is built without memory (on torch's meta device), then gets memory, and
its weights are loaded, or drawn once by its architecture's `initialize` (`models/spec.py`). A layer built by itself has
memory from the beginning, in which anything may stand, so it starts at once, as its class says. What has no memory has
nothing to draw, and all functions here pass it over.
"""

import math
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn


@runtime_checkable
class Initializes(Protocol):
    """A layer that says how its parameters start, those of its own layers included."""

    def initialize(self, generator: torch.Generator | None = None) -> None:
        """Set all of them, drawing from the generator, or from torch's own."""


def initialize(module: nn.Module, generator: torch.Generator | None = None) -> None:
    """Let every layer of a module start as its class says."""
    if isinstance(module, Initializes):
        module.initialize(generator)
        return
    for child in module.children():
        initialize(child, generator)


def init_like_gpt2(
    model: nn.Module, generator: torch.Generator | None = None, *, n_layers: int, std: float = 0.02
) -> None:
    """Every matrix from N(0, std²); the two projections of a block that write into the residual stream from
    N(0, std² / 2L), so that the stream's variance does not grow with the number L of layers. Biases 0, norms 1.

    Radford et al. 2019, §2.3 ("Language models are unsupervised multitask learners").
    """
    for name, parameter in model.named_parameters():
        if parameter.dim() < 2:
            constant(parameter, 0.0 if name.endswith("bias") else 1.0)
        else:
            writes = name.endswith(("o_proj.weight", "down_proj.weight"))
            normal(parameter, std / math.sqrt(2 * n_layers) if writes else std, generator)


def init_like_bert(model: nn.Module, generator: torch.Generator | None = None, *, std: float = 0.02) -> None:
    """Every matrix from N(0, std²), cut at two deviations; biases 0, norms 1.

    The code of Devlin et al. 2018 (arXiv:1810.04805), and of Dosovitskiy et al. 2020 after it, starts so.
    """
    for name, parameter in model.named_parameters():
        if parameter.dim() < 2:
            constant(parameter, 0.0 if name.endswith("bias") else 1.0)
        else:
            truncated_normal(parameter, std, generator, cut=2.0)


def normal(parameter: Tensor, std: float, generator: torch.Generator | None = None) -> None:
    """N(0, std²)."""
    if not parameter.is_meta:
        nn.init.normal_(parameter, std=std, generator=generator)


def truncated_normal(
    parameter: Tensor, std: float, generator: torch.Generator | None = None, *, cut: float = 3.0
) -> None:
    """N(0, std²), drawn again where it is more than `cut` standard deviations from 0."""
    if not parameter.is_meta:
        nn.init.trunc_normal_(parameter, std=std, a=-cut * std, b=cut * std, generator=generator)


def uniform(parameter: Tensor, bound: float, generator: torch.Generator | None = None) -> None:
    """Evenly within ± bound."""
    if not parameter.is_meta:
        nn.init.uniform_(parameter, -bound, bound, generator=generator)


def constant(parameter: Tensor, value: float) -> None:
    """The same number everywhere."""
    if not parameter.is_meta:
        nn.init.constant_(parameter, value)
