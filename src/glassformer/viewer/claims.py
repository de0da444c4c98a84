"""Whether what a chapter says of numbers holds for a recording.

A sentence such as "every column adds up to one" is about these very numbers, so its step has it as a claim too,
`"claims": ["sum(@weights{t=t}) = 1"]`: a number, or a function of the cells that a selector finds, on either side.

    sum max min mean   of the cells; `squares` is the mean of their squares
    = ≈ < ≤ > ≥        = and ≤ but for what rounding may do; ≈ within a tenth

A step has claims wherever its text compares (`COMPARES`): `[]` says that it speaks of how models are built, and of no
number that was recorded.
"""

import math
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from glassformer.tracing.trace import Trace
from glassformer.viewer.scene import Scene
from glassformer.viewer.selectors import select
from glassformer.viewer.tiles import block_window

COMPARES = re.compile(
    r"\b(adds? up to|sums? to|mean zero|at least|at most|lies? (between|below|above)|could not|cannot|exactly"
    r"|replaced by|the largest|the rest lie|grows? with|would be the same|never)\b",
    re.IGNORECASE,
)
SIDE = r"(?:\w+\(@[^()]*\)|[−-]?(?:∞|\d+(?:\.\d+)?))"
CLAIM = re.compile(rf"({SIDE}) ([=≈<≤>≥]) ({SIDE})")
ROUNDING = 1e-4  # of sides of a size of 1
ROUGHLY = 0.1

FUNCTIONS: dict[str, Callable[[np.ndarray], float]] = {
    "sum": lambda cells: float(cells.sum()),
    "max": lambda cells: float(cells.max()),
    "min": lambda cells: float(cells.min()),
    "mean": lambda cells: float(cells.mean()),
    "squares": lambda cells: float((cells**2).mean()),
}


def broken_claims(trace: Trace, scene: Scene, chapter: Mapping[str, Any], step: Mapping[str, Any]) -> Iterator[str]:
    """The claims of a step that do not hold, each with what its sides come to."""
    for claim in step.get("claims", ()):
        match = CLAIM.fullmatch(claim)
        if match is None:
            yield f"{claim} is no claim such as sum(@weights{{t=t}}) = 1."
            continue
        a, b = (_side(side, trace, scene, chapter["vars"]) for side in (match[1], match[3]))
        if not _holds(a, match[2], b):
            yield f"{claim} does not hold: {a:.6g} and {b:.6g}."


def _side(side: str, trace: Trace, scene: Scene, variables: Mapping[str, int | str]) -> float:
    name, is_function, rest = side.partition("(")
    if not is_function:
        return float(side.replace("−", "-").replace("∞", "inf"))
    cells = [
        block_window(trace, scene.blocks[each.block])[each.y0 : each.y1, each.x0 : each.x1].ravel()
        for each in select(scene, rest.removesuffix(")"), variables)
    ]
    return FUNCTIONS[name](np.concatenate(cells).astype(np.float64)) if cells else math.nan


def _holds(a: float, relation: str, b: float) -> bool:
    allowed = ROUNDING * max(1.0, abs(b)) if math.isfinite(b) else 0.0
    match relation:
        case "=":
            return a == b or abs(a - b) <= allowed
        case "≈":
            return abs(a - b) <= ROUGHLY * max(abs(b), 1.0)
        case "<" | ">":
            return a < b if relation == "<" else a > b
        case _:
            return a <= b + allowed if relation == "≤" else a >= b - allowed
