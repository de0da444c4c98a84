"""Which parts of a model a logit came from: its exact decomposition over the residual stream.

    attribution = attribute(trace, "logits[0,-1,42]")
    attribution.terms       embedding, position, every head, every MLP, biases: their values add up to the logit
    attribution.sources()   what heads brought from each position

Between the parts that write into the stream and the logit stand only additions, products with weights, and norms. With
the *scales of the norms held* at what they were in this pass, all of that is linear, so that the logit is a sum over
what was written ("direct logit attribution": Elhage et al. 2021, "A mathematical framework for Transformer circuits").
Nothing is known here of the model's names. The recording is walked from the logit backwards, each step giving its
operands their share by its own derivative, until a step is not linear in what it reads:

    a row of a matrix is looked up              the embedding of a token
    nothing of the input went into it           a position, a bias
    two things computed from the input multiply, matrices: the heads of attention, their patterns held;
                                                 entries: the neurons of a gated MLP
    a curve, such as GELU                       the neurons of an MLP
    a factor that is one number a position      a norm's scale, or a router's weight: held, and the walk goes on

A cap on logits (tanh) is held as a factor, too. What float32 rounded on the way is a term of its own, which must stay
within the bound of `check.py`, added up over the steps.
"""

import heapq
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from glassformer.errors import TraceError
from glassformer.tracing.explain import SINGLE, TINY, UNIT, cell_named
from glassformer.tracing.trace import Cell, Operation, Ref, Trace, refs

TermKind = Literal["embedding", "position", "head", "mlp", "bias", "constant", "input"]

# Operations that are linear in `self` or in all of `tensors`.
UNARY = {
    *(
        "view",
        "_unsafe_view",
        "reshape",
        "expand",
        "transpose",
        "t",
        "permute",
        "unsqueeze",
        "squeeze",
        "alias",
        "detach",
    ),
    *(
        "slice",
        "select",
        "split",
        "split_with_sizes",
        "unbind",
        "clone",
        "contiguous",
        "_to_copy",
        "neg",
        "mean",
        "sum",
    ),
    *("index", "index_select", "gather", "flip", "roll", "repeat", "cat", "stack", "narrow", "as_strided", "movedim"),
}
MOVES = UNARY - {"mean", "sum"}  # copies, which round nothing
PRODUCTS = {"mul": ("self", "other"), "div": ("self", "other"), "mm": ("self", "mat2"), "bmm": ("self", "mat2")}
PRODUCTS |= {
    "addmm": ("mat1", "mat2"),
    "baddbmm": ("batch1", "batch2"),
    "mv": ("self", "vec"),
    "dot": ("self", "tensor"),
}
PRODUCTS |= {"convolution": ("input", "weight")}
ADDED = {"add": ("self", "other"), "sub": ("self", "other"), "addmm": ("self",), "baddbmm": ("self",)}
ADDED |= {"convolution": ("bias",)}
LOOKUPS = {"embedding", "index", "index_select", "gather"}
MATRICES = {"mm", "bmm", "addmm", "baddbmm"}
ATTENTION = "_scaled_dot_product_flash_attention_for_cpu"
LEFT_OUT = ("dtype", "layout", "device", "pin_memory", "memory_format", "implicit")  # they say nothing about numbers


@dataclass(frozen=True, kw_only=True)
class Contribution:
    """What one part adds to the logit. Of a head, `sources` says how much came from each position that it looked at."""

    kind: TermKind
    name: str  # the module's path, or the tensor's name
    head: int | None
    value: float
    sources: Tensor | None = None
    neurons: Tensor | None = None

    def __str__(self) -> str:
        return self.name if self.head is None else f"{self.name} head {self.head}"


