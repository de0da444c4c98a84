"""Where two recordings that should compute the same part: the first operation, and what explains it.

    comparison = compare_traces(record(ours, tokens), record(theirs, tokens))
    print(comparison)

Names in common are not needed, nor equal steps. In four steps:

1. **Match.** A tensor of one trace is *matched* where the other has the same numbers somewhere, in whatever order
   (`content.py`). Only numbers count that come from weights or inputs with a fraction: masks and tables do not.
2. **Forgive.** Two programs may take different steps to the same result. A step is *sound* if its result is matched,
   or if a sound step uses it, since then it led to something right.
3. **Part.** The answers being different, the first step towards the answer that is not sound is where the traces part,
   on each side. A step that one side lacks stands on the other side alone: there it is the first that is not sound.
4. **Blame.** Where such a step's operands have the right numbers in a wrong order (heads, a transposed matrix, a view),
   the step that brought them out of order is named. Where two weights of one shape, swapped, move the place where the
   traces part, which a second run of the module shows, the swap is the explanation, and its first step is named.

After the parting no numbers agree any more. There operations are paired by their kinds and sizes in the order of time,
which shows how the difference grows.
"""

import difflib
import itertools
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch

from glassformer.errors import GlassformerError, TraceError
from glassformer.tracing.content import (
    Content,
    Matches,
    contents_of,
    described,
    distance,
    in_the_same_order,
    order_of,
    without_repeats,
)
from glassformer.tracing.intervene import EditTarget, patch
from glassformer.tracing.trace import Change, Operation, Recorded, Trace, refs

# Relative differences that rounding makes, by the type of the weights.
TOLERANCES = {torch.float64: 1e-9, torch.float32: 1e-4, torch.float16: 2e-2, torch.bfloat16: 5e-2}
PARTLY_SINGLE = 1e-5  # of weights in float64, where a module computes norms or angles in float32 all the same
NEAR = 8  # weights nearest to the parting, two of which may have been swapped
FUSED = 4  # matrices in one, at most
TRIES = 6  # pairs of them: each costs a run


@dataclass(frozen=True, kw_only=True)
class TracedStep:
    """A step of one side, with its result."""

    trace: Trace
    operation: Operation

    def __str__(self) -> str:
        source = self.operation.source
        file = "/".join(source.file.replace("\\", "/").split("/")[-3:])
        module = self.operation.module or "the model"
        return f"{self.operation.name} in {module}, {file}:{source.line}  {source.text}"

    @property
    def result(self) -> str:
        """The name and the shape of what it computed."""
        return described(self.trace.tensors[self.operation.outputs[0]]) if self.operation.outputs else ""


@dataclass(frozen=True, kw_only=True)
class StepPair:
    """Two operations that do the same thing in the two traces, and how far their results are apart."""

    a: TracedStep
    b: TracedStep
    difference: float  # root mean square, as a share of that of a


@dataclass(frozen=True, kw_only=True)
class Parting:
    """The first step on each side that leads to nothing the other side has; `because` says what explains it."""

    a: TracedStep | None
    b: TracedStep | None
    because: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """What comparing two traces came to. `growth` has the operations that could be paired, in the order of time."""

    tolerance: float
    difference: float  # of the answers
    parting: Parting | None
    growth: list[StepPair]

    @property
    def same(self) -> bool:
        """Whether both compute the same answer."""
        return self.parting is None

    def __str__(self) -> str:
        if self.parting is None:
            return f"No difference: the answers agree to {self.difference:.1e}, of {self.tolerance:.0e} allowed."
        places = [f"  {side}  {place or '(has no such step)'}" for side, place in zip("AB", self.places, strict=True)]
        lines = [f"The answers differ by {self.difference:.1e}. The two part at", *places]
        return "\n".join([*lines, *(f"  {reason}" for reason in self.parting.because)])

    __repr__ = __str__

    @property
    def places(self) -> tuple[TracedStep | None, TracedStep | None]:
        """Where they part, on either side."""
        return (None, None) if self.parting is None else (self.parting.a, self.parting.b)


