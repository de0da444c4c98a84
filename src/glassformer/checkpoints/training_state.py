"""The state of a training run, in the folder `training/` of its checkpoint: tensors and JSON, never a pickle."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from glassformer import files, strict_json
from glassformer.checkpoints import safetensors
from glassformer.errors import CheckpointError

FOLDER = "training"


def write_state(folder: Path, tensors: Mapping[str, Tensor], values: Mapping[str, Any]) -> None:
    """Add a state to a checkpoint that is being written (inside `files.new_directory`); `values` must be JSON."""
    training = folder / FOLDER
    training.mkdir()
    safetensors.write(training / "state.safetensors", tensors)
    files.write(training / "state.json", json.dumps(values, allow_nan=False, indent=1).encode())


def read_state(folder: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors and values of a checkpoint's state; who reads it verifies the checkpoint first."""
    if not (folder / FOLDER).is_dir():
        raise CheckpointError(f"{folder} holds no training state, so training cannot resume from it.")
    with files.errors_about(folder):
        tensors = safetensors.read(files.file_in(folder, f"{FOLDER}/state.safetensors"))
        values = strict_json.read(files.file_in(folder, f"{FOLDER}/state.json"))
        return {name: tensor.clone() for name, tensor in tensors.items()}, values
