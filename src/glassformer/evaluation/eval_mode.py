"""The state that a model is judged in."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn


@contextmanager
def evaluating(module: nn.Module) -> Iterator[torch.device]:
    """Without dropout and gradients; the block gets the module's device, and the module its mode back."""
    was_training = module.training
    module.eval()
    try:
        with torch.no_grad():
            yield next(module.parameters()).device
    finally:
        module.train(was_training)
