"""A filter of logits from outside the package, in one file: no token comes twice in a row."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor


def no_stutter(logits: Float[Tensor, "N V"], texts: Sequence[Sequence[int]]) -> Float[Tensor, "N V"]:
    return logits.scatter(-1, torch.tensor([[text[-1]] for text in texts]), -torch.inf)
