"""What was recorded, as plain records: storages, tensors as views into them, operations, modules.

    trace["blocks.0.attn.scores"]              the tensor that the variable `scores` held last in that module's call
    trace["blocks.0.attn.scores#1"]            the first one of that name
    trace["blocks.0.attn.scores"][0, 1, 5, 2]  a cell of it, which `explain.py` explains

A storage is what the machine has: bytes. A tensor is a window into it, so that a transposed or cut-out tensor costs
nothing, and each of its cells leads back to the one operation that wrote its bytes. An operation in place makes a new
version of the storage; views recorded before it keep the old one.
"""

import difflib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from glassformer.errors import TraceError
from glassformer.torch_internals import version
from glassformer.tracing.transformer_lens import Alias, transformer_lens_aliases

TensorKind = Literal["weight", "buffer", "input", "constant", "computed", "gradient"]
Index = tuple[int, ...]
Change = float | int | Tensor | Callable[[Tensor], Tensor]  # numbers to put in place, or what to make of those there


@dataclass(slots=True)
class Storage:
    """Bytes, and which operation wrote them; an operation in place leaves what it does not touch to `previous`."""

    id: int
    bytes: torch.UntypedStorage = field(repr=False)
    written_by: int | None = None  # an operation
    previous: int | None = None  # the version before that operation

    @property
    def nbytes(self) -> int:
        """Its size in bytes."""
        return self.bytes.nbytes()


@dataclass(slots=True)
class TensorRecord:
    """A window into a storage; `offset` and `strides` count elements of its dtype."""

    id: int
    storage: int
    dtype: torch.dtype
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    offset: int
    kind: TensorKind
    name: str = ""
    axes: tuple[str, ...] = ()
    made_by: int | None = None  # an operation, which computed it or made the view
    derived: bool = False  # the name is made up: no variable of the source holds it

    @property
    def n_cells(self) -> int:
        """How many numbers it shows, repeats along an axis of stride 0 included."""
        return math.prod(self.shape)

    @property
    def n_different(self) -> int:
        """At most so many cells differ: along an axis of stride 0 all are the same one."""
        return math.prod(n if stride else min(n, 1) for n, stride in zip(self.shape, self.strides, strict=True))


@dataclass(slots=True, frozen=True, kw_only=True)
class SourceLine:
    """A line of source, and the function it stands in."""

    file: str = ""
    line: int = 0
    text: str = ""
    function: str = ""


@dataclass(slots=True, frozen=True, kw_only=True)
class Ref:
    """A tensor among the arguments of an operation."""

    tensor: int


def refs(value: Any) -> Iterator[Ref]:
    """The tensors among arguments."""
    match value:
        case Ref():
            yield value
        case list() | tuple():
            for part in value:
                yield from refs(part)
        case Mapping():
            yield from refs(list(value.values()))


@dataclass(slots=True, kw_only=True)
class Operation:
    """One step of the computation. `arguments` are by the names of its schema, with its defaults."""

    id: int
    number: int  # in the order of all operations of the run, recorded or not
    name: str  # "mm", "add.Tensor": ATen's, less its namespace
    arguments: Mapping[str, Any]
    outputs: tuple[int, ...]
    module: str
    source: SourceLine
    writes: bool  # False for a view, which computes nothing

    @property
    def base(self) -> str:
        """The name without its overload, and without the underscore of the form in place."""
        base = self.name.partition(".")[0]
        return base.rstrip("_") if not base.startswith("__") else base


@dataclass(slots=True, frozen=True, kw_only=True)
class ModuleRecord:
    """A module of the recorded model."""

    path: str
    cls: str


@dataclass(frozen=True, slots=True, repr=False)
class Cell:
    """One number of a recorded tensor."""

    trace: "Trace" = field(repr=False, compare=False)
    tensor: int
    index: Index

    @property
    def value(self) -> float | int | bool | complex:
        """The recorded number."""
        value: float | int | bool | complex = self.trace.array(self.tensor)[self.index].item()
        return value

    def __str__(self) -> str:
        return f"{self.trace.tensors[self.tensor].name}[{','.join(map(str, self.index))}]"

    def __repr__(self) -> str:
        return f"<{self} = {self.value}>"


