"""What a file of rules is made with: the table, the declaration of a rule, and the operation that a rule explains."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from glassformer.tracing import costs
from glassformer.tracing.formula import Formula, Number, Operand
from glassformer.tracing.trace import Index, Operation, Ref, TensorRecord, Trace

OperationRule = Callable[["BoundOperation", Index], Formula]

RULES: dict[str, tuple[str, OperationRule]] = {}  # operation: the file that has its rule, and the rule


class RuleFault(RuntimeError):
    """A rule broke on what was recorded here: that is a fault of ours, and not of the recording."""


def rule(*names: str) -> Callable[[OperationRule], OperationRule]:
    """Declare the rule of some operations, by the names that ATen gives them."""

    def declare(function: OperationRule) -> OperationRule:
        for name in names:
            RULES[name] = (function.__module__.rpartition(".")[2], function)
        return function

    return declare


@dataclass(frozen=True, slots=True)
class BoundOperation:
    """An operation with its operands at hand; `output` says which of its results is asked about."""

    trace: Trace
    operation: Operation
    output: int

    @property
    def arguments(self) -> Mapping[str, Any]:
        """The arguments of the operation by the names of its schema."""
        return self.operation.arguments

    @property
    def result(self) -> TensorRecord:
        """The record of the result that is asked about."""
        return self.trace.tensors[self.operation.outputs[self.output]]

    def __getitem__(self, name: str) -> Any:
        """An argument that is no tensor."""
        return self.arguments[name]

    def has(self, name: str) -> bool:
        """Whether an argument is given."""
        return self.arguments.get(name) is not None

    def record(self, name: str) -> TensorRecord:
        """The record of an argument that is a tensor."""
        record: TensorRecord = self.trace.tensors[self.arguments[name].tensor]
        return record

    def shape(self, name: str) -> tuple[int, ...]:
        """Its shape."""
        return self.record(name).shape

    def at(self, name: str, index: Sequence[Any], label: str = "") -> Formula:
        """The argument's cells at this very index; arrays in it pick several."""
        value = self.arguments[name]
        if isinstance(value, Ref):
            return Operand(self.trace, value.tensor, tuple(index), label)
        return Number(value)

    def broadcast(self, name: str, index: Index) -> Formula:
        """The argument's cell that meets a cell of the result: axes of length 1 are repeated, missing ones too."""
        value = self.arguments[name]
        if not isinstance(value, Ref):
            return Number(value)
        return Operand(self.trace, value.tensor, broadcast(index, self.trace.tensors[value.tensor].shape))

    def dims(self, name: str = "dim", of: str = "self") -> list[int]:
        """Axes given as a number, a list or not at all, which means all, counted from 0."""
        n = len(self.shape(of))
        argument = self.arguments.get(name)
        axes = range(n) if argument is None or argument == [] else [argument] if isinstance(argument, int) else argument
        return [axis % n if n else 0 for axis in axes]

    def along(self, name: str, index: Sequence[Any], dims: Sequence[int]) -> Formula:
        """All cells of an argument along some axes, flattened; on the other axes they stand at `index`."""
        shape = self.shape(name)
        grid = self.grid([shape[axis] for axis in dims])
        places = list(index)
        for axis, entries in zip(dims, grid, strict=True):
            places[axis] = entries
        return self.at(name, places)

    def grid(self, sizes: Sequence[int]) -> np.ndarray:
        """All places in a box of these sizes, one row an axis, row by row; where they cost too much, an error."""
        costs.afford(self.trace, math.prod(max(n, 1) for n in sizes))
        return np.indices(sizes).reshape(len(sizes), -1)

    def reduced(self, index: Index, dims: Sequence[int], of: str = "self") -> list[int]:
        """The index into the operand from that into the result of a reduction, with 0 where it is reduced."""
        n = len(self.shape(of))
        if len(index) == n:  # keepdim
            return [0 if axis in dims else i for axis, i in enumerate(index)]
        kept = iter(index)
        return [0 if axis in dims else next(kept) for axis in range(n)]


def broadcast(index: Sequence[Any], shape: Sequence[int]) -> tuple[Any, ...]:
    """An index into the result, as one into an operand that was broadcast to it."""
    near = index[len(index) - len(shape) :]
    return tuple(0 if n == 1 else i for i, n in zip(near, shape, strict=True))


def dtype(name: str) -> torch.dtype:
    """torch's dtype from its name, as arguments keep it."""
    torch_dtype: torch.dtype = getattr(torch, name.removeprefix("torch."))
    return torch_dtype
