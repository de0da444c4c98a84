"""`glassformer doctor`: what this machine has, and which implementations run on it."""

import importlib.metadata
import importlib.util
import platform
import sys
from collections.abc import Callable
from typing import Any

from cyclopts import App

from glassformer.cli.flags import Flag
from glassformer.cli.output import print_json, print_table

app = App(
    name="doctor",
    help_epilogue="Example:  glassformer doctor --json",
)

EXTRAS = {
    "plot": "matplotlib",
    "train": "tensorboard",
    "text": "sentencepiece",
    "metrics": "sacrebleu",
    "notebook": "anywidget",
    "media": "av",
    "gguf": "gguf",
    "guided": "llguidance",
    "hub": "huggingface_hub",
    "chat": "jinja2",
    "parquet": "pyarrow",
    "zstd": "compression.zstd" if sys.version_info >= (3, 14) else "backports.zstd",
    "ray": "ray",
}


@app.default
def doctor(*, json: Flag = False) -> None:
    """Say what this machine has, and what runs on it and why.

    Parameters
    ----------
    json
        Print a JSON object.
    """
    report = examine()
    if json:
        print_json(report)
        return
    for title, entries in report.items():
        print_table(("", ""), [(name, str(value)) for name, value in entries.items()], title=title, min_width=60)


def runs(fast: Callable[[], object | None], module: str, mode: str) -> str:
    """Which form of a twinned function runs, and why."""
    if mode == "readable":
        return "the readable form, as the mode asks"
    if fast() is None:
        return f"the readable form, since {module} cannot be imported here"
    return f"the fast twin in {module}"


def decode_step(mode: str) -> str:
    """What makes the steps of decoding."""
    if mode == "readable":
        return "the module, as the mode asks"
    if importlib.util.find_spec("numba") is None:
        return "the module, since numba is not installed"
    return "a compiled kernel, for the decoders that it knows, in float32 or quantized, on a CPU"


def _is_installed(library: str) -> bool:
    try:
        return importlib.util.find_spec(library) is not None
    except ModuleNotFoundError:  # a package that it would be a part of
        return False


def quantized_products() -> str:
    """How 8-bit numbers are multiplied here."""
    try:
        from glassformer.kernels.quantized import instructions
    except ImportError:
        return "weights are dequantized and multiplied, since numba is missing"
    return f"by {instructions()}, as numba compiles for this processor"


def examine() -> dict[str, dict[str, Any]]:
    """The report, by section."""
    import torch

    from glassformer import __version__
    from glassformer.cli import plugins
    from glassformer.nn.attend import BACKENDS
    from glassformer.training.device import choose_device, choose_dtype
    from glassformer.twins import TWINS, current

    of_plugins = plugins.report()
    device, why_device = choose_device("auto")
    dtype, why_dtype = choose_dtype("auto", device)
    choice = current()
    names = ", ".join(BACKENDS)
    attention = f'{choice.attention} of {names}; "auto" is the first that supports the call'
    return {
        "machine": {
            "glassformer": __version__,
            "python": platform.python_version(),
            "torch": torch.__version__,
            "processor": f"{platform.machine()}, torch uses {torch.backends.cpu.get_cpu_capability()}",
            "threads": f"{torch.get_num_threads()} (set OMP_NUM_THREADS to change)",
            "device": f"{device} ({why_device})",
            "dtype": f"{dtype} for matrix products in training ({why_dtype})",
        },
        "what runs": {
            "mode": f"{choice.mode} (change it in Python with glassformer.use)",
            "attention": attention,
            "quantized products": quantized_products(),
            "decode step": decode_step(choice.mode),
            **{name: runs(twin.fast, twin.fast_module, choice.mode) for name, twin in sorted(TWINS.items())},
        },
        "extras": {
            extra: "installed" if _is_installed(library) else f"missing: pip install 'glassformer[{extra}]'"
            for extra, library in EXTRAS.items()
        },
        **({"plugins": of_plugins} if of_plugins else {}),
    }
