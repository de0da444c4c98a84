"""Many numbers to one: sums, means, spreads, extremes, running sums, order."""

from typing import Any

import numpy as np

from glassformer.tracing import costs
from glassformer.tracing.formula import Formula, Number, Reduce, add, call, over, times, total
from glassformer.tracing.rules.rule import BoundOperation, rule
from glassformer.tracing.trace import Index


def _run(op: BoundOperation, index: Index) -> Formula:
    """The cells that a cell of the result sums up."""
    dims = op.dims() if "dim" in op.arguments else list(range(len(op.shape("self"))))
    return op.along("self", op.reduced(index, dims), dims)


def _length(run: Formula) -> int:
    return int(run.value.shape[-1]) if run.value.ndim else 1


@rule("sum", "prod")
def added_up(op: BoundOperation, index: Index) -> Formula:
    """∑ x, ∏ x."""
    return _added_up(op, _run(op, index))


def _added_up(op: BoundOperation, run: Formula) -> Formula:
    """Where truth values are added up, they count as 0 and 1."""
    numbers = call("+", run, 0) if run.value.dtype == bool else run
    return Reduce("∑" if op.operation.base.endswith("sum") else "∏", (numbers,))


@rule("mean")
def mean(op: BoundOperation, index: Index) -> Formula:
    """∑ x / n."""
    run = _run(op, index)
    return over(total(run), _length(run))


@rule("var", "std", "var_mean")
def variance(op: BoundOperation, index: Index) -> Formula:
    """∑ (x − μ)² / (n − correction)."""
    run = _run(op, index)
    n = _length(run)
    mu = over(total(run), n, label="μ")
    if op.operation.base == "var_mean" and op.output == 1:
        return mu
    correction = op.arguments.get("correction")
    if correction is None:
        correction = 1 if op.arguments.get("unbiased", True) else 0
    variance = over(mean_of_squares(run, mu, n), Number((n - correction) / n))
    return call("√", variance) if op.operation.base == "std" else variance


def mean_of_squares(run: Formula, mu: Formula, n: int, label: str = "") -> Formula:
    """∑ (x − μ)² / n."""
    centred = call("−", run, mu)
    return over(total(times(centred, centred)), n, label=label)


@rule("amax", "amin", "any", "all", "max", "min")
def extreme(op: BoundOperation, index: Index) -> Formula:
    """The largest, the smallest; whether any is true, or all are. With the places of extremes as a second result."""
    run = _run(op, index)
    base = op.operation.base
    if base in ("any", "all"):
        return Reduce(base, (call("≠", run, 0),))
    if op.output == 1:
        return _argument(op, index, run, "argmax" if base == "max" else "argmin")
    return Reduce(base.removeprefix("a"), (run,))


@rule("argmax", "argmin")
def place_of_extreme(op: BoundOperation, index: Index) -> Formula:
    """Where the largest stands, or the smallest."""
    return _argument(op, index, _run(op, index), op.operation.base)


def _argument(op: BoundOperation, index: Index, run: Formula, name: str) -> Formula:
    """Of several equal ones, the one that was recorded counts as right."""
    recorded = int(op.trace.array(op.result.id)[index])
    best = Reduce(name.removeprefix("arg"), (run,))
    equal = 0 <= recorded < _length(run) and _same(run.value[recorded], best.value)
    return call("chosen", Number(recorded), best) if equal else Reduce(name, (run,))


def _same(a: Any, b: Any) -> Any:
    """Whether numbers are equal, or are both none."""
    return (a == b) | (np.isnan(a) & np.isnan(b))


@rule("sort", "topk")
def order(op: BoundOperation, index: Index) -> Formula:
    """The k-th in order, and where it stood: among equal ones, and without an order, at the place that was recorded."""
    (dim,) = op.dims()
    run = op.along("self", index, [dim])
    place = _place_in_order(op, index, run.value, dim)
    if op.output == 1:
        return Number(place)
    here = list(index)
    here[dim] = place
    return call("chosen", op.at("self", here), run)


