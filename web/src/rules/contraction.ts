/** Sums of products: matrix products of all kinds, convolution, and attention in one piece. */
import { type Formula, Reduce, add, call, labelled, over, times, total } from "./formula.ts";
import { logSumExp } from "./reduction.ts";
import { type Index, type Step, broadcast, rule } from "./table.ts";
import { Values, grid, range, reshaped } from "./values.ts";

/** ∑ᵢ a[row, i] · b[column…, i, column]. */
function dot(step: Step, a: string, b: string, row: Index, column: Index): Formula {
  const i = range(step.shape(a).at(-1)!);
  const left = step.at(a, [...broadcast(row, step.shape(a).slice(0, -1)), i]);
  if (step.shape(b).length === 1) return total(times(left, step.at(b, [i])));
  const leading = broadcast(column.slice(0, -1), step.shape(b).slice(0, -2));
  return total(times(left, step.at(b, [...leading, i, column.at(-1)!])));
}

/** A matrix product. */
rule(["mm", "bmm", "mv", "dot"], (step, index) => {
  const b = ["vec", "mat2", "tensor"].find((name) => step.has(name)) ?? "other";
  if (step.shape(b).length === 1) return dot(step, "self", b, index, []);
  if (step.shape("self").length === 1) return dot(step, "self", b, [], index);
  return dot(step, "self", b, index.slice(0, -1), [...index.slice(0, -2), index.at(-1)!]);
});

/** β · c + α · a b. */
rule(["addmm", "baddbmm", "addmv"], (step, index) => {
  const [a, b] = step.has("vec") ? ["mat", "vec"] : step.has("mat1") ? ["mat1", "mat2"] : ["batch1", "batch2"];
  let made = step.has("vec")
    ? dot(step, a!, b!, index, [])
    : dot(step, a!, b!, index.slice(0, -1), [...index.slice(0, -2), index.at(-1)!]);
  if (step.number("alpha", 1) !== 1) made = times(step.at("alpha", []), made);
  const beta = step.number("beta", 1);
  if (beta === 0) return made;
  const plus = step.broadcast("self", index);
  return add(made, beta === 1 ? plus : times(step.at("beta", []), plus));
});

/** ∑ over the channels of a group and the places of the kernel; what lies in the padding counts nothing. */
rule(["convolution"], (step, index) => {
  if (step.flag("transposed")) throw new Error("transposed convolution");
  const [batch, channel, ...place] = index as [number, number, ...number[]];
  const [outputs, channels, ...kernel] = step.shape("weight") as [number, number, ...number[]];
  const group = Math.floor(channel / Math.floor(outputs / step.number("groups")));
  const [c, ...offsets] = grid([channels, ...kernel]) as [Values, ...Values[]];
  const setting = (name: string, axis: number): number => step.list(name).at(axis) ?? step.list(name)[0]!;
  const places = offsets.map((offset, axis) => {
    const first = place[axis]! * setting("stride", axis) - setting("padding", axis);
    return offset.re.map((k) => first + k * setting("dilation", axis));
  });
  const sizes = step.shape("input").slice(2);
  const inside = [...c.re.keys()].filter((i) => places.every((at, axis) => at[i]! >= 0 && at[i]! < sizes[axis]!));
  const kept = (numbers: Float64Array, first = 0): Values =>
    new Values("int", [inside.length], Float64Array.from(inside, (i) => first + numbers[i]!));
  const values = step.at("input", [batch, kept(c.re, group * channels), ...places.map((at) => kept(at))]);
  const weights = step.at("weight", [channel, kept(c.re), ...offsets.map((offset) => kept(offset.re))]);
  const made = total(times(values, weights));
  return step.has("bias") ? add(made, step.at("bias", [channel])) : made;
});

/** ∑ₛ softmax(q kᵀ · scale + mask)ₛ vₛ, computed in one piece; its second result is log ∑ exp of the scores. */
rule(["_scaled_dot_product_flash_attention_for_cpu"], (step, index) => {
  const [batch, head, query] = index as [number, number, number];
  const scale = step.has("scale") ? step.at("scale", []) : step.shape("query").at(-1)! ** -0.5;
  const d = range(step.shape("query").at(-1)!);
  const s = range(step.flag("is_causal") ? Math.min(query + 1, step.shape("key").at(-2)!) : step.shape("key").at(-2)!);
  const row = reshaped(d, 1, d.size);
  const shared = Math.floor((head * step.shape("key")[1]!) / step.shape("query")[1]!); // grouped heads
  const q = step.at("query", [batch, head, query, row]);
  const k = step.at("key", [batch, shared, reshaped(s, s.size, 1), row]);
  let scores = labelled("scores", times(total(times(q, k)), scale));
  if (step.has("attn_mask")) scores = add(scores, step.broadcast("attn_mask", [batch, head, query, s]));
  const highest = labelled("m", new Reduce("max", scores));
  if (step.output === 1) return logSumExp(scores, highest);
  if (highest.value.re[0] === -Infinity) return call("chosen", 0, highest); // nothing
  const exponentials = call("exp", call("−", scores, highest));
  const values = step.at("value", [batch, shared, s, index[3]!]);
  return over(total(times(exponentials, values)), total(exponentials));
});
