"""From tensors to a module, without a moment at which its weights take memory twice."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from glassformer.errors import CheckpointCorrupt
from glassformer.models import spec_of
from glassformer.models.spec import set_parameters


def assemble(config: Any, weights: Mapping[str, Tensor]) -> nn.Module:
    """The model in eval mode whose parameters are these very tensors; shared parameters stay shared."""
    if broken := not_finite(weights):
        raise CheckpointCorrupt(f"{broken} holds numbers that are infinite or none (NaN), so the model is broken.")
    module = spec_of(config).outline(config)
    set_parameters(module, weights)
    return module.eval()


def not_finite(weights: Mapping[str, Tensor]) -> str:
    """The name of a tensor with a number that is infinite or none; such a model is neither read nor written."""
    for name, weight in weights.items():
        low, high = weight.detach().aminmax()  # NaN is both, if there is one
        if not (low.isfinite() and high.isfinite()):
            return name
    return ""
