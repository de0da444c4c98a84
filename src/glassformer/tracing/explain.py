"""A cell's arithmetic: its formula with real operands, the cells it came from, the line of source, and the proof.

    explanation = explain(trace["blocks.0.attn.scores"][0, 1, 5, 2])
    print(explanation)            the formula, the terms, the source line
    explanation.check()           recomputed from the operands in float64, and compared
    explanation.why(3)            the three terms that mattered most

`check.py` does the same for every number of a trace.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from glassformer.errors import TraceError
from glassformer.tracing.formula import Apply, Formula, Number, Operand, Reduce, call
from glassformer.tracing.rules import Step, rule_of
from glassformer.tracing.text import render, shorten
from glassformer.tracing.trace import Cell, Operation, Source

UNIT = {torch.float16: 2.0**-11, torch.bfloat16: 2.0**-8, torch.float64: 2.0**-53, torch.complex128: 2.0**-53}
SINGLE = 2.0**-24
# What a rule may stumble over: an operation that it does not know in this form, or a trace from a stranger.
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
        return describe(self)


def explain(cell: Cell, depth: int = 1) -> Explanation:
    """The arithmetic behind a cell; with a depth above 1 also that behind its operands, towards the inputs.

    Raises `TraceError` for a cell of an operation that has no rule.
    """
    trace = cell.trace
    origin = trace.origin(cell)
    if origin is None or trace.tensors[origin.tensor].kind != "computed":
        return Explanation(cell, None, None, None)
    made_by = trace.tensors[origin.tensor].made_by
    assert made_by is not None
    operation = trace.operations[made_by]
    try:
        formula = derive(origin, operation)
        _ = formula.value
    except FAULTS as fault:
        raise TraceError(f"{origin} cannot be explained: {operation.name}: {fault or type(fault).__name__}.") from fault
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


# ---- in words


def describe(explanation: Explanation, terms: int = 8) -> str:
    """An explanation for a terminal."""
    return "\n".join(_lines(explanation, terms, ""))


def _lines(explanation: Explanation, n_terms: int, margin: str) -> list[str]:
    cell, operation = explanation.cell, explanation.operation
    head = f"{cell} = {shorten(cell.value)}"
    if explanation.formula is None or operation is None or explanation.computed is None:
        return [f"{margin}{head}   ({cell.trace.tensors[cell.tensor].kind}: it came from outside)"]
    rows: list[tuple[str, str]] = []
    if explanation.computed != cell:
        rows.append(("the same as", str(explanation.computed)))
    rows.append(("formula", render(explanation.formula)))
    rows.append(("numbers", render(explanation.formula, numbers=True)))
    rows += _term_rows(explanation.why(n_terms), len(explanation.terms))
    verdict = explanation.check()
    mark = "✓" if verdict.passed else "✗"
    bounds = f"off by {verdict.difference:.2g} of {verdict.bound:.2g} allowed"
    rows.append(("check", f"{mark} recomputed {_full(verdict.recomputed)}, {bounds}"))
    source = operation.source
    rows.append(("source", f"{'/'.join(Path(source.file).parts[-3:])}:{source.line}  {source.text}"))
    rows.append(("operation", f"{operation.name} in {operation.module or 'the model'}"))
    width = max(len(name) for name, _ in rows)
    lines = [f"{margin}{head}", *(f"{margin}  {name:{width}}  {text}" for name, text in rows)]
    for inner in explanation.inner.values():
        lines += _lines(inner, n_terms, margin + "    ")
    return lines


def _term_rows(terms: Sequence[Term], total: int) -> list[tuple[str, str]]:
    if total < 2:
        return []
    rows = []
    for i, term in enumerate(terms):
        cells = " · ".join(f"{cell} ({shorten(cell.value)})" for cell in term.operands)
        rows.append(("terms" if i == 0 else "", f"{shorten(term.value):>10}  {cells}"))
    if total > len(terms):
        rows.append(("", f"{'…':>10}  and {total - len(terms)} smaller ones"))
    return rows


def _full(value: Any) -> str:
    return repr(value).replace("-", "−") if not isinstance(value, complex) else shorten(value)
