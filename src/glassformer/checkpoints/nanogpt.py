"""nanoGPT's ckpt.pt: a zip that torch pickled, with "model" (a state dict) and "model_args".

Karpathy, github.com/karpathy/nanoGPT. Of a pickle only tensors and plain values are read (`weights_only`), and first it
is made sure that it takes no more memory than the file has bytes: torch stores its members uncompressed.
"""

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from glassformer.checkpoints.mingpt import gpt2_config, to_huggingface
from glassformer.checkpoints.names import to_ours
from glassformer.errors import CheckpointCorrupt
from glassformer.models.gpt2 import GPT2Config

MAX_MEMBERS = 100_000


def read(path: Path) -> tuple[GPT2Config, dict[str, Tensor]]:
    """The configuration and our parameters."""
    check_zip(path)
    try:
        content: Any = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever a hostile pickle makes the unpickler say
        reason = str(error).strip().split("\n")[0][:200]
        raise CheckpointCorrupt(f"it holds more than tensors and plain values, or is broken: {reason}") from None
    state, args = (content.get("model"), content.get("model_args")) if isinstance(content, dict) else (None, None)
    if not isinstance(state, Mapping) or not isinstance(args, Mapping):
        raise CheckpointCorrupt('there is no "model" with "model_args", so this is no checkpoint of nanoGPT.')
    state = {str(name).removeprefix("_orig_mod."): tensor for name, tensor in state.items()}
    _check_tensors(state, path)
    config = gpt2_config(args, activation="gelu", tied_head=True)
    if not args.get("bias", True):
        state |= _zero_biases(state)
    return config, to_ours(to_huggingface(state), config)


def check_zip(path: Path, writer: str = "torch") -> None:
    """Raise unless the file is a zip as its writer leaves it: every member stored as it is, none counted twice."""
    size = path.stat().st_size
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
    except (zipfile.BadZipFile, ValueError, OverflowError, NotImplementedError, RuntimeError) as error:
        raise CheckpointCorrupt(f"it is not a zip as {writer} writes it: {error}.") from None
    stored = all(m.compress_type == zipfile.ZIP_STORED and m.file_size == m.compress_size for m in members)
    if not stored or len(members) > MAX_MEMBERS or sum(m.file_size for m in members) > size:
        declared = sum(m.file_size for m in members)
        raise CheckpointCorrupt(
            f"it has {size:,} bytes and would inflate to {declared:,}; {writer} stores its members uncompressed."
        )


def _check_tensors(state: Mapping[str, Any], path: Path) -> None:
    """Raise unless these are plain tensors whose memory came from the file."""
    for name, tensor in state.items():
        if type(tensor) is not Tensor or tensor.layout is not torch.strided or not tensor.is_contiguous():
            raise CheckpointCorrupt(f"{name[:200]!r} is no plain tensor.")
    storages = {tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes() for tensor in state.values()}
    if sum(storages.values()) > path.stat().st_size:
        raise CheckpointCorrupt("its tensors are larger than the file.")


def _zero_biases(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The biases that a model trained with bias=False leaves out."""
    weights = {name: tensor for name, tensor in state.items() if ".ln_" in name or ".c_" in name}
    return {
        name.removesuffix("weight") + "bias": tensor.new_zeros(tensor.shape[:1]) for name, tensor in weights.items()
    }
