"""GGUF, the container of llama.cpp: metadata, a list of tensors, and their bytes, mapped when they are asked for.

    "GGUF"  version u32  n_tensors u64  n_metadata u64
    metadata: name, type u32, value      a string is its length u64 and its bytes, an array its type, length, items
    tensors:  name, n_dims u32, dims u64 …, type u32, offset u64      the first dimension is that of a row
    padding, then the tensors in this order, each padded to `general.alignment` (32)

The file is parsed here, not by the library `gguf`, which believes the file: an array said to have 2⁶⁰ items is counted
through, past the end of the file, and every string of a vocabulary costs several arrays of numpy. Tests hold what is
read here to that library. Every count, length and offset is compared with what is left of the file before it is used.
Next to read: `ggml_blocks.py` for what is in a tensor, `formats/gguf.py` for what the metadata says.
"""

import math
import mmap
import struct
import sys
from array import array
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from glassformer.checkpoints import ggml_blocks
from glassformer.checkpoints.ggml_blocks import BlockFormat
from glassformer.errors import CheckpointCorrupt, ConfigError

MAGIC = b"GGUF"
VERSIONS = (2, 3)
ALIGNMENT = "general.alignment"
SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
BOOL, STRING, ARRAY = 7, 8, 9
MAX_HEADER_BYTES = 64 << 20
MAX_ENTRIES = 1 << 16  # of metadata, and of tensors
MAX_STRINGS = 1 << 20  # in all arrays: a vocabulary of 256,000 and its merges are half of that
MAX_DIMS = 4
OTHER_TYPES = {  # whose numbers nobody makes weights of: parts of computations, and plain ones that no model is made of
    9: "Q8_1",
    15: "Q8_K",
    24: "I8",
    25: "I16",
    26: "I32",
    27: "I64",
    28: "F64",
    41: "Q1_0",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredTensor:
    """A tensor as the file's list has it; `start` counts bytes from the beginning of the file."""

    shape: tuple[int, ...]
    format: BlockFormat
    start: int

    @property
    def n_bytes(self) -> int:
        """What it takes in the file."""
        return math.prod(self.shape) // self.format.n_weights * self.format.n_bytes


class GGUFFile(Mapping[str, Tensor]):
    """The tensors of a file by their names, each read when it is asked for, and its `metadata`."""

    def __init__(self, path: Path) -> None:
        """Read all but the tensors; raises `CheckpointCorrupt` for what the format does not allow."""
        self.path = path
        size = path.stat().st_size
        with path.open("rb") as file:
            head = file.read(24)
            if len(head) < 24 or head[:4] != MAGIC:
                raise CheckpointCorrupt("this is no GGUF file, or one that is cut short.")
            with mmap.mmap(file.fileno(), min(size, MAX_HEADER_BYTES), access=mmap.ACCESS_READ) as data:
                self.metadata, self.stored = _header(_Cursor(data, size))

    def __getitem__(self, name: str) -> Tensor:
        """The tensor of that name, quantized ones as float32; plain numbers are mapped."""
        stored = self.stored[name]
        return ggml_blocks.numbers(self.raw(name), stored.format).view(stored.shape)

    def part(self, name: str, i: int) -> Tensor:
        """One of the matrices that the tensor of that name has below each other."""
        stored = self.stored[name]
        n_bytes = stored.n_bytes // stored.shape[0]
        data = self.raw(name)[i * n_bytes : (i + 1) * n_bytes]
        return ggml_blocks.numbers(data, stored.format).view(stored.shape[1:])

    def raw(self, name: str) -> ggml_blocks.Bytes:
        """The tensor's bytes, mapped; each mapping is let go with what was made of it."""
        stored = self.stored[name]
        return np.memmap(self.path, dtype=np.uint8, mode="c", offset=stored.start, shape=(stored.n_bytes,))

    def __iter__(self) -> Iterator[str]:
        return iter(self.stored)

    def __len__(self) -> int:
        return len(self.stored)

    def outline(self, name: str) -> Tensor:
        """The tensor without its numbers, which takes no memory."""
        stored = self.stored[name]
        return torch.empty(stored.shape, dtype=stored.format.dtype, device="meta")


class _Cursor:
    """A place in the header, and what is left behind it."""

    def __init__(self, data: mmap.mmap, file_size: int) -> None:
        self.data, self.file_size = data, file_size
        self.at = len(MAGIC)
        self.n_strings = 0

    def unpack(self, letters: str) -> tuple[Any, ...]:
        """The next numbers, little-endian."""
        packed = struct.Struct("<" + letters)
        return packed.unpack(self.take(packed.size, "its header"))

    def take(self, length: int, what: str) -> bytes:
        """The next bytes; raises where there are not so many."""
        if length > len(self.data) - self.at:
            if self.file_size > len(self.data):
                raise CheckpointCorrupt(f"{what} goes beyond {MAX_HEADER_BYTES:,} bytes of header, which are the most.")
            raise CheckpointCorrupt(f"{what} goes beyond the end of the file, which is damaged or cut short.")
        self.at += length
        return self.data[self.at - length : self.at]

    def count(self, n: int, item_bytes: int, most: int, what: str) -> int:
        """A number of things of at least so many bytes; raises where the header has no room for them."""
        if n > min(most, (len(self.data) - self.at) // item_bytes):
            raise CheckpointCorrupt(f"{n:,} {what} are more than there is room for; the file is damaged or cut short.")
        return n

    def string(self, what: str) -> str:
        """A text."""
        (length,) = self.unpack("Q")
        try:
            return self.take(length, what).decode()
        except UnicodeDecodeError:
            raise CheckpointCorrupt(f"{what} is not UTF-8, so the file is damaged.") from None

    def value(self, kind: int, name: str) -> Any:
        """A value of metadata: a number, a text, or a list of either, one of numbers as an `array`."""
        if kind in SCALARS:
            return _scalar(kind, self.unpack("B" if kind == BOOL else SCALARS[kind])[0], name)
        if kind == STRING:
            return self.string(name)
        if kind != ARRAY:
            raise CheckpointCorrupt(f"{name} has a value of type {kind}, which GGUF does not have.")
        item_kind, n = self.unpack("IQ")
        if item_kind == STRING:
            self.n_strings += self.count(n, 8, MAX_STRINGS - self.n_strings, f"items of {name}")
            return [self.string(name) for _ in range(n)]
        if item_kind not in SCALARS:
            raise CheckpointCorrupt(f"{name} is a list of type {item_kind}, which is not read here.")
        numbers = array(SCALARS[item_kind] if item_kind != BOOL else "B")
        self.count(n, numbers.itemsize, MAX_HEADER_BYTES, f"items of {name}")
        numbers.frombytes(self.take(n * numbers.itemsize, name))
        if sys.byteorder == "big":
            numbers.byteswap()
        return numbers


def _scalar(kind: int, value: Any, name: str) -> Any:
    if kind == BOOL:
        if value > 1:
            raise CheckpointCorrupt(f"{name} is {value}, neither true nor false.")
        return bool(value)
    if kind == 6:  # the shortest decimal that is this float32: what was written as 1e-05 is that again
        return float(str(np.float32(value)))
    return value


def write(path: Path, metadata: Mapping[str, Any], tensors: Mapping[str, tuple[int, Tensor]]) -> None:
    """Write a file that nobody reads yet: each tensor as ggml's type of that number, F32, F16 or Q8_0."""
    parts = [MAGIC, struct.pack("<IQQ", 3, len(tensors), len(metadata))]
    for name, value in metadata.items():
        parts += [_packed_string(name), _packed(value)]
    offset = 0
    for name, (kind, tensor) in tensors.items():
        format = ggml_blocks.FORMATS[kind]
        dims = tuple(tensor.shape)[::-1]
        parts += [_packed_string(name), struct.pack(f"<I{len(dims)}QIQ", len(dims), *dims, kind, offset)]
        n_bytes = tensor.numel() // format.n_weights * format.n_bytes
        offset += n_bytes + -n_bytes % 32
    header = b"".join(parts)
    with path.open("wb") as file:
        file.write(header + bytes(-len(header) % 32))
        for data in _padded(tensors):
            file.write(data)


def _padded(tensors: Mapping[str, tuple[int, Tensor]]) -> Iterator[bytes]:
    """The bytes of each tensor, made when they are written."""
    for kind, tensor in tensors.values():
        numbers = tensor.detach().cpu().float().contiguous().numpy()
        match ggml_blocks.FORMATS[kind].name:
            case "Q8_0":
                data = ggml_blocks.to_q8_0(numbers.reshape(-1, 32)).tobytes()
            case "F16":
                data = numbers.astype("<f2").tobytes()
            case _:
                data = numbers.astype("<f4").tobytes()
        yield data + bytes(-len(data) % 32)


def _packed_string(text: str) -> bytes:
    data = text.encode()
    return struct.pack("<Q", len(data)) + data


def _packed(value: Any) -> bytes:
    """A value of metadata with its type; whole numbers are u32, others float32, those of an `array` as it has them."""
    match value:
        case bool():
            return struct.pack("<I?", BOOL, value)
        case int():
            return struct.pack("<II", 4, value)
        case float():
            return struct.pack("<If", 6, value)
        case str():
            return struct.pack("<I", STRING) + _packed_string(value)
        case array():
            kind = {letter: kind for kind, letter in SCALARS.items()}[value.typecode]
            return struct.pack(f"<IIQ{len(value)}{value.typecode}", ARRAY, kind, len(value), *value)
        case _:
            return struct.pack("<IIQ", ARRAY, STRING, len(value)) + b"".join(map(_packed_string, value))


def _header(cursor: _Cursor) -> tuple[dict[str, Any], dict[str, StoredTensor]]:
    """The metadata and the list of tensors."""
    version, n_tensors, n_metadata = cursor.unpack("IQQ")
    if version not in VERSIONS:
        other_order = " or of a machine of the other byte order" if version & 0xFFFF == 0 else ""
        raise CheckpointCorrupt(f"its GGUF is of version {version}{other_order}; 2 and 3 are read, little-endian.")
    cursor.count(n_metadata, 13, MAX_ENTRIES, "entries of metadata")
    metadata: dict[str, Any] = {}
    for _ in range(n_metadata):
        name = _name(cursor, metadata, "an entry of metadata")
        metadata[name] = cursor.value(cursor.unpack("I")[0], name)
    alignment = metadata.get(ALIGNMENT, 32)
    if type(alignment) is not int or not 8 <= alignment <= 1 << 16 or alignment & (alignment - 1):
        raise CheckpointCorrupt(f"{ALIGNMENT} must be a power of two from 8 on, not {str(alignment)[:40]}.")
    if metadata.get("split.count", 0) not in (0, 1):
        raise CheckpointCorrupt("this is one of several parts; join them first, with llama-gguf-split --merge.")
    cursor.count(n_tensors, 32, MAX_ENTRIES, "tensors")
    stored: dict[str, StoredTensor] = {}
    end = unpadded = 0
    for _ in range(n_tensors):
        name = _name(cursor, stored, "the name of a tensor")
        stored[name] = _tensor(cursor, name)
        if stored[name].start != end:
            raise CheckpointCorrupt(f"{name} is at byte {stored[name].start:,} of the data, and should be at {end:,}.")
        unpadded = end + stored[name].n_bytes
        end = unpadded + -unpadded % alignment
    start = cursor.at + -cursor.at % alignment
    if n_tensors and not unpadded <= cursor.file_size - start <= end:  # the last may lack its padding
        has = max(cursor.file_size - start, 0)
        raise CheckpointCorrupt(f"its tensors take {end:,} bytes and it has {has:,}: it is damaged or cut short.")
    return metadata, {name: replace(each, start=start + each.start) for name, each in stored.items()}


def _name(cursor: _Cursor, others: Mapping[str, object], what: str) -> str:
    name = cursor.string(what)
    if not name.isprintable() or not 0 < len(name) <= 256:
        raise CheckpointCorrupt(f"{what} is {name[:40]!r}, which is no name.")
    if name in others:
        raise CheckpointCorrupt(f"{what}, {name}, comes twice.")
    return name


def _tensor(cursor: _Cursor, name: str) -> StoredTensor:
    """An entry of the list, which says where in the data it starts."""
    (n_dims,) = cursor.unpack("I")
    if not 1 <= n_dims <= MAX_DIMS:
        raise CheckpointCorrupt(f"{name} has {n_dims:,} dimensions; tensors have 1 to {MAX_DIMS}.")
    dims = cursor.unpack("Q" * n_dims)
    kind, offset = cursor.unpack("IQ")
    format = ggml_blocks.FORMATS.get(kind)
    if format is None:
        readable = ", ".join(each.name for each in ggml_blocks.FORMATS.values())
        of_type = OTHER_TYPES.get(kind, f"number {kind}")
        raise ConfigError(f"{name} is of ggml's type {of_type}, which is not supported; supported are {readable}.")
    if not all(dims) or math.prod(dims) >= 2**60:
        raise CheckpointCorrupt(f"{name} has the impossible shape {dims}.")
    if dims[0] % format.n_weights:
        raise CheckpointCorrupt(f"{name} has rows of {dims[0]:,}, and {format.name} has blocks of {format.n_weights}.")
    return StoredTensor(shape=dims[::-1], format=format, start=offset)
