"""What must hold of the records of a trace before they are used: a trace may come from a stranger.

Every field is what it should be, every number that points somewhere points at something, every tensor lies in its
storage, and nothing is read before it is written. Whatever does not fit is a `CheckpointCorrupt` that says where.
"""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, get_args

import torch

from glassformer.errors import CheckpointCorrupt
from glassformer.tracing.costs import OVERLAP
from glassformer.tracing.trace import TensorKind, Trace, refs

RECORDS = "trace.json"
MAX_EXPANDED = 1 << 28  # cells of a tensor that repeats its storage; one that does not may have as many as there are
MAX_AXES = 32  # numpy's limit
MAX_TEXT = 4_000
MAX_NESTED = 100  # modules in each other
SAFE = 2**53  # integers that every reader of JSON keeps
DTYPES: dict[str, torch.dtype] = {
    str(dtype).removeprefix("torch."): dtype
    for dtype in (
        *(torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.complex64, torch.complex128, torch.bool),
        *(torch.int8, torch.int16, torch.int32, torch.int64),
        *(torch.uint8, torch.uint16, torch.uint32, torch.uint64),
    )
}
OPERATION = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z]\w*)?", re.ASCII)


Check = Callable[[Any], bool]


def count(value: Any) -> bool:
    """Whether this is a whole number from 0 on that every reader of JSON keeps."""
    return type(value) is int and 0 <= value <= SAFE


def _id(value: Any) -> bool:
    return value is None or count(value)


def _flag(value: Any) -> bool:
    return type(value) is bool


def text(value: Any) -> bool:
    """Whether this is a printable text of bearable length."""
    return type(value) is str and len(value) <= MAX_TEXT and value.isprintable()


def _path(value: Any) -> bool:
    return text(value) and value.count(".") < MAX_NESTED


def _many(check: Check) -> Check:
    return lambda value: type(value) is list and all(map(check, value))


def _one_of(words: Sequence[str]) -> Check:
    return lambda value: type(value) is str and value in words


def _object(value: Any) -> bool:
    return type(value) is dict and all(map(text, value))


def _name_of_operation(value: Any) -> bool:
    return text(value) and OPERATION.fullmatch(value) is not None


TABLES: dict[str, dict[str, Check]] = {
    "data": {"file": text, "nbytes": count},
    "storages": {"data": count, "offset": count, "nbytes": count, "written_by": _id, "previous": _id},
    "tensors": {
        "storage": count,
        "dtype": _one_of(tuple(DTYPES)),
        "shape": _many(count),
        "strides": _many(count),
        "offset": count,
        "kind": _one_of(get_args(TensorKind)),
        "name": text,
        "axes": _many(text),
        "made_by": _id,
        "derived": _flag,
    },
    "operations": {
        "number": count,
        "name": _name_of_operation,
        "arguments": _object,
        "outputs": _many(count),
        "module": _path,
        "source": count,
        "writes": _flag,
    },
    "sources": {"file": text, "line": count, "text": text, "function": text},
    "modules": {"path": _path, "class": text},
}


def check(content: Mapping[str, Any]) -> None:
    """Fields, references and windows; where the storages stand in their files is `trace_file.py`'s to check."""
    if set(content) != {"format", "version", "names", *TABLES}:
        raise CheckpointCorrupt(f"{RECORDS} has not the parts of a trace, which are {', '.join(TABLES)} and names.")
    for table, fields in TABLES.items():
        _check_fields(table, content[table], fields)
    sizes = {table: len(content[table]) for table in TABLES}
    for i, storage in enumerate(content["storages"]):
        _refers(f"storages[{i}].written_by", storage["written_by"], "operations", sizes)
        if storage["previous"] is not None and (storage["previous"] >= i or storage["written_by"] is None):
            raise CheckpointCorrupt(f"storages[{i}].previous is no storage before it that an operation has changed.")
    for i, tensor in enumerate(content["tensors"]):
        _refers(f"tensors[{i}].storage", tensor["storage"], "storages", sizes)
        _refers(f"tensors[{i}].made_by", tensor["made_by"], "operations", sizes)
        _check_window(f"tensors[{i}]", tensor, content["storages"][tensor["storage"]]["nbytes"])
    for i, operation in enumerate(content["operations"]):
        _refers(f"operations[{i}].source", operation["source"], "sources", sizes)
        if i and operation["number"] <= content["operations"][i - 1]["number"]:
            raise CheckpointCorrupt(f"operations[{i}].number is not above the one before it.")
    _check_names(content["names"], sizes)


