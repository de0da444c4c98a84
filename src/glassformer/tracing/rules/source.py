"""Numbers out of nothing but an operation's own settings: constants and ranges."""

import math

from glassformer.tracing.formula import Formula, Number, add, call, times
from glassformer.tracing.rules.rule import BoundOperation, rule
from glassformer.tracing.trace import Index


@rule("zeros", "zeros_like", "new_zeros", "zero")
def zeros(op: BoundOperation, index: Index) -> Formula:
    """0."""
    return Number(0)


@rule("ones", "ones_like", "new_ones")
def ones(op: BoundOperation, index: Index) -> Formula:
    """1."""
    return Number(1)


@rule("full", "full_like", "new_full", "fill", "scalar_tensor")
def full(op: BoundOperation, index: Index) -> Formula:
    """The value to fill with."""
    if op.has("value"):
        return op.broadcast("value", index)
    return Number(op["s"] if op.has("s") else op["fill_value"])


@rule("arange")
def arange(op: BoundOperation, index: Index) -> Formula:
    """start + i · step."""
    start, by = op.arguments.get("start", 0), op.arguments.get("step", 1)
    return add(start, times(by, index[0]))


@rule("eye")
def eye(op: BoundOperation, index: Index) -> Formula:
    """1 on the diagonal."""
    return Number(int(index[0] == index[1]))


@rule("linspace")
def linspace(op: BoundOperation, index: Index) -> Formula:
    """start + i · (end − start) / (steps − 1)."""
    start, end = op["start"], op["end"]
    return add(start, times((end - start) / max(op["steps"] - 1, 1), index[0]))


@rule("hann_window")
def hann_window(op: BoundOperation, index: Index) -> Formula:
    """½ − ½ cos(2π n / N)."""
    length = op["window_length"] - (0 if op.arguments.get("periodic", True) else 1)
    return call("−", 0.5, times(0.5, call("cos", times(2 * math.pi / max(length, 1), index[0]))))
