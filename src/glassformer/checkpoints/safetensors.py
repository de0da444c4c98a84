"""The safetensors format, through the library of that name, with the checks that it leaves to its caller.

A file is a length (uint64, little-endian), a JSON header of that length, and the tensors' bytes:

    {"name": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}, …, "__metadata__": {"format": "pt"}}

Everything that the header says is checked against the file before a byte of memory is spent on it; the library itself
lets repeated names pass. A tensor is mapped from the file when it is asked for: what is not used is not read, and what
has been copied takes no memory.
"""

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_bytes
from torch import Tensor

from glassformer import files, strict_json
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
MAPPED_BYTES = 16 << 20  # after so many a file is mapped anew
LFS_POINTER = b"version "  # with which begins what Git LFS leaves in the place of a file that it has not fetched
PAGE_BYTES = 2 << 20  # what a tensor may bring into memory, however small it is


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """Where the header says that a tensor lies; `start` and `end` count bytes after the header."""

    start: int
    end: int


class Tensors(Mapping[str, Tensor]):
    """Tensors by their names, each mapped from its file when asked for; changing one does not change the file.

    What has been read of a mapping stays in memory as long as the mapping does, so a new one is made every few bytes.
    """

    def __init__(self, files: Mapping[str, Path]) -> None:
        self.files = files  # the file that each is in
        self._mapped: Path | None = None
        self._mapping: Any = None
        self._n_bytes = 0  # of the mapping that were asked for

    def __getitem__(self, name: str) -> Tensor:
        """The tensor of that name."""
        path = self.files[name]
        if path != self._mapped or self._n_bytes > MAPPED_BYTES:
            self._mapped, self._mapping, self._n_bytes = path, _mapping(path), 0
        with _about(path):
            tensor: Tensor = self._mapping.get_tensor(name)
        self._n_bytes += max(tensor.nbytes, PAGE_BYTES)
        return tensor

    def __iter__(self) -> Iterator[str]:
        return iter(self.files)

    def __len__(self) -> int:
        return len(self.files)


def read(path: Path) -> Tensors:
    """The tensors of a file whose header is sound."""
    size = path.stat().st_size
    if size == 0:
        raise CheckpointCorrupt(f"{path.name} is empty.")
    if size < 8:
        raise CheckpointCorrupt(f"{path.name} has {size} bytes, which is too short for a safetensors file.")
    with path.open("rb") as file:
        start = file.read(8)
        if start == LFS_POINTER:
            raise CheckpointCorrupt(f"{path.name} is a pointer of Git LFS, not the file: get it by git lfs pull.")
        length = int.from_bytes(start, "little")
        if length > min(strict_json.MAX_BYTES, size - 8):
            raise CheckpointCorrupt(
                f"{path.name} declares a header of {length:,} bytes; the file has {size:,}: it is "
                f"{'cut short, or ' if length <= strict_json.MAX_BYTES else ''}no safetensors file."
            )
        header = strict_json.parse(file.read(length), f"{path.name}: the header")
    check_header(header, size - 8 - length, path.name)
    return Tensors(dict.fromkeys(_mapping(path).keys(), path))


def _mapping(path: Path) -> Any:
    """The file as the library sees it."""
    with _about(path):
        return safe_open(path, framework="pt")


@contextmanager
def _about(path: Path) -> Iterator[None]:
    """What the library says of the file is said as what we say ourselves."""
    try:
        yield
    except SafetensorError as error:
        raise CheckpointCorrupt(f"{path.name} is no safetensors file: {error}.") from None


def check_header(header: Mapping[str, Any], n_bytes: int, file: str) -> None:
    """Raise unless the entries of a header cover the `n_bytes` that follow it without a gap or an overlap."""
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
    entry = Entry(start=offsets[0], end=offsets[1])
    needed = math.prod(shape) * DTYPES[name].itemsize
    if entry.end - entry.start != needed:
        raise CheckpointCorrupt(f"{where} needs {needed:,} bytes, but its offsets span {entry.end - entry.start:,}.")
    return entry


def write(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write a file that nobody reads yet. The library makes the bytes; `files` brings them to the disk."""
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    files.write(path, to_bytes(plain, metadata={"format": "pt"}))
