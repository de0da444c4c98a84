"""A cell's arithmetic: its formula with real operands, the cells it came from, the line of source, and the proof.

    explanation = explain(trace["blocks.0.attn.scores"][0, 1, 5, 2])
    print(explanation)            the formula, the terms, the source line
    explanation.check()           recomputed from the operands in float64, and compared
    explanation.why(3)            the three terms that mattered most

`check.py` does the same for every number of a trace.
"""

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
import torch

from glassformer.errors import GlassformerError, TraceError
from glassformer.tracing import costs
from glassformer.tracing.formula import Apply, Formula, Number, Operand, Reduce, call
from glassformer.tracing.render import render, shorten
from glassformer.tracing.rules import rule_of
from glassformer.tracing.rules.rule import BoundOperation, RuleFault
from glassformer.tracing.trace import Cell, Operation, SourceLine, Trace

UNIT = {torch.float16: 2.0**-11, torch.bfloat16: 2.0**-8, torch.float64: 2.0**-53, torch.complex128: 2.0**-53}
SINGLE = 2.0**-24
TINY = {torch.float64: 1e-300, torch.complex128: 1e-300, torch.float16: 6e-8}


@dataclass(frozen=True, slots=True, kw_only=True)
class Term:
    """An addend of the cell's value: its operands, and what they come to.

    `product` says that the value is the operands multiplied, one operand being itself. The formula tells; numbers that
    happen to be 1 or 0 do not: of a lookup the operands are the vector's number and the id that chose it.
    """

    operands: tuple[Cell, ...]
    value: float | complex
    product: bool


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
    # With depth: how the operands came about.
    inner: "dict[Cell, Explanation]" = field(default_factory=dict, repr=False, compare=False)

    @property
    def value(self) -> Any:
        """The recorded number."""
        return self.cell.value

    @property
    def source(self) -> SourceLine | None:
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

    def __repr__(self) -> str:
        return describe(self)

    def _repr_html_(self) -> str:
        """The last line of a notebook's cell: the equation as it is written, above the numbers."""
        equation = "" if self.formula is None else render(self.formula, "mathml", of=self.cell)
        return f"{equation}<pre>{escape(describe(self))}</pre>"

    def why(self, n: int = 5) -> list[Term]:
        """The terms that mattered most, by size; what is no number before all."""
        extreme = self.formula.name if isinstance(self.formula, Reduce) else ""
        sign = {"max": -1, "min": 1}.get(extreme)

        def key(term: Term) -> float:
            size = -abs(term.value) if sign is None else sign * term.value.real
            return -math.inf if math.isnan(size) else size

        return sorted(self.terms, key=key)[:n]

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
        number = recomputed.item()
        bound = self._bound(spread)
        difference = _difference(number, recorded)
        dtype = self.computed.trace.tensors[self.computed.tensor].dtype
        whole = not (dtype.is_floating_point or dtype.is_complex or dtype == torch.bool)
        if whole and isinstance(number, int) and difference:  # whole numbers wrap around
            difference = float(int(difference) % 2 ** (8 * dtype.itemsize))
        return Verdict(
            recomputed=number, recorded=recorded, difference=difference, bound=bound, passed=difference <= bound
        )

    def _bound(self, spread: float) -> float:
        """u · (16 + 4 √n) · S + u_out · |value|, with u the rounding of the sums and u_out that of the result."""
        assert self.computed is not None
        assert self.formula is not None
        dtype = self.computed.trace.tensors[self.computed.tensor].dtype
        if not dtype.is_floating_point and not dtype.is_complex:
            return 0.0
        unit = UNIT.get(dtype, SINGLE) if dtype in (torch.float64, torch.complex128) else SINGLE
        value = abs(self.computed.value)
        steps = 2 * value if self.formula.longest > 1 else max(value, spread)  # kernels round to half on their way too
        rounding = UNIT[dtype] * steps if dtype in (torch.float16, torch.bfloat16) else 0.0
        if not spread and not rounding:
            return 0.0
        allowed = unit * (16 + 4 * math.sqrt(self.formula.longest)) * spread + rounding
        return allowed + TINY.get(dtype, 1e-37) if math.isfinite(allowed) else 0.0

    def __str__(self) -> str:
        return describe(self)


