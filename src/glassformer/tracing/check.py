"""Every number of a trace recomputed from its recorded operands, or a sample of them, with a report by operation."""

import fnmatch
import random
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from glassformer.tracing import costs
from glassformer.tracing.explain import Explanation, derive
from glassformer.tracing.recorder import check_patterns
from glassformer.tracing.rules import kind_of
from glassformer.tracing.trace import Cell, Operation, Trace


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
        """Whether every cell that was checked recomputes to what was recorded."""
        return not self.failures


def check(
    trace: Trace,
    *,
    cells: int | None = None,
    seed: int = 0,
    modules: str | Sequence[str] = "*",
    progress: Callable[[int, int], None] | None = None,
) -> Report:
    """Recompute every number of a trace, or so many, drawn evenly over the kinds of operations, at least 200 of each.

    `modules` takes only what ran in modules whose path fits one of the patterns.
    `progress(done, of)` is called after each operation.
    Raises `RuleFault` where a rule breaks on what was recorded here, and `TraceError` where the check would take far
    longer than a recording of its size deserves (`costs.py`).
    """
    patterns = [modules] if isinstance(modules, str) else modules
    check_patterns(patterns, [module.path for module in trace.modules])
    computed = trace.computed()
    targets = [target for target in computed if any(fnmatch.fnmatchcase(target[0].module, one) for one in patterns)]
    total = sum(trace.tensors[output].n_cells for _, output in targets)
    chosen = _sample(trace, targets, cells, seed) if cells is not None else None
    tallies: dict[str, Tally] = {}
    failures: list[Cell] = []
    checked = 0
    work = costs.of_a_check(trace)
    for number, (operation, output) in enumerate(targets):
        tally = tallies.setdefault(operation.base, Tally(kind=kind_of(operation)))
        shape = trace.tensors[output].shape
        places: Any = np.ndindex(shape) if chosen is None else [_unravel(i, shape) for i in chosen.get(output, ())]
        for index in places:
            cell = Cell(trace, output, tuple(index))
            checked += 1
            tally.cells += 1
            entries = 0
            try:
                formula = derive(cell, operation)
                entries = formula.entries
                verdict = Explanation(cell, cell, operation, formula).check()
            except NotImplementedError as reason:
                verdict = None
                tally.reason = tally.reason or str(reason)
            work.spend(entries)
            if verdict is None or not verdict.passed:
                failures.append(cell)
                tally.failures += 1
                if verdict is not None:
                    tally.reason = tally.reason or f"{cell}: {verdict.recomputed} instead of {verdict.recorded}"
            if verdict is not None and verdict.bound > 0:
                tally.worst = max(tally.worst, verdict.difference / verdict.bound)
        trace.movements.pop(operation.id, None)
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
