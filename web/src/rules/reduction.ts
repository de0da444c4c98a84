/** Many numbers to one: sums, means, spreads, extremes, running sums, order. The twin of rules/reduction.py. */
import { Constant, type Formula, Reduce, add, call, labelled, over, times, total } from "./formula.ts";
import { type Index, type Step, rule } from "./table.ts";
import { range, vector } from "./values.ts";

/** The cells that a cell of the result sums up. */
function runOf(step: Step, index: Index): Formula {
  const dims = "dim" in step.operation.arguments ? step.dims() : [...step.shape("self").keys()];
  return step.along("self", step.reduced(index, dims), dims);
}

const counted = (run: Formula): Formula => (run.value.kind === "bool" ? call("+", run, 0) : run);

/** ∑ x, ∏ x. */
rule(["sum", "prod"], (step, index) => new Reduce(step.base === "sum" ? "∑" : "∏", counted(runOf(step, index))));

/** ∑ x / n. */
rule(["mean"], (step, index) => {
  const run = runOf(step, index);
  return over(total(run), run.value.last);
});

/** ∑ (x − μ)² / (n − correction). */
rule(["var", "std", "var_mean"], (step, index) => {
  const run = runOf(step, index);
  const n = run.value.last;
  const mu = labelled("μ", over(total(run), n));
  if (step.base === "var_mean" && step.output === 1) return mu;
  const correction = step.number("correction", step.flag("unbiased", true) ? 1 : 0);
  const made = over(meanOfSquares(run, mu, n), (n - correction) / n);
  return step.base === "std" ? call("√", made) : made;
});

/** ∑ (x − μ)² / n. */
export function meanOfSquares(run: Formula, mu: Formula, n: number): Formula {
  const centred = call("−", run, mu);
  return over(total(times(centred, centred)), n);
}

/** The largest, the smallest; whether any is true, or all are. With the places of extremes as a second result. */
rule(["amax", "amin", "any", "all", "max", "min"], (step, index) => {
  const run = runOf(step, index);
  if (step.base === "any" || step.base === "all") return new Reduce(step.base, call("≠", run, 0));
  if (step.output === 1) return placeOfExtreme(step, index, run, step.base === "max" ? "argmax" : "argmin");
  return new Reduce(step.base.replace(/^a/, ""), run);
});

/** Where the largest stands, or the smallest. */
rule(["argmax", "argmin"], (step, index) => placeOfExtreme(step, index, runOf(step, index), step.base));

/** What was recorded at this cell of the result. */
const recordedAt = (step: Step, index: Index): number =>
  step.trace.values(step.operation.outputs[step.output]!, index).re[0]!;

/** Of several equal ones, the one that was recorded counts as right. */
function placeOfExtreme(step: Step, index: Index, run: Formula, name: string): Formula {
  const recorded = recordedAt(step, index);
  const best = new Reduce(name.replace("arg", ""), run);
  const equal = same(run.value.re[recorded], best.value.re[0]);
  return equal ? call("chosen", recorded, best) : new Reduce(name, run);
}

/** Whether numbers are equal, or are both none. */
const same = (a: number | undefined, b: number | undefined): boolean => a === b || (Number.isNaN(a) && Number.isNaN(b));

/** The k-th in order, and where it stood: among equal ones, and without an order, at the place that was recorded. */
rule(["sort", "topk"], (step, index) => {
  const dim = step.dim();
  const run = step.along("self", index, [dim]);
  const place = placeInOrder(step, index, run.value.re, dim);
  if (step.output === 1) return new Constant(place);
  return call("chosen", step.at("self", index.with(dim, place)), run);
});

/** The recorded place if its number is the right one, else the place that would be right. */
function placeInOrder(step: Step, index: Index, numbers: Float64Array, dim: number): number {
  const places = ordered(numbers);
  if (step.flag("descending") || (step.base === "topk" && step.flag("largest", true))) places.reverse();
  const place = places[index[dim] ?? 0]!;
  const recorded = (at: Index): number => step.trace.values(step.operation.outputs[1]!, at).re[0]!;
  const here = recorded(index);
  if (step.flag("sorted", true)) return same(numbers[here], numbers[place]) ? here : place;
  const count = step.trace.tensor(step.operation.outputs[1]!).shape[dim]!;
  const chosen = Array.from({ length: count }, (_, k) => recorded(index.with(dim, k)));
  const sorted = (of: number[]): (number | undefined)[] =>
    ordered(Float64Array.from(of, (at) => numbers[at]!)).map((k) => numbers[of[k]!]);
  const right = sorted(places.slice(0, count));
  const all = new Set(chosen).size === count && sorted(chosen).every((number, k) => same(number, right[k]));
  return all ? here : place;
}