def explain(cell: Cell, depth: int = 1, *, terms: int | None = None) -> Explanation:
    """The arithmetic behind a cell; with a depth above 1 also that behind its operands, towards the inputs.

    With `terms`, only the operands of so many terms are followed, the largest ones. A cell that many others came from
    is explained once, and they share it.
    Raises `TraceError` for a cell of an operation that has no rule, and where there would be too much to list
    (`costs.py`).
    """
    if not isinstance(cell, Cell):
        raise TraceError(f'Explain one cell, such as trace["logits"][0, 0, 0], and not {type(cell).__name__}.')
    work = costs.of_an_explanation()
    first = _explained(cell, work)
    explained, latest = {cell: first}, [first]
    for _ in range(depth - 1):
        if not latest:
            break
        reached = []
        for explanation in latest:
            for source in _followed(explanation, terms):
                if source not in explained:
                    explained[source] = _explained(source, work)
                    reached.append(explained[source])
                explanation.inner[source] = explained[source]
        latest = reached
    return first


def cell_named(trace: Trace, text: str) -> Cell:
    """The cell that a text names, such as x[0,5,2]; negative numbers count from the end."""
    match = re.fullmatch(r"(?P<path>[^\[\]]+)\[(?P<index>(\s*-?\d+\s*(,|(?=\])))*)\]", text)
    if match is None:
        raise TraceError(f"{text} names no cell: give a tensor's name and a place in it, such as x[0,5,2].")
    return trace[match["path"]][[int(part) for part in match["index"].rstrip(",").split(",") if part]]


def _followed(explanation: Explanation, terms: int | None) -> list[Cell]:
    if terms is None or len(explanation.terms) < 2:
        return explanation.sources
    return list(dict.fromkeys(cell for term in explanation.why(terms) for cell in term.operands))


def _explained(cell: Cell, work: costs.Work) -> Explanation:
    trace = cell.trace
    origin = trace.origin(cell)
    if origin is None or trace.tensors[origin.tensor].kind != "computed":
        return Explanation(cell, None, None, None)
    made_by = trace.tensors[origin.tensor].made_by
    assert made_by is not None
    operation = trace.operations[made_by]
    try:
        formula = derive(origin, operation)
        work.spend(formula.entries)
        if trace.tensors[origin.tensor].dtype != trace.tensors[cell.tensor].dtype:
            formula, origin = _reinterpreted(cell, origin, operation, formula), cell
    except NotImplementedError as reason:
        raise TraceError(f"{origin} cannot be explained: {reason}.") from reason
    return Explanation(cell, origin, operation, formula)


def _reinterpreted(cell: Cell, origin: Cell, operation: Operation, formula: Formula) -> Formula:
    """The formula of a complex number read as a pair, or of a pair read as a complex number."""
    trace = cell.trace
    written, view = trace.tensors[origin.tensor], trace.tensors[cell.tensor]
    if written.dtype.is_complex and view.dtype == written.dtype.to_real():
        element = view.offset + sum(i * s for i, s in zip(cell.index, view.strides, strict=True))
        return call("Im" if element % 2 else "Re", formula)
    if view.dtype.is_complex and written.dtype == view.dtype.to_real() and written.strides[-1:] == (1,):
        other = Cell(trace, origin.tensor, (*origin.index[:-1], origin.index[-1] + 1))
        return call("+", formula, call("·", derive(other, operation), Number(1j, "i")))
    raise TraceError(f"{cell} reads the bytes of {origin} as another type, so no arithmetic made it.")


def first_line(fault: Exception) -> str:
    """What is wrong, without the lines in which torch goes on about it."""
    return str(fault).partition("\n")[0][:200]


def derive(cell: Cell, operation: Operation) -> Formula:
    """The formula of a cell that an operation wrote.

    Raises `NotImplementedError` where no rule knows how. A rule that breaks is a fault of ours, a `RuleFault`, except
    on a trace from a file: a stranger may have given its operations operands that fit nothing.
    """
    rule = rule_of(operation)
    if rule is None:
        raise NotImplementedError(f"there is no rule for {operation.name}")
    try:
        formula = rule(
            BoundOperation(cell.trace, operation, operation.outputs.index(cell.tensor)), cell.index
        ).computed()
        if formula.value.size != 1:
            raise ValueError(f"{formula.value.size} numbers for one cell")
        return formula
    except (NotImplementedError, GlassformerError):
        raise
    except Exception as fault:
        what = f"{type(fault).__name__}, {first_line(fault)}"
        if cell.trace.from_file:
            raise NotImplementedError(f"its operands do not fit it: {what}") from fault
        raise RuleFault(f"the rule for {operation.name} breaks at {cell}: {what}") from fault


def why(cell: Cell, n: int = 5) -> list[Term]:
    """The terms of a cell that mattered most."""
    return explain(cell).why(n)