def compare_traces(a: Trace, b: Trace, *, tolerance: float | None = None, explain: bool = True) -> Comparison:
    """Where `b` parts from `a`. The tolerance is relative; without one it follows from the types that they compute in.

    With `explain`, weights that may have been swapped are tried by running `b` again, which a trace from a file cannot.
    Raises `TraceError` where nothing relates the two.
    """
    if tolerance is None:
        tolerance = max(_tolerance(a), _tolerance(b))
    if not 0 < tolerance < 1:
        raise TraceError(f"The tolerance is a share of the numbers' size, between 0 and 1, and not {tolerance}.")
    ours, theirs = Side(a), Side(b)
    ours.match(theirs, tolerance)
    theirs.match(ours, tolerance)
    difference, growth = _difference(ours, theirs), pairs(ours, theirs)
    if difference > tolerance and not growth and not ours.related and not theirs.related:
        raise TraceError(
            "The two have no numbers in common and no step of the same kind and size, so nothing says which is which: "
            "compare models of one architecture, on the same input."
        )
    parting = None if difference <= tolerance else _parting(ours, theirs, explain=explain)
    return Comparison(tolerance=tolerance, difference=difference, parting=parting, growth=growth)


class Side:
    """One of two traces, and which of its tensors the other one has, too."""

    matches: Matches

    def __init__(self, trace: Trace, contents: list[Content] | None = None) -> None:
        self.trace = trace
        self.contents = contents_of(trace) if contents is None else contents
        self.answer = _answer(trace)

    def match(self, other: "Side", tolerance: float) -> None:
        """Find the numbers of this side in the other."""
        self.matches = Matches(self.contents, other.contents, tolerance)

    @property
    def related(self) -> bool:
        """Whether any number of a weight, an input or a result is in both."""
        return any(self.matches[tensor] for tensor in self._active)

    def maker(self, tensor: int) -> int | None:
        """The operation that computed a tensor, or made the view."""
        record = self.trace.tensors[tensor]
        return record.made_by if record.made_by is not None else self.trace.storages[record.storage].written_by

    def operands(self, operation: Operation) -> list[int]:
        """The tensors that an operation reads and that come from weights or inputs with a fraction."""
        read = [ref.tensor for ref in refs(list(operation.arguments.values()))]
        return [tensor for tensor in read if tensor in self._active]

    @cached_property
    def _active(self) -> set[int]:
        """Tensors with a fraction that depend on weights or on inputs with a fraction."""
        tensors = self.trace.tensors
        active = {t.id for t in tensors if t.dtype.is_floating_point and t.kind in ("weight", "input")}
        for operation in self.trace.operations:
            if any(ref.tensor in active for ref in refs(list(operation.arguments.values()))):
                active |= {tensor for tensor in operation.outputs if tensors[tensor].dtype.is_floating_point}
                for tensor in operation.outputs:  # what was written into in place may be read through another window
                    if operation.writes:
                        storage = tensors[tensor].storage
                        active |= {t for t in self._windows.get(storage, ()) if tensors[t].dtype.is_floating_point}
        return active

    @cached_property
    def _windows(self) -> dict[int, list[int]]:
        windows: dict[int, list[int]] = {}
        for record in self.trace.tensors:
            windows.setdefault(record.storage, []).append(record.id)
        return windows

    @cached_property
    def towards_answer(self) -> set[int]:
        """The operations that the answer depends on."""
        reached: set[int] = set()
        waiting = [self.maker(self.answer)]
        while waiting:
            number = waiting.pop()
            if number is not None and number not in reached:
                reached.add(number)
                arguments = list(self.trace.operations[number].arguments.values())
                waiting += [self.maker(ref.tensor) for ref in refs(arguments)]
        return reached

    @cached_property
    def sound(self) -> set[int]:
        """The operations whose result the other side has, and those that a sound one uses."""
        sound: set[int] = set()
        for operation in reversed(self.trace.operations):
            if operation.id in sound or any(self.matches[tensor] for tensor in operation.outputs):
                sound.add(operation.id)
                makers = [self.maker(tensor) for tensor in self.operands(operation)]
                sound.update(number for number in makers if number is not None)
        return sound

    def first_unsound(self) -> Operation | None:
        """The first step towards the answer that leads to nothing that the other side has."""
        for operation in self.trace.operations:
            if operation.writes and operation.id in self.towards_answer and operation.id not in self.sound:
                telling = any(tensor in self.matches.telling or self._broken(tensor) for tensor in operation.outputs)
                if telling and self.operands(operation):
                    return operation
        return None

    def _broken(self, tensor: int) -> bool:
        """Whether it has numbers that are none."""
        return bool(np.isnan(self.trace.array(tensor)).any())

    def out_of_order(self, tensor: int) -> bool:
        """Whether the other side has these numbers, but nowhere in this order."""
        same = self.matches[tensor]
        return bool(same) and not any(self._twins(tensor, same))

    def _twins(self, tensor: int, same: list[Content]) -> Iterator[int]:
        for content in same:
            for other in content.tensors:
                if in_the_same_order(self.trace, tensor, content.trace, other, self.matches.tolerance):
                    yield other

    def twin(self, tensor: int) -> int | None:
        """The other side's tensor with these numbers, in this order where there is one."""
        same = self.matches[tensor]
        return next(self._twins(tensor, same), same[0].tensors[0] if same else None)

    def disorder(self, operation: Operation) -> Operation | None:
        """The earliest step behind this one whose result has the other side's numbers in another order.

        Between the two may be steps that the other side takes in another way.
        """
        disordered: list[int] = []
        waiting, met = [operation.id], {operation.id}
        while waiting:
            step = self.trace.operations[waiting.pop()]
            if step.id != operation.id and any(self.out_of_order(tensor) for tensor in step.outputs):
                disordered.append(step.id)
            weights = _weights_of(self, step)
            read = [tensor for tensor in self.operands(step) if tensor not in weights and not self._in_order(tensor)]
            behind = {maker for tensor in read if (maker := self.maker(tensor)) is not None}
            waiting += behind - met
            met |= behind
        return self.trace.operations[min(disordered)] if disordered else None

    def _in_order(self, tensor: int) -> bool:
        return bool(self.matches[tensor]) and not self.out_of_order(tensor)


