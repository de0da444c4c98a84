"""Softmax and its kin, norms over features, groups and batches, the loss."""

import numpy as np

from glassformer.tracing import costs
from glassformer.tracing.formula import Formula, Number, Reduce, add, call, over, times, total
from glassformer.tracing.rules.reduction import log_sum_exp, mean_of_squares
from glassformer.tracing.rules.rule import Step, rule
from glassformer.tracing.trace import Index


@rule("_softmax", "_safe_softmax", "_log_softmax")
def softmax(step: Step, index: Index) -> Formula:
    """exp(x − m) / ∑ exp(x − m), with m the largest x; or its logarithm."""
    (dim,) = step.dims()
    run = step.along("self", index, [dim])
    highest = Reduce("max", (run,), "m")
    here = call("−", step.at("self", index), highest)
    if "log" in step.operation.base:
        return call("−", step.at("self", index), log_sum_exp(run, highest))
    if step.operation.base == "_safe_softmax" and highest.value == -float("inf"):
        return call("chosen", Number(0), highest)  # nothing to look at
    return over(call("exp", here), total(call("exp", call("−", run, highest))))


@rule("native_layer_norm")
def layer_norm(step: Step, index: Index) -> Formula:
    """(x − μ) / √(σ² + ε) · weight + bias; the mean and 1 / √(σ² + ε) are results too."""
    n_axes = len(step["normalized_shape"])
    axes = list(range(len(step.shape("input")) - n_axes, len(step.shape("input"))))
    within = index[len(index) - n_axes :]
    return _normalised(step, index, axes, step.at("weight", within), step.at("bias", within))


@rule("native_group_norm")
def group_norm(step: Step, index: Index) -> Formula:
    """The same over the channels of a group and all places."""

    per_group = step["C"] // step["group"]
    shape = step.shape("input")
    group = index[1] if step.output else index[1] // per_group
    grid = step.grid((per_group, *shape[2:]))
    run = step.at("input", (index[0], group * per_group + grid[0], *grid[1:]))
    channel = (index[1],)
    return _from_run(step, index, run, step.at("weight", channel), step.at("bias", channel))


@rule("native_batch_norm", "_native_batch_norm_legit_no_training", "_native_batch_norm_legit")
def batch_norm(step: Step, index: Index) -> Formula:
    """The same for a channel, over the batch and all places; outside of training with the running mean and variance."""
    weight, bias = step.at("weight", index[1:2]), step.at("bias", index[1:2])
    if step.arguments.get("training"):
        channel = index[0] if step.output else index[1]
        axes = [axis for axis in range(len(step.shape("input"))) if axis != 1]
        run = step.along("input", [channel if axis == 1 else 0 for axis in range(len(step.shape("input")))], axes)
        if step.output > 2:
            return _running(step, index, run)
        return _from_run(step, index, run, weight, bias)
    mean, variance = (step.at(f"running_{name}", index[1:2]) for name in ("mean", "var"))
    scale = over(1, call("√", add(variance, step["eps"])), label="r")
    return _scaled(times(call("−", step.at("input", index), mean), scale), weight, bias)


def _running(step: Step, index: Index, run: Formula) -> Formula:
    """What training makes of the running mean (the third result) and variance, which is the unbiased one."""
    n = int(run.value.shape[-1])
    mean = over(total(run), n, label="μ")
    new = mean if step.output == 3 else times(mean_of_squares(run, mean, n), n / (n - 1))
    old = step.at("running_mean" if step.output == 3 else "running_var", index)
    return add(times(1 - step["momentum"], old), times(step["momentum"], new))


def _normalised(step: Step, index: Index, axes: list[int], weight: Formula, bias: Formula) -> Formula:
    full = [*index, *([0] * (len(step.shape("input")) - len(index)))]
    return _from_run(step, index, step.along("input", full, axes), weight, bias)


def _from_run(step: Step, index: Index, run: Formula, weight: Formula, bias: Formula) -> Formula:
    n = int(run.value.shape[-1])
    mean = over(total(run), n, label="μ")
    scale = over(1, call("√", add(mean_of_squares(run, mean, n, label="σ²"), step["eps"])), label="r")
    if step.output > 0:
        return mean if step.output == 1 else scale
    return _scaled(times(call("−", step.at("input", index), mean), scale), weight, bias)


def _scaled(normalised: Formula, weight: Formula, bias: Formula) -> Formula:
    if not (isinstance(weight, Number) and weight.number is None):
        normalised = times(normalised, weight)
    return normalised if isinstance(bias, Number) and bias.number is None else add(normalised, bias)


@rule("nll_loss_forward")
def nll_loss(step: Step, index: Index) -> Formula:
    """−log p of each target, their mean or their sum; the second result is the weight of all that count."""

    costs.afford(step.trace, step.record("target").n_cells)
    targets = step.trace.array(step.record("target").id)
    rows = np.flatnonzero(targets != step["ignore_index"])
    weights = step.at("weight", (targets[rows],)) if step.has("weight") else None
    count = Number(len(rows)) if weights is None else total(weights)
    if step.output == 1:
        return Number(0) if step["reduction"] == 0 else count
    if step["reduction"] == 0:
        ignored = targets[index] == step["ignore_index"]
        picked = step.at("self", (*index, targets[index])) if not ignored else Number(0)
        return call("neg", picked if not step.has("weight") else times(picked, step.at("weight", (targets[index],))))
    picked = step.at("self", (rows, targets[rows]))
    summed = call("neg", total(picked if weights is None else times(picked, weights)))
    return over(summed, count) if step["reduction"] == 1 else summed