def _difference(recomputed: Any, recorded: Any) -> float:
    if isinstance(recomputed, bool) or isinstance(recorded, bool):
        return float(bool(recomputed) != bool(recorded))
    if isinstance(recomputed, int) and isinstance(recorded, int):
        return float(abs(recomputed - recorded))
    if recomputed == recorded or (np.isnan(recomputed) and np.isnan(recorded)):
        return 0.0
    difference = float(abs(recomputed - recorded))
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
            operands = [_spread_out(leaf, part.value.shape[0]) for leaf in _direct(part)]
            product = factor == 1 and _is_product(part)
            for i, value in enumerate(part.value):
                cells = tuple(of_leaf[i] for of_leaf in operands)
                yield Term(operands=cells, value=factor * value.item(), product=product)
        case Reduce(name="max" | "min" | "any" | "all", parts=(part,)) if part.value.ndim == 1:
            for leaf in _direct(part):
                for cell in leaf.cells():
                    yield Term(operands=(cell,), value=cell.value, product=True)
        case _:
            product = _is_product(formula)
            leaves = _direct(formula) if product else formula.leaves()
            cells = tuple(cell for leaf in leaves for cell in leaf.cells())
            value = factor * formula.value.item() if formula.value.ndim == 0 else math.nan
            yield Term(operands=cells, value=value, product=product and factor == 1)


def _is_product(formula: Formula) -> bool:
    """Whether it is nothing but recorded cells multiplied."""
    match formula:
        case Apply(name="·", parts=parts):
            return all(map(_is_product, parts))
        case _:
            return isinstance(formula, Operand)


def _direct(part: Formula) -> Iterator[Operand]:
    """The operands of an entry of a sum; those of a sum inside of it are not its own."""
    match part:
        case Operand():
            yield part
        case Apply(name="chosen", parts=(chosen, *_)):
            yield from _direct(chosen)
        case Apply(parts=parts):
            for inner in parts:
                yield from _direct(inner)


def _spread_out(leaf: Operand, n: int) -> list[Cell]:
    """The operand's cell in each entry of a sum of n."""
    cells = leaf.cells()
    return cells if len(cells) == n else cells[:1] * n


# ---- in words

MARGINS = 20  # steps that are still further in than the one before


def describe(explanation: Explanation, terms: int = 8) -> str:
    """An explanation for a terminal; what it came from stands below it, further in."""
    lines: list[str] = []
    met: set[Cell] = set()
    waiting = [(explanation, 0)]
    while waiting:
        step, depth = waiting.pop()
        margin = "    " * min(depth, MARGINS)
        if step.cell in met:
            lines.append(f"{margin}{step.cell} = {shorten(step.cell.value)}   (see above)")
            continue
        lines += _lines(step, terms, margin)
        if step.formula is not None:
            met.add(step.cell)
        inner = [each for each in step.inner.values() if not _stands_among_terms(each)]
        waiting += [(each, depth + 1) for each in reversed(inner)]
    return "\n".join(lines)


def _stands_among_terms(explanation: Explanation) -> bool:
    """Whether the terms of what is computed from it say all that there is to say: its value."""
    kind = explanation.cell.trace.tensors[explanation.cell.tensor].kind
    return explanation.formula is None and kind in ("weight", "buffer")


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
    if isinstance(explanation.formula, Apply) and explanation.formula.name == "chosen":
        by = [cell for part in explanation.formula.parts[1:] if isinstance(part, Operand) for cell in part.cells()]
        rows += [("because", f"{cell} = {shorten(cell.value)}") for cell in by if len(by) <= 4]
    rows += _term_rows(explanation.why(n_terms), len(explanation.terms))
    verdict = explanation.check()
    mark = "✓" if verdict.passed else "✗"
    bounds = f"off by {verdict.difference:.2g} of {verdict.bound:.2g} allowed"
    rows.append(("check", f"{mark} recomputed {_full(verdict.recomputed)}, {bounds}"))
    source = operation.source
    rows.append(("source", f"{'/'.join(Path(source.file).parts[-3:])}:{source.line}  {source.text}"))
    rows.append(("operation", f"{operation.name} in {operation.module or 'the model'}"))
    width = max(len(name) for name, _ in rows)
    return [f"{margin}{head}", *(f"{margin}  {name:{width}}  {text}" for name, text in rows)]


def _term_rows(terms: Sequence[Term], total: int) -> list[tuple[str, str]]:
    if total < 2:
        return []
    rows = []
    for i, term in enumerate(terms):
        sign = " · " if term.product else ", "
        cells = sign.join(f"{cell} ({shorten(cell.value)})" for cell in term.operands)
        rows.append(("terms" if i == 0 else "", f"{shorten(term.value):>10}  {cells}"))
    if total > len(terms):
        rows.append(("", f"{'…':>10}  and {total - len(terms)} smaller ones"))
    return rows


def _full(value: Any) -> str:
    return repr(value).replace("-", "−") if not isinstance(value, complex) else shorten(value)