@dataclass(frozen=True, kw_only=True)
class Attribution:
    """A logit, or the difference of two, as a sum over the parts of the model, in the order of computation."""

    cell: Cell
    minus: Cell | None
    value: float  # as it was recorded
    terms: list[Contribution]
    rounding: float  # what float32 rounded on the way: value − the sum of the terms
    bound: float  # at most so much may be rounded

    @property
    def passed(self) -> bool:
        """Whether the terms add up to the logit, but for rounding."""
        return abs(self.rounding) <= self.bound

    def sources(self) -> Tensor:
        """What heads brought from each position, added up over the heads that look at the longest of texts."""
        several = [term.sources for term in self.terms if term.sources is not None]
        if not several:
            return torch.zeros(0, dtype=torch.float64)
        longest = max(len(each) for each in several)
        return torch.stack([each for each in several if len(each) == longest]).sum(0)

    def why(self, n: int = 10) -> list[Contribution]:
        """The terms that mattered most, by size."""
        return sorted(self.terms, key=lambda term: -abs(term.value))[:n]


def attribute(trace: Trace, cell: Cell | str, *, minus: Cell | str | None = None) -> Attribution:
    """The parts that a logit came from; with `minus`, the difference of two logits of one tensor.

    Raises `TraceError` for a cell that is no logit: no sum that a matrix of weights makes of the residual stream.
    """
    cell, minus = _cell(trace, cell), None if minus is None else _cell(trace, minus)
    if minus is not None and minus.tensor != cell.tensor:
        raise TraceError(f"{cell} and {minus} are of different tensors: give two logits of one.")
    record = trace.tensors[cell.tensor]
    if not record.dtype.is_floating_point:
        raise TraceError(f"{cell} is no logit: it is of {record.dtype}.")
    share = torch.zeros(record.shape, dtype=torch.float64)
    share[cell.index] += 1
    if minus is not None:
        share[minus.index] -= 1
    walk = _Walk(trace, batch=record.shape[0] if len(record.shape) > 2 else 1)
    walk.give(cell.tensor, share)
    walk.run()
    if not walk.projected:
        raise TraceError(f"{cell} is no logit: no matrix of weights makes it of a residual stream.")
    value = float(cell.value.real) - (0.0 if minus is None else float(minus.value.real))
    rounding = value - math.fsum(term.value for term in walk.terms)
    return Attribution(cell=cell, minus=minus, value=value, terms=walk.terms[::-1], rounding=rounding, bound=walk.bound)


def _cell(trace: Trace, cell: Cell | str) -> Cell:
    if isinstance(cell, str):
        return cell_named(trace, cell)
    if not isinstance(cell, Cell) or cell.trace is not trace:
        raise TraceError(f"{cell!r} is no cell of this trace: pick one, such as trace['logits'][0, -1, 42].")
    return cell


