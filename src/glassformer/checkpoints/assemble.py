"""From tensors to a module, without a moment at which its weights take memory twice."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from glassformer.errors import CheckpointCorrupt, ConfigError
from glassformer.models import spec_of

MAX_PARAMETERS = 1 << 48
FILLING = {"normal_", "uniform_", "erfinv_", "mul_", "add_", "clamp_", "fill_", "zero_"}  # what initialisation does


class Unfilled(TorchFunctionMode):
    """Weights without memory get no random numbers either: torch imports for seconds before it draws none of them."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if getattr(func, "__name__", "") in FILLING:
            return args[0] if args else kwargs["tensor"]
        return func(*args, **(kwargs or {}))


def outline(config: Any) -> nn.Module:
    """The model with the shapes of its weights, and no memory behind them."""
    too_large = ConfigError(f"no memory holds a model of these sizes: {config}.")
    try:
        with torch.device("meta"), Unfilled():
            model = spec_of(config).build(config)
    except (RuntimeError, OverflowError, TypeError):  # a tensor of more than 2⁶³ bytes
        raise too_large from None
    if sum(parameter.numel() for parameter in model.parameters()) > MAX_PARAMETERS:
        raise too_large
    return model


def assemble(config: Any, weights: Mapping[str, Tensor]) -> nn.Module:
    """The model in eval mode whose parameters are these very tensors; shared parameters stay shared."""
    if broken := not_finite(weights):
        raise CheckpointCorrupt(f"{broken} holds numbers that are infinite or none (NaN), so the model is broken.")
    module = outline(config)
    parameters = {
        id(old): nn.Parameter(weights[name], requires_grad=old.requires_grad) for name, old in module.named_parameters()
    }
    for part in module.modules():
        for name, old in list(part.named_parameters(recurse=False)):
            setattr(part, name, parameters[id(old)])
    return module.eval()


def not_finite(weights: Mapping[str, Tensor]) -> str:
    """The name of a tensor with a number that is infinite or none; such a model is neither read nor written."""
    for name, weight in weights.items():
        low, high = weight.detach().aminmax()  # NaN is both, if there is one
        if not (low.isfinite() and high.isfinite()):
            return name
    return ""