def _parting(ours: Side, theirs: Side, *, explain: bool) -> Parting:
    a, b = ours.first_unsound(), theirs.first_unsound()
    because: list[str] = []
    if b is None:  # all of it is in the other trace, and yet the answers differ: by their order
        maker = theirs.maker(theirs.answer)
        b = None if maker is None else theirs.trace.operations[maker]
    if b is not None:
        first = b
        cause = theirs.disorder(b)
        if cause is not None:
            because.append("B has the numbers of A here, in another order.")
            b = cause
        because += _weights(theirs, ours, b, a)
        swap = None
        if explain and cause is None and theirs.trace.replay is not None:
            swap = _swap(ours, theirs, b, first)
        if swap is not None:
            b, reason = swap
            because.append(reason)
    place_a = None if a is None else TracedStep(trace=ours.trace, operation=a)
    place_b = None if b is None else TracedStep(trace=theirs.trace, operation=b)
    return Parting(a=place_a, b=place_b, because=tuple(because))


def _weights(side: Side, other: Side, operation: Operation, its: Operation | None) -> list[str]:
    """What is to be said of the weights that a step takes, beside those of the other side's step."""
    said = []
    theirs = {} if its is None else _weights_of(other, its)
    for operand, weight in _weights_of(side, operation).items():
        record = side.trace.tensors[weight]
        if weight not in side.matches.telling:
            continue
        twin = side.twin(weight)
        if twin is None:
            if not _known(side, weight, other):
                said.append(f"A has the numbers of {described(record)} nowhere.")
            continue
        same = {tensor for content in side.matches[operand] for tensor in content.tensors}
        taken = next((tensor for tensor in theirs if tensor in same), None)
        if taken is None and theirs:
            instead = described(other.trace.tensors[[*theirs.values()][-1]])
            mapped = described(other.trace.tensors[twin])
            said.append(f"B takes {described(record)}, which is A's {mapped}, where A takes {instead}.")
        if taken is None:
            continue
        a, b = without_repeats(other.trace, taken), without_repeats(side.trace, operand)
        order = order_of(b, a, side.matches.tolerance)
        if order is None:
            said.append(
                f"{described(record)} has the numbers of A's {described(other.trace.tensors[twin])}{_rows(b, a)}."
            )
        elif order != tuple(range(len(order))):
            said.append(f"{described(record)} is A's {described(other.trace.tensors[twin])}, transposed.")
    return said


