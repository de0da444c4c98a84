"""Small runs for the tests: settings, and what a run has left behind."""

from pathlib import Path
from typing import Any

from glassformer.checkpoints import native, safetensors
from glassformer.config import from_mapping, merge
from glassformer.training.config import RunConfig

TEXT = "the quick brown fox jumps over the lazy dog. " * 40

SMALL: dict[str, Any] = {
    "model": {
        "architecture": "gpt2",
        "context_length": 8,
        "d_model": 16,
        "n_layers": 1,
        "n_heads": 2,
        "dropout": 0.2,
    },
    "batch_size": 3,
    "accumulation": 3,
    "steps": 12,
    "eval_interval": 5,
    "save_interval": 4,
    "optimizer": {"lr": 0.01},
    "schedule": {"warmup_steps": 3},
    "seed": 5,
}


def small(folder: Path, **changes: Any) -> RunConfig:
    """A language model on a text in this folder, or, with task="sort", the sorting task."""
    (folder / "text.txt").write_text(TEXT)
    return from_mapping(RunConfig, merge(merge(SMALL, {"data": {"path": str(folder / "text.txt")}}), changes))


def sorting(**changes: Any) -> RunConfig:
    """A sorting run of a few steps."""
    model = {"preset": "nano-sort", "n_layers": 1, "d_model": 12, "dropout": 0.1}
    return from_mapping(RunConfig, merge(SMALL, {"task": "sort", **changes}) | {"model": model})


def newest_checkpoint(run: Path) -> Path:
    return max((run / "checkpoints").iterdir())


def everything(run: Path) -> tuple[dict[str, bytes], dict[str, Any]]:
    """The bytes of weights and optimizer in the newest checkpoint, by name, and its values."""
    folder = newest_checkpoint(run)
    tensors, values = native.read_state(folder)
    tensors |= safetensors.read(folder / "model.safetensors")
    return {name: tensor.numpy().tobytes() for name, tensor in tensors.items()}, values
