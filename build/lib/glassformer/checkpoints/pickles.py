"""Files that torch pickled: only tensors and plain values are read, and no more of them than the file has bytes.

`torch.load(weights_only=True)` runs no code of the file's; but a zip may inflate without end, and a tensor may be a
view of one number. torch stores the members of its zips uncompressed, so that their sizes can be compared first.
"""

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from glassformer.errors import CheckpointCorrupt

MAX_MEMBERS = 100_000


def load(path: Path) -> Any:
    """What was pickled."""
    check_zip(path)
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever a hostile pickle makes the unpickler say
        reason = str(error).strip().split("\n")[0][:200]
        raise CheckpointCorrupt(f"it holds more than tensors and plain values, or is broken: {reason}") from None


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


def check_tensors(state: Mapping[str, Any], path: Path) -> None:
    """Raise unless these are plain tensors whose memory came from the file."""
    for name, tensor in state.items():
        if type(tensor) is not Tensor or tensor.layout is not torch.strided:
            raise CheckpointCorrupt(f"{name[:200]!r} is no plain tensor.")
        if tensor.nbytes > tensor.untyped_storage().nbytes():
            raise CheckpointCorrupt(f"{name[:200]!r} shows the same numbers many times, and would grow when copied.")
    storages = {tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes() for tensor in state.values()}
    if sum(storages.values()) > path.stat().st_size:
        raise CheckpointCorrupt("its tensors are larger than the file.")
