"""A number's arithmetic between two things that have names: what stands between them is folded in.

A score is q · k / √D. The program has three operations for that: it multiplies, divides, and copies where no mask
forbids. Each of them writes a number that the scene keeps as a *step* behind the score's block. Folded, the score's
formula has the queries and the keys as operands, as a reader expects; unfolded, it says what the last operation did.

`web/src/rules/folding.ts` is the same in the page.
"""

from collections.abc import Set
from dataclasses import replace

import numpy as np
import torch

from glassformer.tracing.explain import Explanation, derive
from glassformer.tracing.formula import Apply, Formula, Operand
from glassformer.tracing.trace import Cell, Operation
from glassformer.viewer.scene import Scene

MOST = 16  # steps in one formula; one that takes more is no easier to read
WIDE = {torch.float32, torch.float64}  # a step in half precision has been rounded, and does not fold without a trace


def steps_of(scene: Scene) -> frozenset[int]:
    """The storages of what stands behind named blocks."""
    return frozenset(block.storage for block in scene.blocks if block.step_of is not None)


def folded(explanation: Explanation, steps: Set[int]) -> Explanation:
    """The same number over named operands; the explanation as it is where that would be long or not recompute."""
    if explanation.formula is None or not steps:
        return explanation
    operation, formula = explanation.operation, explanation.formula
    while (copied := _copied(formula, steps)) is not None:
        operation, formula = copied
    try:
        whole = _Folder(steps).fold(formula).computed()
    except _TooLong:
        return explanation
    short = replace(explanation, operation=operation, formula=whole)
    return short if short.check().passed else explanation


def _copied(formula: Formula, steps: Set[int]) -> tuple[Operation, Formula] | None:
    """Where a mask has left a number as it was: how the number came about."""
    match formula:
        case Apply(name="chosen", parts=(Operand() as copied, *_)):
            return _step(copied, steps)
    return None


def _step(operand: Operand, steps: Set[int]) -> tuple[Operation, Formula] | None:
    """The operation that wrote a step, with the formula of the cell; None for what is no step, or many cells."""
    trace = operand.trace
    record = trace.tensors[operand.tensor]
    if record.storage not in steps or record.dtype not in WIDE or any(np.ndim(place) for place in operand.index):
        return None
    origin = trace.origin(Cell(trace, operand.tensor, tuple(map(int, operand.index))))
    if origin is None:
        return None
    written = trace.tensors[origin.tensor]
    if written.kind != "computed" or written.made_by is None or written.dtype != record.dtype:
        return None
    operation = trace.operations[written.made_by]
    try:
        return operation, derive(origin, operation)
    except NotImplementedError:
        return None


class _TooLong(Exception):
    """More steps than anyone reads in one formula."""


class _Folder:
    """Puts formulas of steps in the place of steps."""

    def __init__(self, steps: Set[int]) -> None:
        self.steps = steps
        self.left = MOST
        self.done: dict[int, tuple[Formula, Formula]] = {}  # by identity: a part with a letter stays one part

    def fold(self, formula: Formula) -> Formula:
        if id(formula) not in self.done:
            self.done[id(formula)] = formula, self._fold(formula)
        return self.done[id(formula)][1]

    def _fold(self, formula: Formula) -> Formula:
        match formula:
            case Operand() if step := _step(formula, self.steps):
                self.left -= 1
                if self.left < 0:
                    raise _TooLong
                return self.fold(step[1])
            case Apply(name="chosen"):
                return formula  # what it was chosen by would be lost
            case Apply(name=name, parts=parts, label=label):
                whole = tuple(map(self.fold, parts))
                is_same = all(each is part for each, part in zip(whole, parts, strict=True))
                return formula if is_same else Apply(name, whole, label)  # sums may have the same part inside
            case _:
                return formula