def _check_fields(table: str, records: Any, fields: Mapping[str, Check]) -> None:
    if type(records) is not list:
        raise CheckpointCorrupt(f"{table} is no list.")
    for i, record in enumerate(records):
        if type(record) is not dict or record.keys() != fields.keys():
            raise CheckpointCorrupt(f"{table}[{i}] has not the fields of such a record: {', '.join(fields)}.")
        for name, check in fields.items():
            if not check(record[name]):
                raise CheckpointCorrupt(f"{table}[{i}].{name} is {short(record[name])}, which cannot be.")


def short(value: Any) -> str:
    """A value in an error's sentence: at most 80 letters of it, or its type."""
    return ascii(value)[:80] if isinstance(value, str | int | float | None) else f"a {type(value).__name__}"


def _refers(where: str, to: int | None, table: str, sizes: Mapping[str, int]) -> None:
    if to is not None and to >= sizes[table]:
        raise CheckpointCorrupt(f"{where} is {to}, but there are {sizes[table]} {table}.")


def _check_window(where: str, tensor: Mapping[str, Any], nbytes: int) -> None:
    """The window lies in its storage, and shows no more cells than a machine can hold."""
    shape, strides, itemsize = tensor["shape"], tensor["strides"], DTYPES[tensor["dtype"]].itemsize
    if len(shape) != len(strides) or len(shape) > MAX_AXES or len(tensor["axes"]) not in (0, len(shape)):
        raise CheckpointCorrupt(
            f"{where} has {len(shape)} axes, {len(strides)} strides, {len(tensor['axes'])} letters."
        )
    end = tensor["offset"] + (sum((n - 1) * stride for n, stride in zip(shape, strides, strict=True)) + 1) * all(shape)
    if end * itemsize > nbytes:
        raise CheckpointCorrupt(f"{where} ends at byte {end * itemsize:,} of a storage that has {nbytes:,}.")
    if math.prod(max(n, 1) for n in shape) > max(MAX_EXPANDED, nbytes // itemsize):
        raise CheckpointCorrupt(f"{where} has more cells than the storage that it repeats allows.")
    different = math.prod(n for n, stride in zip(shape, strides, strict=True) if stride)
    if different > OVERLAP * max(nbytes // itemsize, 1):
        raise CheckpointCorrupt(f"{where} shows its storage more than {OVERLAP:,} times over.")


def _check_names(names: Any, sizes: Mapping[str, int]) -> None:
    if not _object(names) or not all(_many(count)(ids) and ids for ids in names.values()):
        raise CheckpointCorrupt("names is no object with a list of tensors for each name.")
    for name, ids in names.items():
        _refers(f"names.{name}", max(ids), "tensors", sizes)


def check_order(trace: Trace) -> None:
    """An operation reads what was there before it; what it wrote, and what it is said to have made, are its results."""
    sizes = {"tensors": len(trace.tensors)}
    results = {(operation.id, output) for operation in trace.operations for output in operation.outputs}
    for operation in trace.operations:
        where = f"operations[{operation.id}]"
        for output in operation.outputs:
            _refers(f"{where}.outputs", output, "tensors", sizes)
            record = trace.tensors[output]
            written_by = trace.storages[record.storage].written_by
            if written_by is not None and written_by > operation.id:
                raise CheckpointCorrupt(f"{where} has a result that operations[{written_by}] wrote later.")
            if written_by == operation.id and record.made_by != operation.id:
                raise CheckpointCorrupt(f"{where} wrote tensors[{output}], which says that another has made it.")
        for tensor in [ref.tensor for ref in refs(operation.arguments)]:
            _refers(f"{where}.arguments", tensor, "tensors", sizes)
            written_by = trace.storages[trace.tensors[tensor].storage].written_by
            if written_by is not None and written_by >= operation.id:
                raise CheckpointCorrupt(f"{where} reads what operations[{written_by}] writes, which is not before it.")
    for record in trace.tensors:
        if record.made_by is not None and (record.made_by, record.id) not in results:
            raise CheckpointCorrupt(f"tensors[{record.id}].made_by is an operation that has another result.")
