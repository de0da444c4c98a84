"""The safetensors format: a length (uint64, little-endian), a JSON header of that length, and the tensors' bytes.

    {"name": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}, …, "__metadata__": {"format": "pt"}}

Everything that the header says is checked against the file before a byte of memory is spent on it. Tensors are mapped
from the file, so what is not used is not read; whoever keeps one copies it.
"""

import json
import math
import mmap
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from glassformer import files
from glassformer.checkpoints import strict_json
from glassformer.errors import CheckpointCorrupt

DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
DTYPE_NAMES = {dtype: name for name, dtype in DTYPES.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One tensor as the header describes it; `start` and `end` count bytes after the header."""

    dtype: torch.dtype
    shape: tuple[int, ...]
    start: int
    end: int


def read(path: Path) -> dict[str, Tensor]:
    """The tensors of a file, mapped; changing one does not change the file."""
    size = path.stat().st_size
    if size < 8:
        raise CheckpointCorrupt(f"{path.name} has {size} bytes, which is too short for a safetensors file.")
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if length > min(strict_json.MAX_BYTES, size - 8):
            raise CheckpointCorrupt(f"{path.name} declares a header of {length:,} bytes; the file has {size:,}.")
        header = strict_json.parse(file.read(length), f"{path.name}: the header")
        entries = check_header(header, size - 8 - length, path.name)
        data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
    return {
        name: torch.frombuffer(data, dtype=e.dtype, count=math.prod(e.shape), offset=8 + length + e.start).view(e.shape)
        if e.end > e.start
        else torch.empty(e.shape, dtype=e.dtype)
        for name, e in entries.items()
    }


def check_header(header: Mapping[str, Any], n_bytes: int, file: str) -> dict[str, Entry]:
    """The entries of a header, which must cover the `n_bytes` that follow it without a gap or an overlap."""
    entries: dict[str, Entry] = {}
    for name, fields in header.items():
        if name == "__metadata__":
            if not isinstance(fields, dict) or not all(isinstance(text, str) for text in fields.values()):
                raise CheckpointCorrupt(f"{file}: __metadata__ must map names to texts.")
            continue
        entries[name] = _check_entry(fields, f"{file}: tensor {name[:200]!r}")
    end = 0
    for name, entry in sorted(entries.items(), key=lambda item: (item[1].start, item[1].end)):
        if entry.start != end:
            what = "overlaps another" if entry.start < end else "leaves a gap before it"
            raise CheckpointCorrupt(f"{file}: tensor {name[:200]!r} {what}, at byte {entry.start:,} of the data.")
        end = entry.end
    if end != n_bytes:
        raise CheckpointCorrupt(f"{file} has {n_bytes:,} bytes of data; its header describes {end:,}.")
    return entries


def _check_entry(fields: Any, where: str) -> Entry:
    if not isinstance(fields, dict) or set(fields) != {"dtype", "shape", "data_offsets"}:
        raise CheckpointCorrupt(f"{where} must have dtype, shape and data_offsets, and nothing else.")
    name, shape, offsets = fields["dtype"], fields["shape"], fields["data_offsets"]
    if not isinstance(name, str) or name not in DTYPES:
        raise CheckpointCorrupt(f"{where} has dtype {str(name)[:40]!r}, which is none of {', '.join(DTYPES)}.")
    for numbers in (shape, offsets):
        if not isinstance(numbers, list) or not all(type(n) is int and 0 <= n < 2**63 for n in numbers):
            raise CheckpointCorrupt(f"{where}: shape and data_offsets must be lists of whole numbers below 2⁶³.")
    if len(offsets) != 2 or len(shape) > 8 or math.prod(max(n, 1) for n in shape) >= 2**60:
        raise CheckpointCorrupt(f"{where} has an impossible shape or offsets.")
    entry = Entry(dtype=DTYPES[name], shape=tuple(shape), start=offsets[0], end=offsets[1])
    needed = math.prod(shape) * entry.dtype.itemsize
    if entry.end - entry.start != needed:
        raise CheckpointCorrupt(f"{where} needs {needed:,} bytes, but its offsets span {entry.end - entry.start:,}.")
    return entry


def write(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write a file that nobody reads yet, largest alignment first, as the reference implementation orders it."""
    order = sorted(tensors, key=lambda name: (-tensors[name].element_size(), name))
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name in order:
        start, end = end, end + tensors[name].nbytes
        fields = {"dtype": DTYPE_NAMES[tensors[name].dtype], "shape": list(tensors[name].shape)}
        header[name] = {**fields, "data_offsets": [start, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # so that the data is aligned in memory
    data = (as_bytes(tensors[name]) for name in order)
    files.write(path, len(text).to_bytes(8, "little"), text, *data)


def as_bytes(tensor: Tensor) -> memoryview:
    """The memory of a tensor, in row-major order."""
    flat = tensor.detach().cpu().contiguous().reshape(-1)
    return flat.view(torch.uint8).numpy().data
