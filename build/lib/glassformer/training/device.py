"""Which device a run computes on, in which precision, and with how many threads."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from glassformer.errors import ConfigError


def choose_device(name: str) -> tuple[torch.device, str]:
    """The device of this name, and why it; "auto" takes the fastest that is there."""
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda"), torch.cuda.get_device_name()
        if torch.backends.mps.is_available():
            return torch.device("mps"), "Apple's GPU"
        return torch.device("cpu"), "torch finds no GPU"
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise ConfigError(f"device = {name!r} cannot be used here: {str(error).splitlines()[0]}") from None
    return device, "asked for"


def choose_dtype(name: str, device: torch.device) -> tuple[torch.dtype, str]:
    """What matrix products are computed in, and why; weights, gradients and the optimizer stay float32.

    "auto" is bfloat16 on NVIDIA GPUs that have units for it. On a CPU it is float32, also where bfloat16 is quick:
    models that train on a CPU are small, and float32 makes them the same on every CPU's instruction set, to rounding.
    """
    if name != "auto":
        return {"float32": torch.float32, "bfloat16": torch.bfloat16}[name], "asked for"
    if device.type == "cuda" and torch.cuda.get_device_capability(device) >= (8, 0):
        return torch.bfloat16, "this GPU has units for it"
    return torch.float32, "no GPU with bfloat16 units"


@contextmanager
def cpu_threads(number: int) -> Iterator[None]:
    """Compute with this many threads in the `with` block; 0 leaves the number as it is."""
    before = torch.get_num_threads()
    torch.set_num_threads(number or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)