def _known(side: Side, weight: int, other: Side) -> bool:
    """Whether the other side has a weight's numbers, by themselves or within a matrix that is a few times larger."""
    if side.matches[weight]:
        return True
    numbers = side.trace.array(weight)
    return any(
        record.kind == "weight"
        and numbers.size < record.n_cells <= FUSED * numbers.size
        and np.isin(numbers, other.trace.array(record.id)).all()
        for record in other.trace.tensors
    )


def _rows(b: np.ndarray, a: np.ndarray) -> str:
    """How the rows or the columns of a matrix are those of its twin in another order."""
    if a.shape == b.shape and a.ndim <= 2:
        for axis, word in enumerate(("columns", "rows")[-a.ndim :]):  # of what is multiplied, which is transposed
            keys = [line.tobytes() for line in np.ascontiguousarray(np.moveaxis(b, axis, 0))]
            places = {line.tobytes(): n for n, line in enumerate(np.ascontiguousarray(np.moveaxis(a, axis, 0)))}
            if all(key in places for key in keys):
                first = ", ".join(str(places[key]) for key in keys[:8])
                return f", its {word} in another order: {first}{', …' if len(keys) > 8 else ''}"
    return ", in another order"


def _weights_of(side: Side, operation: Operation) -> dict[int, int]:
    """The operands of an operation that are weights, or views of some: each with the weight."""
    weights = {}
    for operand in side.operands(operation):
        tensor = operand
        while (maker := side.maker(tensor)) is not None and not side.trace.operations[maker].writes:
            behind = side.operands(side.trace.operations[maker])
            if not behind:
                break
            tensor = behind[0]
        if side.trace.tensors[tensor].kind == "weight":
            weights[operand] = tensor
    return weights


def _swap(ours: Side, theirs: Side, blamed: Operation, parting: Operation) -> tuple[Operation, str] | None:
    """Two modules of one shape near the blamed step which, their weights swapped, move the parting to a later step."""
    users: dict[int, Operation] = {}  # the first user of each weight
    for operation in theirs.trace.operations:
        if operation.writes:
            for tensor in _weights_of(theirs, operation).values():
                users.setdefault(tensor, operation)
    matrices = [tensor for tensor in users if len(theirs.trace.tensors[tensor].shape) > 1]
    near = sorted(matrices, key=lambda tensor: abs(users[tensor].id - blamed.id))[:NEAR]
    near = [tensor for tensor in near if _known(theirs, tensor, ours)]
    couples = sorted(itertools.combinations(range(len(near)), 2), key=sum)
    tensors = theirs.trace.tensors
    alike = [(near[i], near[j]) for i, j in couples if tensors[near[i]].shape == tensors[near[j]].shape]
    for one, two in alike[:TRIES]:
        first, second = sorted((one, two), key=lambda tensor: users[tensor].id)
        try:
            swapped = patch(theirs.trace, _exchanged(theirs.trace, one, two)).after
            parting_then = _first_after_swap(ours, theirs, swapped)
        except GlassformerError:
            continue
        if parting_then is None or parting_then > max(parting.id, users[second].id):
            names = f"{tensors[first].name} and {tensors[second].name}"
            return users[first], f"With {names} swapped, the two agree for longer: they are mapped crosswise."
    return None


def _first_after_swap(ours: Side, theirs: Side, swapped: Trace) -> float | None:
    """Where a trace parts from A, by the number of the step; None where it does not."""
    a, b = Side(ours.trace, ours.contents), Side(swapped, contents_of(swapped, theirs.contents))
    a.match(b, ours.matches.tolerance)
    b.match(a, ours.matches.tolerance)
    if _difference(a, b) <= ours.matches.tolerance:
        return None
    step = b.first_unsound()
    return math.inf if step is None else step.id