class _Walk:
    """From the logit backwards, the latest operation first, so that each has its whole share when its turn comes."""

    def __init__(self, trace: Trace, batch: int) -> None:
        self.trace, self.batch = trace, batch
        self.terms: list[Contribution] = []
        self.bound = 0.0
        self.projected = False  # whether a matrix of weights was met
        self._shares: dict[int, Tensor] = {}  # of tensors: how the logit grows with each of their numbers
        self._waiting: list[int] = []  # operations, the latest first, as negative numbers
        self._reached: dict[int, set[int]] = {}  # by operation: the tensors of it that have a share
        self._moving = _moving(trace)

    def give(self, tensor: int, share: Tensor) -> None:
        """A tensor's part in the logit, beside what it has already."""
        if not share.any():
            return
        record = self.trace.tensors[tensor]
        maker = record.made_by if record.made_by is not None else self.trace.storages[record.storage].written_by
        if maker is None or tensor not in self._moving:
            self._end(tensor, share, None)
            return
        self._shares[tensor] = self._shares[tensor] + share if tensor in self._shares else share
        if maker not in self._reached:
            heapq.heappush(self._waiting, -maker)
        self._reached.setdefault(maker, set()).add(tensor)

    def run(self) -> None:
        """Go back until every share has ended in a term."""
        while self._waiting:
            operation = self.trace.operations[-heapq.heappop(self._waiting)]
            shares = {tensor: self._shares.pop(tensor) for tensor in self._reached.pop(operation.id)}
            streams = self._streams(operation, set(shares)) if set(shares) <= set(operation.outputs) else []
            if streams:
                self._back(operation, shares, streams)
                continue
            for tensor, share in shares.items():
                self._end(tensor, share, operation)

    def _streams(self, operation: Operation, shares: set[int]) -> list[tuple[str, int]]:
        """The operands that an operation is linear in, the others held, by name and number; none if there are none."""
        arguments, base = operation.arguments, operation.base
        if base == "var_mean":  # a norm's mean is linear, and its variance a part of its scale
            only_mean = not shares & {operation.outputs[0]}
            return [("self", arguments["self"].tensor)] if only_mean else []
        if base == "native_layer_norm":
            return [(name, arguments[name].tensor) for name in ("input", "bias") if arguments[name] is not None]
        if base in ("tanh", "_softmax", "_log_softmax") and not self.projected:
            return [("self", arguments["self"].tensor)] if base == "tanh" else []
        if base in UNARY:
            name = "tensors" if "tensors" in arguments else "self"
            tensors = [ref.tensor for ref in refs(arguments[name])]
            lookup = not any(tensor in self._moving for tensor in tensors)
            return [] if lookup else [(name, tensor) for tensor in tensors]
        streams = [(name, arguments[name].tensor) for name in ADDED.get(base, ()) if isinstance(arguments[name], Ref)]
        if base in PRODUCTS:
            factor = self._factor(operation)
            if factor is None:
                return []
            streams.append(factor)
        return streams

    def _factor(self, operation: Operation) -> tuple[str, int] | None:
        """The factor of a product that is no number held: of two that move, the one that is no scale of a position."""
        names = PRODUCTS[operation.base]
        numbers = [
            operation.arguments[name].tensor if isinstance(operation.arguments[name], Ref) else None for name in names
        ]
        moving = [i for i, number in enumerate(numbers) if number in self._moving]
        if len(moving) == 2 and operation.base not in MATRICES:
            shapes = [self.trace.tensors[number].shape for number in numbers if number is not None]
            scales = [i for i in moving if shapes[i][-1:] in ((1,), ()) and shapes[1 - i][-1:] not in ((1,), ())]
            moving = [i for i in moving if i not in scales]
        if len(moving) != 1 or (operation.base == "div" and moving == [1]):
            return None
        number = numbers[moving[0]]
        return None if number is None else (names[moving[0]], number)

    def _back(self, operation: Operation, shares: Mapping[int, Tensor], streams: list[tuple[str, int]]) -> None:
        """Give the operands of a linear step their shares, and count what it may have rounded."""
        tensors = list(dict.fromkeys(tensor for _, tensor in streams))
        values = {tensor: self._value(tensor).requires_grad_() for tensor in tensors}
        outputs = _run(self.trace, operation, values)
        reached = [(output, shares[t]) for output, t in zip(outputs, operation.outputs, strict=False) if t in shares]
        given = torch.autograd.grad(
            [output for output, _ in reached], [*values.values()], [share for _, share in reached], allow_unused=True
        )
        if operation.base in MATRICES | {"convolution"}:
            self.projected = True
        if operation.base not in MOVES:
            self._count_rounding(operation, shares)
        for tensor, share in zip(values, given, strict=True):
            if share is not None:
                self.give(tensor, share)

    def _count_rounding(self, operation: Operation, shares: Mapping[int, Tensor]) -> None:
        """u · (16 + 4 √n) · S for each number that counts, S being the sizes of its addends added up."""
        (tensor,) = [tensor for tensor in operation.outputs if tensor in shares]
        dtype = self.trace.tensors[tensor].dtype
        sizes = _run(self.trace, operation, {}, sizes=True)[operation.outputs.index(tensor)].abs()
        unit = max(SINGLE if dtype != torch.float64 else 0.0, UNIT.get(dtype, SINGLE))
        steps = 16 + 4 * math.sqrt(self._longest(operation))
        self.bound += float((shares[tensor].abs() * (unit * steps * sizes + TINY.get(dtype, 1e-37))).sum())

    def _longest(self, operation: Operation) -> int:
        """The terms of the sum that an operation computes for each number."""
        result = self.trace.tensors[operation.outputs[0]].n_cells
        if operation.base in PRODUCTS and operation.base not in ("mul", "div"):
            matrix = operation.arguments[PRODUCTS[operation.base][0]].tensor
            return max(self.trace.tensors[matrix].shape[-1:] or (1,))
        largest = max(
            (self.trace.tensors[ref.tensor].n_cells for ref in refs(list(operation.arguments.values()))), default=1
        )
        return max(1, largest // max(result, 1))

    def _value(self, tensor: int) -> Tensor:
        return self.trace.value(tensor).to(torch.float64, copy=True)

    def _end(self, tensor: int, share: Tensor, operation: Operation | None) -> None:
        """A part that wrote into the stream: its numbers, each by its share."""
        record = self.trace.tensors[tensor]
        value = share * self._value(tensor)
        if operation is None:
            self.terms.append(_term(*_outside(self.trace, tensor), value))
        elif operation.base in LOOKUPS:
            self.terms.append(_term("embedding", operation.module or record.name, value))
        elif operation.base in MATRICES and len(record.shape) in (2, 3):
            self._end_in_heads(operation, tensor, share, value)
        elif operation.base == ATTENTION:
            self._end_in_heads(operation, tensor, share.flatten(0, 1), value.flatten(0, 1))
        else:
            neurons = value.reshape(-1, value.shape[-1]).sum(0) if value.ndim else None
            self.terms.append(_term("mlp", operation.module or record.name, value, neurons=neurons))

    def _end_in_heads(self, operation: Operation, tensor: int, share: Tensor, value: Tensor) -> None:
        share, value = (each.reshape(-1, *each.shape[-2:]) for each in (share, value))
        n_heads = max(1, len(value) // self.batch)
        sources = _by_source(self.trace, operation, share)
        name = operation.module or self.trace.tensors[tensor].name
        for head in reversed(range(n_heads)):
            looked_at = None if sources is None else sources[head::n_heads].sum(0)
            self.terms.append(_term("head", name, value[head::n_heads], head=head, sources=looked_at))


def _term(kind: TermKind, name: str, value: Tensor, **more: Any) -> Contribution:
    head = more.pop("head", None)
    return Contribution(kind=kind, name=name, head=head, value=float(value.sum()), **more)


def _outside(trace: Trace, tensor: int) -> tuple[TermKind, str]:
    """What a tensor is that nothing of the model's input went into, or that is the input itself, and its name.

    A weight as it is counts as a bias, rows that are looked up in one without the input as a position.
    """
    name = trace.tensors[tensor].name
    if trace.tensors[tensor].kind == "input":
        return "input", name
    while True:
        record = trace.tensors[tensor]
        weights = [other.name for other in trace.tensors if other.kind == "weight" and other.storage == record.storage]
        if weights:
            return "bias", weights[0]
        maker = record.made_by if record.made_by is not None else trace.storages[record.storage].written_by
        operation = None if maker is None else trace.operations[maker]
        if operation is None:
            return "constant", name
        if operation.base in LOOKUPS:
            return "position", operation.module or name
        behind = [ref.tensor for ref in refs(list(operation.arguments.values()))]
        if len(behind) != 1 or not (operation.base in UNARY or operation.base == "mul"):
            return "constant", name
        tensor = behind[0]


def _moving(trace: Trace) -> set[int]:
    """The tensors that the input went into."""
    moving = {record.id for record in trace.tensors if record.kind == "input"} | set(trace.inputs)
    windows: dict[int, list[int]] = {}
    for record in trace.tensors:
        windows.setdefault(record.storage, []).append(record.id)
    for operation in trace.operations:
        if any(ref.tensor in moving for ref in refs(list(operation.arguments.values()))):
            moving.update(operation.outputs)
            if operation.writes:
                moving.update(window for out in operation.outputs for window in windows[trace.tensors[out].storage])
    return moving


def _run(trace: Trace, operation: Operation, values: Mapping[int, Tensor], *, sizes: bool = False) -> list[Tensor]:
    """What an operation computes, in float64, of these values and the recorded ones; with `sizes`, of their sizes."""

    def read(value: Any) -> Any:
        if isinstance(value, list | tuple):
            return [read(part) for part in value]
        if not isinstance(value, Ref):
            return value
        if value.tensor in values:
            return values[value.tensor]
        tensor = trace.value(value.tensor)
        tensor = tensor.double() if tensor.is_floating_point() else tensor
        return tensor.abs() if sizes and tensor.is_floating_point() else tensor

    arguments = {name: read(value) for name, value in operation.arguments.items() if name not in LEFT_OUT}
    base = operation.base
    if base in ("_to_copy", "clone", "contiguous", "alias", "detach"):
        return [arguments["self"] * 1]
    if base == "tanh":  # of a cap: what it makes of its argument, as a factor
        x = trace.value(operation.arguments["self"].tensor).double()
        return [arguments["self"] * (x.tanh() / x).nan_to_num(1.0)]
    if base == "native_layer_norm":
        return [_layer_norm(trace, operation, arguments, sizes=sizes)]
    overload = operation.name.partition(".")[2] or "default"
    if base == "sub" and sizes:
        base = "add"
    function = getattr(getattr(torch.ops.aten, base), overload)
    result = function(**arguments)
    return [result] if isinstance(result, Tensor) else list(result)


def _layer_norm(trace: Trace, operation: Operation, arguments: Mapping[str, Any], *, sizes: bool) -> Tensor:
    """A layer norm with its scale held."""
    x: Tensor = arguments["input"]
    axes = tuple(range(-len(arguments["normalized_shape"]), 0))
    recorded = trace.value(operation.arguments["input"].tensor).double()
    scale = 1 / (recorded.var(axes, keepdim=True, unbiased=False) + arguments["eps"]).sqrt()
    mean = x.mean(axes, keepdim=True)
    y: Tensor = (x + mean if sizes else x - mean) * scale
    if arguments["weight"] is not None:
        y = y * arguments["weight"]
    return y if arguments["bias"] is None else torch.add(y, arguments["bias"])


def _by_source(trace: Trace, operation: Operation, share: Tensor) -> Tensor | None:
    """For each head, what came from each position that it looked at: its pattern held, values by their shares."""
    if operation.base == ATTENTION:
        q, k, v = (trace.value(operation.arguments[name].tensor).double() for name in ("query", "key", "value"))
        k, v = (each.repeat_interleave(q.shape[1] // each.shape[1], 1) for each in (k, v))
        scores = q @ k.mT * (operation.arguments["scale"] or q.shape[-1] ** -0.5)
        if operation.arguments.get("is_causal"):
            scores = scores.masked_fill(torch.ones(scores.shape[-2:], dtype=torch.bool).triu(1), -math.inf)
        if operation.arguments.get("attn_mask") is not None:
            scores = scores + trace.value(operation.arguments["attn_mask"].tensor).double()
        pattern, values = scores.softmax(-1).nan_to_num(0.0).flatten(0, 1), v.flatten(0, 1)
    else:
        first, second = (trace.value(operation.arguments[name].tensor) for name in PRODUCTS[operation.base])
        pattern, values = (each.double().reshape(-1, *each.shape[-2:]) for each in (first, second))
        if not torch.allclose(pattern.sum(-1), torch.ones(1, dtype=torch.float64), atol=1e-2) or pattern.min() < 0:
            return None
    by_source: Tensor = torch.einsum("htd,hts,hsd->hs", share, pattern, values)
    return by_source