@dataclass(frozen=True, slots=True, repr=False)
class Recorded:
    """A tensor of a trace, to look at and to pick cells from; with `order` seen with its axes in that order."""

    trace: "Trace" = field(repr=False, compare=False)
    id: int
    order: tuple[int, ...] = ()

    def __repr__(self) -> str:
        return f"<{self.name}, {'×'.join(map(str, self.shape)) or 'a number'}, {self.record.kind}>"

    @property
    def record(self) -> TensorRecord:
        """What is written down of the tensor."""
        return self.trace.tensors[self.id]

    @property
    def name(self) -> str:
        """The tensor's name, as `trace[...]` takes it."""
        return self.record.name

    @property
    def shape(self) -> tuple[int, ...]:
        """The lengths of its axes, in the order in which it is seen."""
        return self._ordered(self.record.shape)

    @property
    def axes(self) -> tuple[str, ...]:
        """A letter for each axis, as in docs/notation.md, where the tensor's name says which."""
        return self._ordered(self.record.axes)

    @property
    def value(self) -> Tensor:
        """The numbers, as a tensor of their own."""
        value = self.trace.value(self.id).clone()
        return value.permute(self.order) if self.order else value

    def _ordered(self, of_axes: tuple[Any, ...]) -> tuple[Any, ...]:
        return tuple(of_axes[axis] for axis in self.order) if self.order and of_axes else of_axes

    @property
    def operation(self) -> Operation | None:
        """The step that made it."""
        made_by = self.record.made_by
        if made_by is None:  # a variable that held what was then written into
            made_by = self.trace.storages[self.record.storage].written_by
        return None if made_by is None else self.trace.operations[made_by]

    def __getitem__(self, index: int | Sequence[int]) -> Cell:
        place = (index,) if isinstance(index, int) else tuple(index)
        if not all(isinstance(i, int) for i in place):
            raise TraceError(f"A cell of {self.name} is picked by whole numbers; .value has slices.")
        shape = self.shape
        if len(place) != len(shape) or not all(-n <= i < n for i, n in zip(place, shape, strict=True)):
            raise TraceError(f"{self.name} has the shape {shape}, so there is no cell {list(place)} in it.")
        index = [i % n for i, n in zip(place, shape, strict=True)]
        if self.order:
            index = [index[self.order.index(axis)] for axis in range(len(index))]
        return Cell(self.trace, self.id, tuple(index))

    def cells(self) -> Iterator[Cell]:
        """All cells, row by row."""
        return (self[index] for index in np.ndindex(self.shape))