def _exchanged(trace: Trace, one: int, two: int) -> Mapping[EditTarget, Change]:
    """The weights of two modules exchanged: the matrices, and what else has the same last names and shapes."""
    names = {record.name: record.id for record in trace.tensors if record.id in trace.parameters}
    first, second = (trace.tensors[tensor].name.rpartition(".")[0] for tensor in (one, two))
    changes: dict[EditTarget, Change] = {}
    for name, tensor in names.items():
        other = names.get(f"{second}.{name.removeprefix(first + '.')}") if name.startswith(f"{first}.") else None
        if other is not None and trace.tensors[other].shape == trace.tensors[tensor].shape:
            changes[Recorded(trace, tensor)] = trace.value(other).clone()
            changes[Recorded(trace, other)] = trace.value(tensor).clone()
    return changes


def _tolerance(trace: Trace) -> float:
    """What rounding may come to in a recording."""
    types = {record.dtype for record in trace.tensors if record.kind == "weight"}
    tolerance = max((TOLERANCES[dtype] for dtype in types if dtype in TOLERANCES), default=TOLERANCES[torch.float32])
    partly_single = any(record.dtype == torch.float32 and record.kind == "computed" for record in trace.tensors)
    return max(tolerance, PARTLY_SINGLE) if partly_single else tolerance


def _answer(trace: Trace) -> int:
    """The first tensor with a fraction that the module returned."""
    for path, ids in trace.names.items():
        if path.partition(".")[0] == "output" and trace.tensors[ids[-1]].dtype.is_floating_point:
            return ids[-1]
    raise TraceError("One of the two returns no tensor with a fraction, so there is no answer to compare.")


def _difference(ours: Side, theirs: Side) -> float:
    """Of the answers, number by number; where they have other shapes, of the same numbers in whatever order."""
    a, b = ours.trace.array(ours.answer), theirs.trace.array(theirs.answer)
    if a.shape == b.shape:
        return distance(a, b)
    return 0.0 if ours.matches[ours.answer] and not ours.out_of_order(ours.answer) else math.inf


# ---- how the difference grows


def pairs(ours: Side, theirs: Side) -> list[StepPair]:
    """Operations of the two that do the same, in the order of time, and how far apart their results are.

    Those are paired that have the same numbers; where there are none any more, those of the same kind and size.
    """
    content = {tensor: content.tensors[0] for content in ours.contents for tensor in content.tensors}
    a, b = _computing(ours.trace), _computing(theirs.trace)
    keys_a = [_key(ours, one, content[one.outputs[0]] if ours.matches[one.outputs[0]] else None) for one in a]
    same = [theirs.matches[one.outputs[0]] for one in b]
    keys_b = [_key(theirs, one, its[0].tensors[0] if its else None) for one, its in zip(b, same, strict=True)]
    result = []
    for block in difflib.SequenceMatcher(None, keys_a, keys_b, autojunk=False).get_matching_blocks():
        for i in range(block.size):
            one, two = a[block.a + i], b[block.b + i]
            x, y = ours.trace.array(one.outputs[0]), theirs.trace.array(two.outputs[0])
            if x.size != y.size:  # repeated on one side
                continue
            if x.shape != y.shape or same[block.b + i]:
                x, y = np.sort(x, None), np.sort(y, None)
            places = TracedStep(trace=ours.trace, operation=one), TracedStep(trace=theirs.trace, operation=two)
            result.append(StepPair(a=places[0], b=places[1], difference=distance(x, y)))
    return result


def _computing(trace: Trace) -> list[Operation]:
    return [
        operation
        for operation in trace.operations
        if operation.writes and operation.outputs and trace.tensors[operation.outputs[0]].dtype.is_floating_point
    ]


def _key(side: Side, operation: Operation, content: int | None) -> tuple[object, ...]:
    """The numbers that it computes; else its kind, products all alike, and the lengths of its result's axes."""
    if content is not None:
        return (content,)
    base = "mm" if operation.base in ("addmm", "bmm", "baddbmm", "mv", "dot") else operation.base
    return base, *sorted(n for n in side.trace.tensors[operation.outputs[0]].shape if n > 1)
