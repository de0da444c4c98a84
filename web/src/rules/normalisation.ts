/** Softmax and its kin, norms over features, groups and batches, the loss. The twin of rules/normalisation.py. */
import { Constant, type Formula, Reduce, add, call, labelled, over, times, total } from "./formula.ts";
import { logSumExp, meanOfSquares } from "./reduction.ts";
import { type Index, type Step, rule } from "./table.ts";
import { type Values, grid, vector } from "./values.ts";

/** exp(x − m) / ∑ exp(x − m), with m the largest x; or its logarithm. */
rule(["_softmax", "_safe_softmax", "_log_softmax"], (step, index) => {
  const run = step.along("self", index, [step.dim()]);
  const highest = labelled("m", new Reduce("max", run));
  if (step.base.includes("log")) return call("−", step.at("self", index), logSumExp(run, highest));
  if (step.base === "_safe_softmax" && highest.value.re[0] === -Infinity) return call("chosen", 0, highest); // nothing
  const here = call("−", step.at("self", index), highest);
  return over(call("exp", here), total(call("exp", call("−", run, highest))));
});

/** (x − μ) / √(σ² + ε) · weight + bias; the mean and 1 / √(σ² + ε) are results too. */
rule(["native_layer_norm"], (step, index) => {
  const [shape, n] = [step.shape("input"), step.list("normalized_shape").length];
  const within = index.slice(index.length - n);
  const full = shape.map((_, axis) => index[axis] ?? 0);
  const run = step.along("input", full, [...shape.keys()].slice(shape.length - n));
  return fromRun(step, index, run, step.at("weight", within), step.at("bias", within));
});

/** The same over the channels of a group and all places. */
rule(["native_group_norm"], (step, index) => {
  const perGroup = step.number("C") / step.number("group");
  const group = step.output ? index[1]! : Math.floor(index[1]! / perGroup);
  const [channels, ...places] = grid([perGroup, ...step.shape("input").slice(2)]) as [Values, ...Values[]];
  const run = step.at("input", [index[0]!, vector(channels.re.map((c) => group * perGroup + c)), ...places]);
  const channel = index.slice(1, 2);
  return fromRun(step, index, run, step.at("weight", channel), step.at("bias", channel));
});

/** The same for a channel, over the batch and all places; outside of training with the running mean and variance. */
rule(["native_batch_norm", "_native_batch_norm_legit_no_training", "_native_batch_norm_legit"], (step, index) => {
  const channel = index.slice(1, 2);
  const [weight, bias] = [step.at("weight", channel), step.at("bias", channel)];
  if (step.flag("training")) {
    const axes = [...step.shape("input").keys()];
    const here = axes.map((axis) => (axis === 1 ? index[step.output ? 0 : 1]! : 0));
    const run = step.along("input", here, axes.filter((axis) => axis !== 1));
    return step.output > 2 ? running(step, index, run) : fromRun(step, index, run, weight, bias);
  }
  const [mean, variance] = [step.at("running_mean", channel), step.at("running_var", channel)];
  const scale = labelled("r", over(1, call("√", add(variance, step.at("eps", [])))));
  return scaled(times(call("−", step.at("input", index), mean), scale), weight, bias);
});

/** What training makes of the running mean (the third result) and variance, which is the unbiased one. */
function running(step: Step, index: Index, run: Formula): Formula {
  const [n, momentum] = [run.value.last, step.number("momentum")];
  const mean = labelled("μ", over(total(run), n));
  const fresh = step.output === 3 ? mean : times(meanOfSquares(run, mean, n), n / (n - 1));
  const old = step.at(step.output === 3 ? "running_mean" : "running_var", index);
  return add(times(1 - momentum, old), times(momentum, fresh));
}

function fromRun(step: Step, index: Index, run: Formula, weight: Formula, bias: Formula): Formula {
  const n = run.value.last;
  const mean = labelled("μ", over(total(run), n));
  const variance = labelled("σ²", meanOfSquares(run, mean, n));
  const scale = labelled("r", over(1, call("√", add(variance, step.at("eps", [])))));
  if (step.output > 0) return step.output === 1 ? mean : scale;
  return scaled(times(call("−", step.at("input", index), mean), scale), weight, bias);
}

const given = (formula: Formula): boolean => !(formula instanceof Constant && formula.number === null);

function scaled(normalised: Formula, weight: Formula, bias: Formula): Formula {
  const made = given(weight) ? times(normalised, weight) : normalised;
  return given(bias) ? add(made, bias) : made;
}

/** −log p of each target, their mean or their sum; the second result is the weight of all that count. */
rule(["nll_loss_forward"], (step, index) => {
  const target = step.tensor("target");
  const targets = step.trace.values(target, grid(step.shape("target"))).re;
  const ignored = step.number("ignore_index");
  const rows = vector([...targets.keys()].filter((row) => targets[row] !== ignored));
  const classes = vector(rows.re.map((row) => targets[row]!));
  const weights = step.has("weight") ? step.at("weight", [classes]) : null;
  const count = weights === null ? new Constant(rows.size) : total(weights);
  const reduction = step.number("reduction");
  if (step.output === 1) return reduction === 0 ? new Constant(0) : count;
  if (reduction === 0) {
    const label = targets[index[0] ?? 0]!;
    const picked = label === ignored ? new Constant(0) : step.at("self", [...index, label]);
    return call("neg", step.has("weight") ? times(picked, step.at("weight", [label])) : picked);
  }
  const picked = step.at("self", [rows, classes]);
  const summed = call("neg", total(weights === null ? picked : times(picked, weights)));
  return reduction === 1 ? over(summed, count) : summed;
});