def _place_in_order(op: BoundOperation, index: Index, numbers: Any, dim: int) -> int:
    """The recorded place if its number is the right one, else the place that would be right."""
    places = np.argsort(numbers, kind="stable")  # what is no number counts as the largest
    if op.arguments.get("descending", False) or (op.operation.base == "topk" and op.arguments.get("largest", True)):
        places = places[::-1]
    recorded = op.trace.array(op.operation.outputs[1])
    place, here = int(places[index[dim]]), int(recorded[index])
    if not 0 <= here < len(numbers):
        return place
    if op.arguments.get("sorted", True):
        return here if _same(numbers[here], numbers[place]) else place
    chosen = np.moveaxis(recorded, dim, -1)[(*index[:dim], *index[dim + 1 :])]
    right = np.sort(numbers[places[: len(chosen)]])
    distinct = len(np.unique(chosen)) == len(chosen)
    return here if distinct and np.array_equal(np.sort(numbers[chosen]), right, equal_nan=True) else place


@rule("cumsum", "cumprod")
def running(op: BoundOperation, index: Index) -> Formula:
    """∑ or ∏ of all up to here."""
    (dim,) = op.dims()
    if not index:
        return op.at("self", ())
    places = list(index)
    (places[dim],) = op.grid([index[dim] + 1])
    return _added_up(op, op.at("self", places))


@rule("logsumexp")
def log_of_sum(op: BoundOperation, index: Index) -> Formula:
    """log ∑ exp x."""
    run = _run(op, index)
    return log_sum_exp(run, Reduce("max", (run,), "m"))


def log_sum_exp(run: Formula, highest: Formula) -> Formula:
    """m + log ∑ exp(x − m)."""
    return add(highest, call("log", total(call("exp", call("−", run, highest)))))


@rule("linalg_vector_norm")
def norm(op: BoundOperation, index: Index) -> Formula:
    """√ ∑ x²."""
    if op["ord"] != 2:
        raise NotImplementedError("norms other than the Euclidean one")
    run = _run(op, index)
    return call("√", total(times(run, run)))


@rule("max_pool2d_with_indices", "avg_pool2d", "_adaptive_avg_pool2d")
def pool(op: BoundOperation, index: Index) -> Formula:
    """The largest of a window, where it stood, or the mean."""
    base = op.operation.base
    *leading, row, column = index
    height, width = op.shape("self")[-2:]
    kernel = op.arguments.get("kernel_size") or [1]
    if base == "_adaptive_avg_pool2d":
        out_h, out_w = op.result.shape[-2:]
        rows = np.arange(row * height // out_h, -((row + 1) * height // -out_h))
        columns = np.arange(column * width // out_w, -((column + 1) * width // -out_w))
    else:
        stride, padding = op.arguments.get("stride") or kernel, op.arguments.get("padding") or [0]
        dilation = op.arguments.get("dilation") or [1]
        rows, columns = (
            op.grid([kernel[k % len(kernel)]])[0] * dilation[k % len(dilation)]
            + at * stride[k % len(stride)]
            - padding[k % len(padding)]
            for k, at in enumerate((row, column))
        )
    rows, columns = rows[(rows >= 0) & (rows < height)], columns[(columns >= 0) & (columns < width)]
    costs.afford(op.trace, len(rows) * len(columns))
    grid = np.stack(np.meshgrid(rows, columns, indexing="ij")).reshape(2, -1)
    window = op.at("self", (*leading, *grid))
    if base.startswith("max"):
        best = Reduce("max", (window,))
        if op.output == 0:
            return best
        recorded = int(op.trace.array(op.result.id)[index])
        places = grid[0] * width + grid[1]
        right = places[_same(window.value, best.value)]
        return call("chosen", Number(recorded if recorded in right else int(right[0])), best)
    if op.arguments.get("ceil_mode"):
        raise NotImplementedError("windows that reach over the edge")
    if op.has("divisor_override"):
        return over(total(window), op["divisor_override"])
    whole = not base.startswith("_") and op.arguments.get("count_include_pad", True)
    return over(total(window), kernel[0] * kernel[-1] if whole else _length(window))
