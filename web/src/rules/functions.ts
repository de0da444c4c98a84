/** What each name in a formula computes, and what it makes of the roundings of its arguments. */
import { type NumberKind, widest } from "./values.ts";

export interface Named {
  compute: (...x: number[]) => number;
  slopes: (...x: number[]) => number[]; // |∂f/∂argument| at the arguments
  kind: (...kinds: NumberKind[]) => NumberKind;
  exact: boolean; // no rounding of its own
  truth?: (...x: number[]) => number; // what it computes where kind is bool, if something else
}

type Compute = Named["compute"];
type Slopes = Named["slopes"];

const flat: Slopes = (...x) => x.map(() => 0);
const one: Slopes = (...x) => x.map(() => 1);
const fraction = (...kinds: NumberKind[]): NumberKind => widest("float", ...kinds);
const truth = (): NumberKind => "bool";
const real = (...kinds: NumberKind[]): NumberKind => (kinds[0] === "complex" ? "float" : widest(...kinds));

const rounding = (compute: Compute, slopes: Slopes, kind = fraction): Named => ({
  compute, slopes, kind, exact: false,
});
const exact = (compute: Compute, slopes = flat, kind: Named["kind"] = widest): Named => ({
  compute, slopes, kind, exact: true,
});
const compare = (compute: (a: number, b: number) => boolean): Named =>
  exact((a, b) => Number(compute(a!, b!)), flat, truth);

/** Rounded to the nearest whole number, halves to the even one. */
export function round(x: number): number {
  const below = Math.floor(x);
  if (x - below !== 0.5) return Math.round(x);
  return below % 2 === 0 ? below : below + 1;
}

/** 2/√π · exp(−x²) · ∑ 2ⁿ x²ⁿ⁺¹ / (1 · 3 ⋯ (2n + 1)): all terms have one sign, so that nothing cancels. */
export function erf(x: number): number {
  if (Number.isNaN(x) || Math.abs(x) > 6) return Math.sign(x);
  let [term, sum] = [x, x];
  for (let n = 1; Math.abs(term) > Math.abs(sum) * 1e-17; n++) {
    term *= (2 * x * x) / (2 * n + 1);
    sum += term;
  }
  return (2 / Math.sqrt(Math.PI)) * Math.exp(-x * x) * sum;
}

export function sigmoid(x: number): number {
  const small = Math.exp(-Math.abs(x)); // which cannot overflow
  return x >= 0 ? 1 / (1 + small) : small / (1 + small);
}

/** The remainder with the sign of the divisor. */
export function mod(a: number, b: number): number {
  const rest = a % b;
  return rest !== 0 && rest < 0 !== b < 0 ? rest + b : rest;
}

const bits = (compute: (a: bigint, b: bigint) => bigint): Named =>
  exact((a, b) => Number(compute(BigInt(a!), BigInt(b!))));

