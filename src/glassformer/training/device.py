"""Which device a run computes on, in which precision, and with how many threads."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from glassformer.errors import ConfigError

FLOATING = (torch.float32, torch.bfloat16, torch.float16, torch.float64)  # what models can run in


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
    except (RuntimeError, TypeError):
        device = torch.device("meta")  # which has no numbers
    if str(device) not in (here := devices()):
        raise ConfigError(f"is {name!r}, and this machine has {', '.join(here)}, or auto.", setting="device")
    return device, "asked for"


def devices() -> list[str]:
    """What models can run on here."""
    gpu = torch.accelerator.current_accelerator(check_available=True)
    numbered = [] if gpu is None else [f"{gpu.type}:{number}" for number in range(torch.accelerator.device_count())]
    return ["cpu", *([] if gpu is None else [gpu.type]), *numbered]


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
