"""Softmax and its kin, norms over features, groups and batches, the loss."""

import numpy as np

from glassformer.tracing import costs
from glassformer.tracing.formula import Formula, Number, Reduce, add, call, over, times, total
from glassformer.tracing.rules.reduction import log_sum_exp, mean_of_squares
from glassformer.tracing.rules.rule import BoundOperation, rule
from glassformer.tracing.trace import Index


@rule("_softmax", "_safe_softmax", "_log_softmax")
def softmax(op: BoundOperation, index: Index) -> Formula:
    """exp(x − m) / ∑ exp(x − m), with m the largest x; or its logarithm."""
    (dim,) = op.dims()
    run = op.along("self", index, [dim])
    highest = Reduce("max", (run,), "m")
    here = call("−", op.at("self", index), highest)
    if "log" in op.operation.base:
        return call("−", op.at("self", index), log_sum_exp(run, highest))
    if op.operation.base == "_safe_softmax" and highest.value == -float("inf"):
        return call("chosen", Number(0), highest)  # nothing to look at
    return over(call("exp", here), total(call("exp", call("−", run, highest))))


@rule("native_layer_norm")
def layer_norm(op: BoundOperation, index: Index) -> Formula:
    """(x − μ) / √(σ² + ε) · weight + bias; the mean and 1 / √(σ² + ε) are results too."""
    n_axes = len(op["normalized_shape"])
    axes = list(range(len(op.shape("input")) - n_axes, len(op.shape("input"))))
    within = index[len(index) - n_axes :]
    return _normalised(op, index, axes, op.at("weight", within), op.at("bias", within))


@rule("native_group_norm")
def group_norm(op: BoundOperation, index: Index) -> Formula:
    """The same over the channels of a group and all places."""

    per_group = op["C"] // op["group"]
    shape = op.shape("input")
    group = index[1] if op.output else index[1] // per_group
    grid = op.grid((per_group, *shape[2:]))
    run = op.at("input", (index[0], group * per_group + grid[0], *grid[1:]))
    channel = (index[1],)
    return _from_run(op, index, run, op.at("weight", channel), op.at("bias", channel))


@rule("native_batch_norm", "_native_batch_norm_legit_no_training", "_native_batch_norm_legit")
def batch_norm(op: BoundOperation, index: Index) -> Formula:
    """The same for a channel, over the batch and all places; outside of training with the running mean and variance."""
    weight, bias = op.at("weight", index[1:2]), op.at("bias", index[1:2])
    if op.arguments.get("training"):
        channel = index[0] if op.output else index[1]
        axes = [axis for axis in range(len(op.shape("input"))) if axis != 1]
        run = op.along("input", [channel if axis == 1 else 0 for axis in range(len(op.shape("input")))], axes)
        if op.output > 2:
            return _running(op, index, run)
        return _from_run(op, index, run, weight, bias)
    mean, variance = (op.at(f"running_{name}", index[1:2]) for name in ("mean", "var"))
    scale = over(1, call("√", add(variance, op["eps"])), label="r")
    return _scaled(times(call("−", op.at("input", index), mean), scale), weight, bias)


def _running(op: BoundOperation, index: Index, run: Formula) -> Formula:
    """What training makes of the running mean (the third result) and variance, which is the unbiased one."""
    n = int(run.value.shape[-1])
    mean = over(total(run), n, label="μ")
    new = mean if op.output == 3 else times(mean_of_squares(run, mean, n), n / (n - 1))
    old = op.at("running_mean" if op.output == 3 else "running_var", index)
    return add(times(1 - op["momentum"], old), times(op["momentum"], new))


def _normalised(op: BoundOperation, index: Index, axes: list[int], weight: Formula, bias: Formula) -> Formula:
    full = [*index, *([0] * (len(op.shape("input")) - len(index)))]
    return _from_run(op, index, op.along("input", full, axes), weight, bias)


def _from_run(op: BoundOperation, index: Index, run: Formula, weight: Formula, bias: Formula) -> Formula:
    n = int(run.value.shape[-1])
    mean = over(total(run), n, label="μ")
    scale = over(1, call("√", add(mean_of_squares(run, mean, n, label="σ²"), op["eps"])), label="r")
    if op.output > 0:
        return mean if op.output == 1 else scale
    return _scaled(times(call("−", op.at("input", index), mean), scale), weight, bias)


def _scaled(normalised: Formula, weight: Formula, bias: Formula) -> Formula:
    if not (isinstance(weight, Number) and weight.number is None):
        normalised = times(normalised, weight)
    return normalised if isinstance(bias, Number) and bias.number is None else add(normalised, bias)


@rule("nll_loss_forward")
def nll_loss(op: BoundOperation, index: Index) -> Formula:
    """−log p of each target, their mean or their sum; the second result is the weight of all that count."""

    costs.afford(op.trace, op.record("target").n_cells)
    targets = op.trace.array(op.record("target").id)
    rows = np.flatnonzero(targets != op["ignore_index"])
    weights = op.at("weight", (targets[rows],)) if op.has("weight") else None
    count = Number(len(rows)) if weights is None else total(weights)
    if op.output == 1:
        return Number(0) if op["reduction"] == 0 else count
    if op["reduction"] == 0:
        ignored = targets[index] == op["ignore_index"]
        picked = op.at("self", (*index, targets[index])) if not ignored else Number(0)
        return call("neg", picked if not op.has("weight") else times(picked, op.at("weight", (targets[index],))))
    picked = op.at("self", (rows, targets[rows]))
    summed = call("neg", total(picked if weights is None else times(picked, weights)))
    return over(summed, count) if op["reduction"] == 1 else summed