/** The places of numbers in their order; what is no number comes last, as the largest. */
function ordered(numbers: Float64Array): number[] {
  const compare = (a: number, b: number): number => (a < b ? -1 : a > b ? 1 : 0);
  const last = (place: number): number => Number(Number.isNaN(numbers[place]!));
  return [...numbers.keys()].sort((a, b) => last(a) - last(b) || compare(numbers[a]!, numbers[b]!));
}

/** ∑ or ∏ of all up to here. */
rule(["cumsum", "cumprod"], (step, index) => {
  const dim = step.dim();
  if (index.length === 0) return step.at("self", []);
  const places = [...index.slice(0, dim), range(index[dim]! + 1), ...index.slice(dim + 1)];
  return new Reduce(step.base === "cumsum" ? "∑" : "∏", counted(step.at("self", places)));
});

/** log ∑ exp x. */
rule(["logsumexp"], (step, index) => {
  const run = runOf(step, index);
  return logSumExp(run, labelled("m", new Reduce("max", run)));
});

/** m + log ∑ exp(x − m). */
export const logSumExp = (run: Formula, highest: Formula): Formula =>
  add(highest, call("log", total(call("exp", call("−", run, highest)))));

/** √ ∑ x². */
rule(["linalg_vector_norm"], (step, index) => {
  if (step.number("ord") !== 2) throw new Error("norms other than the Euclidean one");
  const run = runOf(step, index);
  return call("√", total(times(run, run)));
});

/** The largest of a window, where it stood, or the mean. */
rule(["max_pool2d_with_indices", "avg_pool2d", "_adaptive_avg_pool2d"], (step, index) => {
  const sizes = step.shape("self").slice(-2) as [number, number];
  const kernel = step.list("kernel_size", [1]);
  const [rows, columns] = [0, 1].map((k) => windowAt(step, index.at(k - 2)!, k, sizes[k]!)) as [number[], number[]];
  const places = rows.flatMap((row) => columns.map((column) => row * sizes[1] + column));
  const grid = [places.map((place) => Math.floor(place / sizes[1])), places.map((place) => place % sizes[1])];
  const window = step.at("self", [...index.slice(0, -2), ...grid.map((axis) => vector(axis))]);
  if (step.base.startsWith("max")) {
    const best = new Reduce("max", window);
    if (step.output === 0) return best;
    const right = places.filter((_, i) => same(window.value.re[i], best.value.re[0]));
    const recorded = recordedAt(step, index);
    return call("chosen", right.includes(recorded) ? recorded : right[0]!, best);
  }
  if (step.flag("ceil_mode")) throw new Error("windows that reach over the edge");
  if (step.has("divisor_override")) return over(total(window), step.at("divisor_override", []));
  const whole = !step.base.startsWith("_") && step.flag("count_include_pad", true);
  return over(total(window), whole ? kernel[0]! * kernel.at(-1)! : window.value.last);
});

/** Which places along an axis (0 for rows, 1 for columns) a window has. */
function windowAt(step: Step, at: number, axis: number, size: number): number[] {
  if (step.base === "_adaptive_avg_pool2d") {
    const windows = step.result.shape.at(axis - 2)!;
    const [first, end] = [Math.floor((at * size) / windows), Math.ceil(((at + 1) * size) / windows)];
    return [...range(end - first).re].map((k) => first + k);
  }
  const setting = (name: string, otherwise: number[]): number => {
    const given = step.list(name, otherwise);
    return given[axis % given.length]!;
  };
  const kernel = step.list("kernel_size", [1]);
  const first = at * setting("stride", kernel) - setting("padding", [0]);
  const places = [...range(setting("kernel_size", [1])).re].map((k) => first + k * setting("dilation", [1]));
  return places.filter((place) => place >= 0 && place < size);
}