export const FUNCTIONS: Record<string, Named> = {
  "+": rounding((a, b) => a! + b!, one, widest),
  "−": rounding((a, b) => a! - b!, one, widest),
  "·": rounding((a, b) => a! * b!, (a, b) => [b!, a!], widest),
  "/": rounding((a, b) => a! / b!, (a, b) => [1 / b!, a! / b! ** 2]),
  "^": rounding((a, b) => a! ** b!, (a, b) => [b! * a! ** (b! - 1), a! ** b! * Math.log(Math.abs(a!))], widest),
  neg: exact((a) => -a!, one),
  abs: exact((a) => Math.abs(a!), one),
  modulus: rounding((a) => Math.abs(a!), one, real),
  sign: exact((a) => Math.sign(a!)),
  exp: rounding((a) => Math.exp(a!), (a) => [Math.exp(a!)]),
  exp2: rounding((a) => 2 ** a!, (a) => [2 ** a!]),
  expm1: rounding((a) => Math.expm1(a!), (a) => [Math.exp(a!)]),
  log: rounding((a) => Math.log(a!), (a) => [1 / a!]),
  log2: rounding((a) => Math.log2(a!), (a) => [1.45 / a!]),
  log10: rounding((a) => Math.log10(a!), (a) => [0.44 / a!]),
  log1p: rounding((a) => Math.log1p(a!), (a) => [1 / (1 + a!)]),
  "√": rounding((a) => Math.sqrt(a!), (a) => [0.5 / Math.sqrt(a!)]),
  sin: rounding((a) => Math.sin(a!), (a) => [Math.cos(a!)]),
  cos: rounding((a) => Math.cos(a!), (a) => [Math.sin(a!)]),
  tanh: rounding((a) => Math.tanh(a!), (a) => [1 - Math.tanh(a!) ** 2]),
  "σ": rounding((a) => sigmoid(a!), (a) => [sigmoid(a!) * sigmoid(-a!)]),
  erf: rounding((a) => erf(a!), (a) => [1.13 * Math.exp(-(a! ** 2))]),
  arctan2: rounding(
    (a, b) => Math.atan2(a!, b!),
    (a, b) => [b! / (a! ** 2 + b! ** 2), a! / (a! ** 2 + b! ** 2)],
  ),
  max: exact((a, b) => Math.max(a!, b!), one),
  min: exact((a, b) => Math.min(a!, b!), one),
  "⌊⌋": exact((a) => Math.floor(a!)),
  "⌈⌉": exact((a) => Math.ceil(a!)),
  round: exact((a) => round(a!)),
  trunc: exact((a) => Math.trunc(a!)),
  int: exact((a) => (Number.isFinite(a!) ? Math.trunc(a!) : -(2 ** 63)), flat, () => "int"),
  mod: exact((a, b) => mod(a!, b!), (a, b) => [1, Math.floor(a! / b!)]),
  fmod: exact((a, b) => a! % b!, (a, b) => [1, Math.trunc(a! / b!)]),
  "=": compare((a, b) => a === b),
  "≠": compare((a, b) => a !== b),
  "<": compare((a, b) => a < b),
  "≤": compare((a, b) => a <= b),
  ">": compare((a, b) => a > b),
  "≥": compare((a, b) => a >= b),
  "∧": bits((a, b) => a & b),
  "∨": bits((a, b) => a | b),
  "⊻": bits((a, b) => a ^ b),
  "¬": { ...exact((a) => -a! - 1), truth: (a) => 1 - a! },
  "is nan": exact((a) => Number(Number.isNaN(a!)), flat, truth),
  "is infinite": exact((a) => Number(Math.abs(a!) === Infinity), flat, truth),
  conj: exact((a) => a!, one, widest),
  Re: exact((a) => a!, one, real),
  Im: exact(() => 0, one, real),
  float32: rounding((a) => a!, one, widest), // a rounding to it, or to half precision
  copy: exact((a) => a!, one),
  if: exact((c, a, b) => (c ? a! : b!), (c) => [0, Number(c), Number(!c)], (_, a, b) => widest(a!, b!)),
};

export type Complex = readonly [number, number];

/** What names mean for complex numbers; their slopes are those at the moduli. */
export const COMPLEX: Record<string, (a: Complex, b: Complex) => Complex> = {
  "+": ([a, b], [c, d]) => [a + c, b + d],
  "−": ([a, b], [c, d]) => [a - c, b - d],
  "·": ([a, b], [c, d]) => [a * c - b * d, a * d + b * c],
  "/": ([a, b], [c, d]) => {
    const size = c * c + d * d;
    return [(a * c + b * d) / size, (b * c - a * d) / size];
  },
  neg: ([a, b]) => [-a, -b],
  exp: ([a, b]) => [Math.exp(a) * Math.cos(b), Math.exp(a) * Math.sin(b)],
  modulus: ([a, b]) => [Math.hypot(a, b), 0],
  conj: ([a, b]) => [a, -b],
  Re: ([a]) => [a, 0],
  Im: ([, b]) => [b, 0],
  "=": ([a, b], [c, d]) => [Number(a === c && b === d), 0],
  "≠": ([a, b], [c, d]) => [Number(a !== c || b !== d), 0],
  float32: (a) => a,
  copy: (a) => a,
};