@dataclass(kw_only=True, repr=False)
class Trace:
    """A recorded forward pass.

    What is done with one are functions of the files above this one. The facade hands five of them to the class, so that
    `check(trace, cells=99)` is `trace.check(cells=99)` too; `api.py` has the list.
    """

    check: ClassVar[Callable[..., Any]]
    explain: ClassVar[Callable[..., Any]]
    patch: ClassVar[Callable[..., Any]]
    save: ClassVar[Callable[..., Any]]
    export: ClassVar[Callable[..., Any]]

    storages: list[Storage] = field(default_factory=list)
    tensors: list[TensorRecord] = field(default_factory=list)
    operations: list[Operation] = field(default_factory=list)
    modules: list[ModuleRecord] = field(default_factory=list)
    names: dict[str, list[int]] = field(default_factory=dict)
    versions: dict[int, int] = field(default_factory=dict)  # of weights, when they were recorded
    parameters: dict[int, Tensor] = field(default_factory=dict, repr=False)
    inputs: list[int] = field(default_factory=list)  # the tensors that the model was given, in their order
    replay: Any = field(default=None, repr=False)  # how `intervene.py` runs it again, where it can
    from_file: bool = False  # where a stranger may have written anything
    movements: dict[int, Any] = field(default_factory=dict, repr=False)  # what `rules/movement.py` has replayed so far

    def __repr__(self) -> str:
        return f"<a trace of {len(self.operations)} operations and {len(self.tensors)} tensors>"

    # ---- by name

    def __getitem__(self, path: str) -> Recorded:
        recorded = self._find(path)
        if recorded is None:
            raise TraceError(f"The trace has no tensor {path}. {self._near(path.partition('#')[0])}")
        return recorded

    def __contains__(self, path: str) -> bool:
        return self._find(path) is not None

    def _find(self, path: str) -> Recorded | None:
        for alias in (Alias(path), *transformer_lens_aliases(path)):
            if alias.beside and alias.beside not in self.names:
                continue
            name, _, number = alias.path.partition("#")
            ids = self.names.get(name, [])
            if ids and not number:
                return Recorded(self, ids[-1], alias.order)
            if number.isdecimal() and 1 <= int(number) <= len(ids):
                return Recorded(self, ids[int(number) - 1], alias.order)
        return None

    def _near(self, path: str) -> str:
        near = difflib.get_close_matches(path, self.names, n=3, cutoff=0.5)
        parent = path.rpartition(".")[0]
        near = near or [name for name in self.names if name.rpartition(".")[0] == parent][:8] or list(self.names)[:8]
        return f"There are {', '.join(near)}." if near else "It has no names at all."

    # ---- values

    def value(self, tensor: int) -> Tensor:
        """The recorded numbers, as a window into their storage: not to be changed."""
        record = self.tensors[tensor]
        parameter = self.parameters.get(tensor)
        if parameter is not None and version(parameter) != self.versions[tensor]:
            raise TraceError(f"{record.name} has changed since it was recorded: trace the model again.")
        window = torch.empty(0, dtype=record.dtype)
        return window.set_(self.storages[record.storage].bytes, record.offset, record.shape, record.strides)

    @cached_property
    def nbytes(self) -> int:
        """Of all storages that were recorded."""
        return sum(storage.nbytes for storage in self.storages)

    @cached_property
    def _arrays(self) -> dict[int, np.ndarray]:
        return {}

    def array(self, tensor: int) -> np.ndarray:
        """The same as numpy has it; bfloat16, which numpy lacks, widened to float32."""
        parameter = self.parameters.get(tensor)
        if tensor not in self._arrays or (parameter is not None and version(parameter) != self.versions[tensor]):
            self._arrays[tensor] = widened(self.value(tensor)).numpy()
        return self._arrays[tensor]

    # ---- where cells come from

    def home(self, tensor: int, index: Sequence[Any]) -> tuple[int, tuple[Any, ...]]:
        """The same cells where people know them: in the newest tensor with a name of its own that shows them."""
        record = self.tensors[tensor]
        if not record.derived:
            return tensor, tuple(index)
        elements = record.offset + sum(np.asarray(i) * s for i, s in zip(index, record.strides, strict=True))
        for candidate in reversed(self._named_windows.get(record.storage, [])):
            other = self.tensors[candidate]
            place = place_of(elements, other) if other.id < record.id and other.dtype == record.dtype else None
            if place is not None:
                return candidate, place
        return tensor, tuple(index)

    @cached_property
    def _named_windows(self) -> dict[int, list[int]]:
        ids_by_storage: dict[int, list[int]] = {}
        for record in self.tensors:
            if not record.derived:
                ids_by_storage.setdefault(record.storage, []).append(record.id)
        return ids_by_storage

    def origin(self, cell: Cell) -> Cell | None:
        """The cell of an operation's result that these bytes were written as; None for what came from outside.

        An element of a complex result that is read as a pair of real numbers leads to the whole complex number.
        """
        record = self.tensors[cell.tensor]
        element = record.offset + sum(i * s for i, s in zip(cell.index, record.strides, strict=True))
        at = element * record.dtype.itemsize
        version: int | None = record.storage
        while version is not None:
            storage = self.storages[version]
            if storage.written_by is None:
                return None
            for output in self.operations[storage.written_by].outputs:
                written = self.tensors[output]
                if written.storage == version:
                    index = place_of(at // written.dtype.itemsize, written)
                    if index is not None:
                        return Cell(self, output, tuple(map(int, index)))
            version = storage.previous
        return None

    def computed(self) -> Iterator[tuple[Operation, int]]:
        """Every operation that computes, with each tensor that it wrote."""
        for operation in self.operations:
            if operation.writes:
                for output in operation.outputs:
                    record = self.tensors[output]
                    if record.kind == "computed" and self.storages[record.storage].written_by == operation.id:
                        yield operation, output


@dataclass(frozen=True, slots=True, kw_only=True)
class Patched:
    """A forward pass before and after a change."""

    before: Trace
    after: Trace

    def difference(self, path: str) -> Tensor:
        """After − before; what is equal differs by 0, also where it is infinite. Truth values count as 0 and 1."""
        return _difference(self.before[path], self.after[path])

    def changed(self) -> dict[str, float]:
        """The tensors that differ, in the order of computation: each with its largest difference."""
        paths: dict[int, str] = {}
        for path, ids in self.before.names.items():
            for k, tensor in enumerate(ids, 1):
                name = self.before.tensors[tensor].name
                its_own = path == name.partition("#")[0] and self.before[name].id == tensor
                paths[tensor] = name if its_own else paths.get(tensor, f"{path}#{k}")
        differences = {}
        for tensor, path in sorted(paths.items()):
            if not self.before.tensors[tensor].derived and path in self.after:
                difference = self.difference(path)
                if difference.any():
                    differences[path] = difference.abs().max().item()
        return differences


def _difference(before: Recorded, after: Recorded) -> Tensor:
    a, b = before.value, after.value
    if a.shape != b.shape:
        raise TraceError(f"{before.name} has the shape {before.shape} before the change and {after.shape} after it.")
    if not (a.is_floating_point() or a.is_complex()):
        a, b = a.double(), b.double()
    same = (a == b) | (a.isnan() & b.isnan())
    return torch.where(same, 0, b - a)


def widened(window: Tensor) -> Tensor:
    """bfloat16 as float32: of what a storage has each number once, however often the window shows it."""
    if window.dtype != torch.bfloat16:
        return window
    end = sum((n - 1) * stride for n, stride in zip(window.shape, window.stride(), strict=True)) + 1
    span = window.as_strided((end * (0 not in window.shape),), (1,)).float()
    return span.as_strided(window.shape, window.stride(), 0)


def place_of(elements: Any, record: TensorRecord) -> tuple[Any, ...] | None:
    """Where a tensor shows an element of its storage, or an array of them; None where it does not show them all."""
    remainder = elements - record.offset
    index: list[Any] = [remainder * 0] * len(record.shape)
    for axis in sorted(range(len(index)), key=lambda a: record.strides[a], reverse=True):
        if record.shape[axis] > 1 and record.strides[axis] > 0:
            index[axis], remainder = divmod(remainder, record.strides[axis])
    fits = np.all(remainder == 0) and all(np.all((i >= 0) & (i < n)) for i, n in zip(index, record.shape, strict=True))
    return tuple(index) if fits else None
