"""Operations that compute nothing: each number of the result is one of an operand's, or a constant that fills a place.

They are replayed on tensors whose entries say where they stand, so that the result's entries say where they came from.
Views need no rule: they are windows into the same storage.
"""

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from glassformer.tracing import costs
from glassformer.tracing.formula import Formula, Number, Operand, call
from glassformer.tracing.rules.rule import BoundOperation, broadcast, rule
from glassformer.tracing.trace import Index, Operation, Ref, Trace

MOVED: dict[str, tuple[str, ...]] = {  # the arguments whose numbers move; the others say whereto
    **dict.fromkeys(
        [
            "clone",
            "repeat",
            "flip",
            "roll",
            "index_select",
            "gather",
            "index",
            "take",
            "masked_select",
        ],
        ("self",),
    ),
    **dict.fromkeys(["tril", "triu", "diag_embed", "im2col", "pixel_shuffle", "pixel_unshuffle"], ("self",)),
    **dict.fromkeys(["constant_pad_nd", "reflection_pad1d", "reflection_pad2d", "replication_pad1d"], ("self",)),
    **dict.fromkeys(["cat", "stack"], ("tensors",)),
    "embedding": ("weight",),
    "scatter": ("self", "src"),
    "slice_scatter": ("self", "src"),
    "select_scatter": ("self", "src"),
    "index_copy": ("self", "source"),
    "index_put": ("self", "values"),
}


NEITHER = (  # arguments that say nothing about places, and what must not be written into
    *("dtype", "layout", "device", "pin_memory", "memory_format", "sparse", "scale_grad_by_freq", "out"),
)


@rule(*MOVED)
def moved(op: BoundOperation, index: Index) -> Formula:
    """The number that moved here, and the numbers that said so."""
    if op.arguments.get("accumulate") or op.arguments.get("reduce"):
        raise NotImplementedError("adding up at repeated places")
    places, tensors = _places(op.trace, op.operation)
    if places[op.output].shape != op.result.shape:  # a mask among its operands has changed since
        raise NotImplementedError("its operands, as recorded, lead to a result of another shape")
    number = int(places[op.output][index])
    if number == 0:
        return _filled(op)
    for tensor, first in tensors:
        record = op.trace.tensors[tensor]
        if first <= number < first + record.n_cells:
            flat_index, place = number - first, []
            for n in reversed(record.shape):
                flat_index, i = divmod(flat_index, n)
                place.append(i)
            here = Operand(op.trace, tensor, tuple(reversed(place)))
            return call("chosen", here, *_choosers(op, index))
    raise AssertionError(f"no operand has the number {number}")


def _filled(op: BoundOperation) -> Formula:
    return Number(op["value"] if op.has("value") and not isinstance(op["value"], Ref) else 0)


def _choosers(op: BoundOperation, index: Index) -> list[Formula]:
    """For a lookup: the cells that hold the row's number."""
    base = op.operation.base
    if base == "embedding":
        return [op.at("indices", index[:-1])]
    if base == "gather":
        return [op.at("index", index)]
    if base == "index_select":
        (dim,) = op.dims()
        return [op.at("index", index[dim : dim + 1])]
    if base == "index":
        indices = [(axis, value) for axis, value in enumerate(op["indices"]) if isinstance(value, Ref)]
        if any(op.trace.tensors[value.tensor].dtype == torch.bool for _, value in indices):
            return []
        first, n_axes = indices[0][0], max(len(op.trace.tensors[value.tensor].shape) for _, value in indices)
        if indices[-1][0] - first == len(indices) - 1:  # side by side: their axes stand where the first one stood
            here = index[first : first + n_axes]
            tensors = [value.tensor for _, value in indices]
            return [Operand(op.trace, t, broadcast(here, op.trace.tensors[t].shape)) for t in tensors]
    return []


def _places(trace: Trace, operation: Operation) -> tuple[list[Any], list[tuple[int, int]]]:
    """For each result, where its numbers stood (0: nowhere); and each operand with the number of its first cell."""
    movements = trace.movements.get(operation.id)
    if movements is not None:
        return movements  # type: ignore[no-any-return]
    tensors: list[tuple[int, int]] = []
    next_number = 1

    def numbered(value: Any) -> Any:
        nonlocal next_number
        if isinstance(value, list):
            return [numbered(part) for part in value]
        if not isinstance(value, Ref):
            return value
        record = trace.tensors[value.tensor]
        costs.afford(trace, record.n_cells, None)
        first, next_number = next_number, next_number + record.n_cells
        tensors.append((value.tensor, first))
        return torch.arange(first, next_number, dtype=torch.float64).view(record.shape)  # exact up to 2⁵³

    def real(value: Any) -> Any:
        if isinstance(value, list):
            return [real(part) for part in value]
        return trace.value(value.tensor) if isinstance(value, Ref) else value

    moving = MOVED[operation.base]
    arguments = {
        name: numbered(value) if name in moving else real(value)
        for name, value in operation.arguments.items()
        if name not in NEITHER
    }
    if not isinstance(operation.arguments.get("value", 0), Ref) and "value" in arguments:
        arguments["value"] = 0
    name, _, overload = operation.name.partition(".")
    overload = overload.removesuffix("out")
    packet = getattr(torch.ops.aten, operation.base if hasattr(torch.ops.aten, operation.base) else name)
    move = getattr(packet, overload or "default")
    if trace.from_file:  # which may have other arguments than its results say
        _check_size(trace, operation.base, move, arguments)
    result = move(**arguments)
    results = [result] if isinstance(result, Tensor) else list(result)
    trace.movements[operation.id] = ([places.numpy() for places in results], tensors)
    return trace.movements[operation.id]  # type: ignore[no-any-return]


def _check_size(trace: Trace, base: str, move: Any, arguments: dict[str, Any]) -> None:
    """Run it on shapes alone first: a few arguments can ask for results of any size."""
    if base == "masked_select":  # whose size its numbers say
        costs.afford(trace, math.prod(np.broadcast_shapes(arguments["self"].shape, arguments["mask"].shape)), None)
        return

    def shapes(value: Any) -> Any:
        if isinstance(value, list):
            return [part for each in value for part in (positions(each) if is_mask(each) else [shapes(each)])]
        return value.to("meta") if isinstance(value, Tensor) else value

    result = move(**{name: shapes(value) for name, value in arguments.items()})
    results = [result] if isinstance(result, Tensor) else list(result)
    costs.afford(trace, sum(each.numel() for each in results), None)


def is_mask(value: Any) -> bool:
    """Whether an index picks by truth values: torch takes uint8 for that too."""
    return isinstance(value, Tensor) and value.dtype in (torch.bool, torch.uint8)


def positions(mask: Tensor) -> list[Tensor]:
    """What a mask among indices stands for: as many places along each of its axes as it has true entries."""
    count = int(mask.count_nonzero())
    return [torch.empty(count, dtype=torch.int64, device="meta") for _ in mask.shape]
