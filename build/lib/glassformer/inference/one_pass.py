"""An encoder-decoder as one call, from the source and the target's tokens to the logits after each of them."""

import copy
from typing import Any

from torch import Tensor, nn

from glassformer.nn.kv_cache import full


class OnePass(nn.Module):
    """Before the class of an encoder-decoder: both halves, one after the other."""

    def forward(self, source: Tensor, tokens: Tensor) -> Tensor:
        """The logits (B, T, V) after each of the target's tokens (B, T)."""
        this: Any = self
        logits: Tensor = super().forward(tokens, this.begin(source, full(tokens.shape[-1])))
        return logits


def one_pass(module: nn.Module) -> nn.Module:
    """The same module, sharing all it has, called with source and tokens; its parts keep their paths."""
    whole = copy.copy(module)
    whole.__class__ = type(type(module).__name__, (OnePass, type(module)), {})
    return whole
