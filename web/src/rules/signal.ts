/** Fourier transforms: sums of the signal with the roots of unity. The twin of rules/signal.py. */
import { Constant, type Formula, call, times, total } from "./formula.ts";
import { type Step, rule } from "./table.ts";
import { Values, grid, product, range } from "./values.ts";

/** exp(2πi · turns), each of them so many times. */
function roots(turns: ArrayLike<number>, often: (i: number) => number = () => 1): Constant {
  const of = (part: (angle: number) => number): Float64Array =>
    Float64Array.from(turns, (turn, i) => often(i) * part(2 * Math.PI * turn));
  return new Constant(new Values("complex", [turns.length], of(Math.cos), of(Math.sin)), "ω");
}

/** ∑ₙ xₙ exp(∓2πi kn / N), over each of the axes. */
rule(["_fft_r2c", "_fft_c2c"], (step, index) => {
  const dims = step.dims();
  const run = step.along("self", index, dims);
  const sign = "forward" in step.operation.arguments && !step.flag("forward") ? 1 : -1;
  const sizes = dims.map((axis) => step.shape("self")[axis]!);
  const places = grid(sizes);
  const turns = run.value.re.map((_, i) =>
    dims.reduce((sum, axis, k) => sum + (sign * index[axis]! * places[k]!.re[i]!) / sizes[k]!, 0),
  );
  return normalised(step, total(times(run, roots(turns))), product(sizes));
});

/** The real signal of which these are the first half of the frequencies. */
rule(["_fft_c2r"], (step, index) => {
  const dim = step.dim();
  const size = step.number("last_dim_size");
  const run = step.along("self", index, [dim]);
  const turns = range(run.value.last).re.map((k) => (k * index[dim]!) / size);
  const often = (k: number): number => (k === 0 || 2 * k === size ? 1 : 2); // the other half mirrors this one
  return normalised(step, call("Re", total(times(run, roots(turns, often)))), size);
});

function normalised(step: Step, made: Formula, size: number): Formula {
  const scale = [1, size ** -0.5, 1 / size][step.number("normalization")]!;
  return scale === 1 ? made : times(made, scale);
}
