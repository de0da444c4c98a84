/** Entry by entry: arithmetic, activations, comparison, masks, choice. The twin of rules/elementwise.py. */
import { Constant, type Formula, Operand, add, call, over, times } from "./formula.ts";
import { type Index, type Step, rule } from "./table.ts";
import { dtypeOf } from "./trace.ts";
import { Values, scalar } from "./values.ts";

const UNARY: Record<string, string> = {
  ...Object.fromEntries(
    ["abs", "sign", "exp", "exp2", "expm1", "log", "log2", "log10", "log1p", "sin", "cos"].map((name) => [name, name]),
  ),
  ...Object.fromEntries(["tanh", "erf", "neg", "round", "trunc"].map((name) => [name, name])),
  sqrt: "√", sigmoid: "σ", floor: "⌊⌋", ceil: "⌈⌉", sgn: "sign",
  isnan: "is nan", isinf: "is infinite", bitwise_not: "¬",
  _conj_physical: "conj",
};
const BINARY: Record<string, string> = {
  mul: "·", maximum: "max", minimum: "min", atan2: "arctan2", remainder: "mod", fmod: "fmod",
  eq: "=", ne: "≠", lt: "<", le: "≤", gt: ">", ge: "≥",
  bitwise_and: "∧", bitwise_or: "∨", bitwise_xor: "⊻",
};
const COMPARISONS = ["eq", "ne", "lt", "le", "gt", "ge"];
/** What becomes of a number that is kept with so many bits after the first, from this exponent on; ties go to even. */
const kept = (bits: number, least: number) => (x: number): number => {
  if (x === 0 || !Number.isFinite(x)) return x;
  const unit = 2 ** (Math.max(Math.floor(Math.log2(Math.abs(x))), least) - bits);
  const [below, rest] = [Math.floor(x / unit), x / unit - Math.floor(x / unit)];
  return unit * (rest > 0.5 || (rest === 0.5 && below % 2 !== 0) ? below + 1 : below);
};
const STORED: Record<string, (x: number) => number> = {
  float32: Math.fround, float16: kept(10, -14), bfloat16: kept(7, -126),
};
const LOGIC: Record<string, string> = { logical_not: "¬", logical_and: "∧", logical_or: "∨", logical_xor: "⊻" };
export const IMAGINARY = new Values("complex", [], Float64Array.of(0), Float64Array.of(1));

/** f(x). */
rule(Object.keys(UNARY), (step, index) => {
  const x = step.broadcast("self", index);
  if (step.number("decimals", 0)) throw new Error("rounding to decimals");
  return call(step.base === "abs" && x.value.kind === "complex" ? "modulus" : UNARY[step.base]!, x);
});

const two = (step: Step, index: Index): [Formula, Formula] => [
  step.broadcast("self", index), step.broadcast("other", index),
];

/** a ∘ b. */
rule(Object.keys(BINARY), (step, index) => {
  let [a, b] = two(step, index);
  const stored = STORED[step.record("self").dtype];
  if (COMPARISONS.includes(step.base) && b instanceof Constant && stored) {
    b = new Constant(scalar(stored(b.value.re[0]!), "float")); // the kernel compares in the tensor's type
  }
  return call(BINARY[step.base]!, a, b);
});

/** a ± α b. */
rule(["add", "sub", "rsub"], (step, index) => {
  let [a, b] = two(step, index);
  if (step.number("alpha", 1) !== 1) b = times(step.at("alpha", []), b);
  if (step.base === "rsub") [a, b] = [b, a];
  return call(step.base === "add" ? "+" : "−", a, b);
});

/** a / b, rounded down or towards zero where asked. */
rule(["div", "floor_divide"], (step, index) => {
  const mode = step.base === "floor_divide" ? "floor" : step.get("rounding_mode");
  const [a, b] = two(step, index);
  if (mode !== "floor") return mode === null ? over(a, b) : call("trunc", over(a, b));
  return call("round", over(call("−", a, call("mod", a, b)), b)); // the remainder decides: the quotient may round up
});

/** a + b i. */
rule(["complex"], (step, index) =>
  call("+", step.broadcast("real", index), times(step.broadcast("imag", index), new Constant(IMAGINARY, "i"))),
);

/** 1 / x, 1 / √x. */
rule(["reciprocal", "rsqrt"], (step, index) => {
  const x = step.broadcast("self", index);
  return over(1, step.base === "rsqrt" ? call("√", x) : x);
});

