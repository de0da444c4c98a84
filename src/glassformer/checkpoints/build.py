"""From tensors to a module, without a moment at which its weights take memory twice."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from glassformer.errors import CheckpointCorrupt, CheckpointMismatch
from glassformer.models import spec_of
from glassformer.models.spec import set_parameters


def build(config: Any, weights: Mapping[str, Tensor]) -> nn.Module:
    """The model in eval mode whose parameters are these very tensors; shared parameters stay shared."""
    for name, weight in weights.items():
        check_finite(name, weight)
    module = spec_of(config).outline(config)
    _check_shapes({name: weight.shape for name, weight in weights.items()}, module)
    set_parameters(module, weights)
    return module.eval()


def _check_shapes(shapes: Mapping[str, torch.Size], module: nn.Module) -> None:
    """Raise unless the weights are the model's, by their names and shapes: a format from outside may read anything."""
    wanted = {name: parameter.shape for name, parameter in module.named_parameters()}
    for name in {**wanted, **shapes}:
        if shapes.get(name) != wanted.get(name):
            of_file, of_model = (tuple(each[name]) if name in each else "none" for each in (shapes, wanted))
            raise CheckpointMismatch(f"{name} has the shape {of_file} in the file, and {of_model} in the model.")


def copied(config: Any, tensors: Mapping[str, Tensor], dtype: torch.dtype | None) -> dict[str, Tensor]:
    """A model's tensors of files in memory of their own, in this precision or else in theirs, as its spec allows."""
    spec = spec_of(config)

    def copy(name: str, tensor: Tensor) -> Tensor:
        precision = spec.precision(name, dtype or tensor.dtype)
        return tensor.detach().to(precision, copy=True, memory_format=torch.contiguous_format)

    return {name: copy(name, tensors[name]) for name in tensors}  # each is let go before the next is read


def check_finite(name: str, weight: Tensor) -> None:
    """Raise where a weight has a number that is infinite or none; such a model is neither read nor written."""
    low, high = weight.detach().aminmax()  # NaN is both, if there is one
    if not (low.isfinite() and high.isfinite()):
        raise CheckpointCorrupt(f"{name} holds numbers that are infinite or none (NaN), so the model is broken.")
