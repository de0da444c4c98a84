"""A cell's arithmetic: its formula with real operands, the cells it came from, the line of source, and the proof.

    explanation = explain(trace["blocks.0.attn.scores"][0, 1, 5, 2])
    print(explanation)            the formula, the terms, the source line
    explanation.check()           recomputed from the operands in float64, and compared
    explanation.why(3)            the three terms that mattered most

`check(trace)` does the same for every number of a trace, or for a sample of them, and reports by operation.
"""

import math
import random
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import torch

from glassformer.tracing.formula import Apply, Formula, Number, Operand, Reduce, call
from glassformer.tracing.rules import Step, kind_of, rule_of
from glassformer.tracing.trace import Cell, Operation, Source, Trace

UNIT = {torch.float16: 2.0**-11, torch.bfloat16: 2.0**-8, torch.float64: 2.0**-53, torch.complex128: 2.0**-53}
SINGLE = 2.0**-24
FAULTS = (RuntimeError, ArithmeticError, AssertionError, AttributeError, KeyError, IndexError, ValueError, TypeError)
TINY = {torch.float64: 1e-300, torch.complex128: 1e-300, torch.float16: 6e-8}


@dataclass(frozen=True, slots=True, kw_only=True)
class Term:
    """An addend of the cell's value: its operands, and what they come to."""

    operands: tuple[Cell, ...]
    value: float | complex


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What recomputing came to."""

    recomputed: Any
    recorded: Any
    difference: float
    bound: float
    passed: bool
    reason: str = ""


@dataclass(frozen=True)
class Explanation:
    """Why a cell has its value. For a number that came from outside there is no formula."""

    cell: Cell
    computed: Cell | None  # the same number, where its operation wrote it
    operation: Operation | None
    formula: Formula | None
    inner: "dict[Cell, Explanation]" = field(default_factory=dict)  # with depth: how the operands came about

    @property
    def value(self) -> Any:
        return self.cell.value

    @property
    def source(self) -> Source | None:
        """The line that computed it."""
        return None if self.operation is None else self.operation.source

    @cached_property
    def sources(self) -> list[Cell]:
        """The cells it was computed from, each once."""
        leaves = [] if self.formula is None else self.formula.leaves()
        return list(dict.fromkeys(cell for leaf in leaves for cell in leaf.cells()))

    @cached_property
    def terms(self) -> list[Term]:
        """The addends, if it is a sum, perhaps multiplied or divided by something; else its one term."""
        return [] if self.formula is None else list(_terms(self.formula, 1.0))

    def why(self, n: int = 5) -> list[Term]:
        """The terms that mattered most, by size."""
        return sorted(self.terms, key=lambda term: -abs(term.value))[:n]

    def check(self) -> Verdict:
        """Recompute the value from the recorded operands, and compare it under the bound of rounding."""
        if self.computed is None or self.formula is None:
            return Verdict(
                recomputed=None, recorded=self.value, difference=0.0, bound=0.0, passed=True, reason="from outside"
            )
        recomputed, spread = self.formula.value, float(self.formula.spread)
        recorded = self.computed.value
        if recomputed.shape != ():
            recomputed = recomputed.reshape(())
        mine = recomputed.item()
        bound = self._bound(spread)
        difference = _difference(mine, recorded)
        return Verdict(
            recomputed=mine, recorded=recorded, difference=difference, bound=bound, passed=difference <= bound
        )

    def _bound(self, spread: float) -> float:
        """u · (16 + 4 √n) · S + u_out · |value|, with u the rounding of the sums and u_out that of the result."""
        assert self.computed is not None
        assert self.formula is not None
        dtype = self.computed.trace.tensors[self.computed.tensor].dtype
        if not dtype.is_floating_point and not dtype.is_complex:
            return 0.0
        unit = UNIT.get(dtype, SINGLE) if dtype in (torch.float64, torch.complex128) else SINGLE
        rounding = UNIT[dtype] * abs(self.computed.value) if dtype in (torch.float16, torch.bfloat16) else 0.0
        if not spread and not rounding:
            return 0.0
        allowed = unit * (16 + 4 * math.sqrt(self.formula.longest)) * spread + rounding
        return allowed + TINY.get(dtype, 1e-37) if math.isfinite(allowed) else 0.0

    def __str__(self) -> str:
        from glassformer.tracing.text import describe

        return describe(self)


def explain(cell: Cell, depth: int = 1) -> Explanation:
    """The arithmetic behind a cell; with a depth above 1 also that behind its operands, towards the inputs."""
    trace = cell.trace
    origin = trace.origin(cell)
    if origin is None or trace.tensors[origin.tensor].kind != "computed":
        return Explanation(cell, None, None, None)
    made_by = trace.tensors[origin.tensor].made_by
    assert made_by is not None
    operation = trace.operations[made_by]
    formula = derive(origin, operation)
    written = trace.tensors[origin.tensor].dtype
    shown = trace.tensors[cell.tensor]
    if written.is_complex and not shown.dtype.is_complex:  # a complex number that is read as a pair
        element = shown.offset + sum(i * s for i, s in zip(cell.index, shown.strides, strict=True))
        formula = call("Im" if element % 2 else "Re", formula)
        origin = cell
    found = Explanation(cell, origin, operation, formula)
    if depth > 1:
        found.inner.update({source: explain(source, depth - 1) for source in found.sources})
    return found


def derive(cell: Cell, operation: Operation) -> Formula:
    """The formula of a cell that an operation wrote. `NotImplementedError` where no rule knows how."""
    rule = rule_of(operation)
    if rule is None:
        raise NotImplementedError(f"there is no rule for {operation.name}")
    return rule(Step(cell.trace, operation, operation.outputs.index(cell.tensor)), cell.index)


def why(cell: Cell, n: int = 5) -> list[Term]:
    """The terms of a cell that mattered most."""
    return explain(cell).why(n)


def _difference(mine: Any, recorded: Any) -> float:
    if isinstance(mine, bool) or isinstance(recorded, bool):
        return float(bool(mine) != bool(recorded))
    if isinstance(mine, int) and isinstance(recorded, int):
        return float(abs(mine - recorded))
    if mine == recorded or (np.isnan(mine) and np.isnan(recorded)):
        return 0.0
    difference = float(abs(mine - recorded))
    return math.inf if math.isnan(difference) else difference


def _terms(formula: Formula, factor: float | complex) -> Iterator[Term]:
    """Go through sums and constant factors down to the addends."""
    match formula:
        case Apply(name="+", parts=(a, b)):
            yield from _terms(a, factor)
            yield from _terms(b, factor)
        case Apply(name="−", parts=(a, b)):
            yield from _terms(a, factor)
            yield from _terms(b, -factor)
        case Apply(name="·", parts=(a, b)) if b.value.shape == () and isinstance(b, Number):
            yield from _terms(a, factor * b.value.item())
        case Apply(name="·", parts=(a, b)) if a.value.shape == () and isinstance(a, Number):
            yield from _terms(b, factor * a.value.item())
        case Apply(name="/", parts=(a, b)) if b.value.shape == ():
            yield from _terms(a, factor / b.value.item() if b.value else math.nan)
        case Reduce(name="∑", parts=(part,)) if part.value.ndim == 1:
            operands = [_spread_out(leaf, part.value.shape[0]) for leaf in part.leaves()]
            for i, value in enumerate(part.value):
                cells = tuple(cells[i] for cells in operands)
                yield Term(operands=cells, value=factor * value.item())
        case _:
            cells = tuple(cell for leaf in formula.leaves() for cell in leaf.cells())
            yield Term(operands=cells, value=factor * formula.value.item() if formula.value.ndim == 0 else math.nan)


def _spread_out(leaf: Operand, n: int) -> list[Cell]:
    cells = leaf.cells()
    return cells if len(cells) == n else cells * n if len(cells) == 1 else cells[:n]


# ---- every number of a trace


@dataclass(kw_only=True)
class Tally:
    """What the check of an operation came to."""

    kind: str
    cells: int = 0
    failures: int = 0
    worst: float = 0.0  # largest difference as a share of its bound
    reason: str = ""


@dataclass(frozen=True, kw_only=True)
class Report:
    """What a check came to: `failures` are cells that recompute to something else, or that no rule explains."""

    total: int  # computed cells in the trace
    checked: int
    failures: list[Cell]
    by_operation: dict[str, Tally]

    @property
    def passed(self) -> bool:
        return not self.failures


def check(
    trace: Trace, *, cells: int | None = None, seed: int = 0, progress: Callable[[int, int], None] | None = None
) -> Report:
    """Recompute every number of a trace, or so many, drawn evenly over the kinds of operations.

    `progress(done, of)` is called after each operation.
    """
    targets = list(trace.computed())
    total = sum(trace.tensors[output].n_cells for _, output in targets)
    chosen = _sample(trace, targets, cells, seed) if cells is not None else None
    tallies: dict[str, Tally] = {}
    failures: list[Cell] = []
    checked = 0
    for number, (operation, output) in enumerate(targets):
        tally = tallies.setdefault(operation.base, Tally(kind=kind_of(operation)))
        shape = trace.tensors[output].shape
        places: Any = np.ndindex(shape) if chosen is None else [_unravel(i, shape) for i in chosen.get(output, ())]
        for index in places:
            cell = Cell(trace, output, tuple(index))
            checked += 1
            tally.cells += 1
            try:
                verdict = Explanation(cell, cell, operation, derive(cell, operation)).check()
            except FAULTS as error:
                verdict = None
                tally.reason = tally.reason or f"{type(error).__name__}: {error}"
            if verdict is None or not verdict.passed:
                failures.append(cell)
                tally.failures += 1
                if verdict is not None:
                    tally.reason = tally.reason or f"{cell}: {verdict.recomputed} instead of {verdict.recorded}"
            if verdict is not None and verdict.bound > 0:
                tally.worst = max(tally.worst, verdict.difference / verdict.bound)
        trace.replays.pop(operation.id, None)
        if progress is not None:
            progress(number + 1, len(targets))
    return Report(total=total, checked=checked, failures=failures, by_operation=tallies)


def _unravel(place: int, shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(int(i) for i in np.unravel_index(place, shape)) if shape else ()


def _sample(trace: Trace, targets: list[tuple[Operation, int]], cells: int, seed: int) -> dict[int, list[int]]:
    """Cells of each tensor: every kind of operation gets its even share, and what small ones leave over."""
    by_kind: dict[str, list[int]] = defaultdict(list)
    for operation, output in targets:
        by_kind[operation.base].append(output)
    sizes = {kind: sum(trace.tensors[output].n_cells for output in outputs) for kind, outputs in by_kind.items()}
    shares: dict[str, int] = {}
    left = cells
    for done, kind in enumerate(sorted(sizes, key=sizes.__getitem__)):
        shares[kind] = min(sizes[kind], max(left // (len(sizes) - done), min(200, sizes[kind])))
        left = max(left - shares[kind], 0)
    draw = random.Random(seed)
    chosen: dict[int, list[int]] = defaultdict(list)
    for kind, outputs in by_kind.items():
        ends = np.cumsum([trace.tensors[output].n_cells for output in outputs])
        for place in sorted(draw.sample(range(sizes[kind]), shares[kind])):
            which = int(np.searchsorted(ends, place, side="right"))
            chosen[outputs[which]].append(place - int(ends[which - 1] if which else 0))
    return chosen