/** a to the power of b. */
rule(["pow"], (step, index) => {
  const [base, exponent] = [step.broadcast("self", index), step.broadcast("exponent", index)];
  if (exponent instanceof Constant && exponent.is(2)) return times(base, base);
  if (exponent instanceof Constant && exponent.is(3)) return times(times(base, base), base);
  return call("^", base, exponent);
});

/** Anything but zero counts as true. */
rule(Object.keys(LOGIC), (step, index) => {
  const given = ["self", "other"].filter((name) => name in step.operation.arguments);
  return call(LOGIC[step.base]!, ...given.map((name) => call("≠", step.broadcast(name, index), 0)));
});

/** Not below min, not above max. */
rule(["clamp", "clamp_min", "clamp_max", "hardtanh"], (step, index) => {
  const bounds = Object.entries({ min: "max", max: "min", min_val: "max", max_val: "min" });
  const given = bounds.filter(([name]) => step.has(name));
  return given.reduce((x, [name, bound]) => call(bound, x, step.broadcast(name, index)), step.broadcast("self", index));
});

/** max(x, 0). */
rule(["relu"], (step, index) => call("max", step.broadcast("self", index), 0));

/** x, or a small multiple of it below 0. */
rule(["leaky_relu"], (step, index) => {
  const x = step.broadcast("self", index);
  return call("if", call(">", x, 0), x, times(step.at("negative_slope", []), x));
});

/** x, or α (exp x − 1) below 0. */
rule(["elu"], (step, index) => {
  const x = step.broadcast("self", index);
  const below = times(step.at("alpha", []), call("expm1", times(step.at("input_scale", []), x)));
  return times(step.at("scale", []), call("if", call(">", x, 0), x, below));
});

/** x · σ(x). */
rule(["silu"], (step, index) => {
  const x = step.broadcast("self", index);
  return times(x, call("σ", x));
});

/** log(1 + exp βx) / β, and x where that is the same. */
rule(["softplus"], (step, index) => {
  const x = step.broadcast("self", index);
  const scaled = times(step.at("beta", []), x);
  const curve = over(call("log1p", call("exp", scaled)), step.at("beta", []));
  return call("if", call(">", scaled, step.at("threshold", [])), x, curve);
});

/** x Φ(x), or its tanh approximation. */
rule(["gelu"], (step, index) => {
  const x = step.broadcast("self", index);
  if (step.get("approximate") === "tanh") {
    const inner = times(Math.sqrt(2 / Math.PI), add(x, times(0.044715, times(times(x, x), x))));
    return times(times(0.5, x), add(1, call("tanh", inner)));
  }
  return times(x, times(0.5, add(1, call("erf", over(x, Math.sqrt(2))))));
});

/** One or the other. */
rule(["where"], (step, index) => {
  const condition = step.broadcast("condition", index);
  return call("chosen", step.broadcast(condition.value.re[0] ? "self" : "other", index), condition);
});

/** A value where the mask is true. */
rule(["masked_fill"], (step, index) => {
  const masked = step.broadcast("mask", index);
  return call("chosen", step.broadcast(masked.value.re[0] ? "value" : "self", index), masked);
});

/** x + value · a · b, x + value · a / b. */
rule(["addcmul", "addcdiv"], (step, index) => {
  const [a, b] = [step.broadcast("tensor1", index), step.broadcast("tensor2", index)];
  const made = step.base === "addcmul" ? times(a, b) : over(a, b);
  return add(step.broadcast("self", index), times(step.at("value", []), made));
});

/** a + w (b − a). */
rule(["lerp"], (step, index) => {
  const [start, end, weight] = [
    step.broadcast("self", index), step.broadcast("end", index), step.broadcast("weight", index),
  ];
  return add(start, times(weight, call("−", end, start)));
});

/** x / (1 − p) where the drawn mask keeps it. */
rule(["native_dropout"], (step, index) => {
  const kept = new Operand(step.trace, step.operation.outputs[1]!, index);
  if (step.output === 1) return kept; // drawn by chance: what it is, it is
  return over(times(step.broadcast("input", index), kept), 1 - step.number("p"));
});

/** The same number in another type. */
rule(["_to_copy", "copy"], (step, index) => rounded(step.broadcast(step.has("src") ? "src" : "self", index), step));

/** What a number becomes in the type of the result. */
function rounded(x: Formula, step: Step): Formula {
  const target = dtypeOf(step.result.dtype);
  if (target.kind === "bool") return call("≠", x, 0);
  if (target.kind === "int") return call("int", x);
  const sources = x.leaves().map((leaf) => dtypeOf(leaf.dtype));
  return call(sources.every((source) => source.bytes <= target.bytes && source.floating) ? "copy" : "float32", x);
}
