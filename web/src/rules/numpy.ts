/** A formula as an expression that gives the number when pasted into Python after `import numpy as np`. */
import { Apply, Constant, type Formula, Reduce } from "./formula.ts";
import { repr, whole } from "./numbers.ts";
import { dtypeOf } from "./trace.ts";
import type { NumberKind, Values } from "./values.ts";

const [SUM, PRODUCT] = [1, 2] as const; // how tightly an expression holds together

const INFIX: Record<string, [string, number]> = {
  "+": ["+", SUM], "−": ["-", SUM], "·": ["*", PRODUCT], "/": ["/", PRODUCT],
};
const CALLS: Record<string, string> = {
  "^": "float_power", modulus: "abs", "√": "sqrt", max: "maximum", min: "minimum", "⌊⌋": "floor", "⌈⌉": "ceil",
  int: "trunc", "=": "equal", "≠": "not_equal", "<": "less", "≤": "less_equal", ">": "greater", "≥": "greater_equal",
  "∧": "bitwise_and", "∨": "bitwise_or", "⊻": "bitwise_xor", "¬": "invert", "is nan": "isnan",
  "is infinite": "isinf", Re: "real", Im: "imag", conj: "conj", if: "where", neg: "negative",
};
const REDUCTIONS: Record<string, string> = { "∑": "sum", "∏": "prod" };
const TRANSPARENT = ["copy", "float32", "chosen"];

/** All operands are written out exactly and computed with in double precision; the result has the number's own type. */
export function numpyOf(formula: Formula, dtype: string): string {
  const written = new Writer(formula).write(formula, 0);
  if (dtype === "bfloat16") return written; // which NumPy lacks
  if (dtype === "bool") return `np.bool_(${written})`;
  const wraps = dtypeOf(dtype).kind === "int" && !dtype.endsWith("64");
  return wraps ? `np.int64(${written}).astype(np.${dtype})` : `np.${dtype}(${written})`;
}

/** Writes one formula; a part that is used twice gets a name where it is first met. */
class Writer {
  readonly #uses = new Map<Formula, number>();
  readonly #names = new Map<Formula, string>();

  constructor(formula: Formula) {
    this.#count(formula);
  }

  #count(formula: Formula): void {
    const before = this.#uses.get(formula) ?? 0;
    this.#uses.set(formula, before + 1);
    if (before === 0) partsOf(formula).forEach((part) => this.#count(part));
  }

  write(formula: Formula, needed: number): string {
    const plain = !(formula instanceof Apply || formula instanceof Reduce) && formula.value.shape.length === 0;
    if (plain || this.#uses.get(formula) === 1) return this.#body(formula, needed);
    const known = this.#names.get(formula);
    if (known !== undefined) return known;
    const taken = [...this.#names.values()];
    const fits = /^[A-Za-z]+$/.test(formula.label) && !taken.includes(formula.label);
    const name = fits ? formula.label : `x${taken.length + 1}`;
    this.#names.set(formula, name);
    return `(${name} := ${this.#body(formula, 0)})`;
  }

  #body(formula: Formula, needed: number): string {
    if (formula instanceof Apply) return this.#applied(formula, needed);
    if (formula instanceof Reduce) return this.#reduced(formula);
    const { value } = formula;
    const written = literal(value, formula instanceof Constant ? constantKind(value) : value.kind);
    return value.shape.length ? `np.array(${written})` : written;
  }

  #applied({ name, parts }: Apply, needed: number): string {
    if (TRANSPARENT.includes(name)) return this.write(parts[0]!, needed);
    const infix = name === "/" && parts[1]!.value.real.includes(0) ? undefined : INFIX[name];
    if (infix !== undefined) {
      const [sign, holds] = infix;
      const written = `${this.write(parts[0]!, holds)} ${sign} ${this.write(parts[1]!, holds + 1)}`;
      return holds < needed ? `(${written})` : written;
    }
    const inside = parts.map((part) => this.write(part, 0)).join(", ");
    if (name === "σ") return needed > PRODUCT ? `(1 / (1 + np.exp(-(${inside}))))` : `1 / (1 + np.exp(-(${inside})))`;
    if (name === "erf") return `__import__("math").erf(${inside})`; // which NumPy lacks
    return `np.${name === "/" ? "divide" : CALLS[name] ?? name}(${inside})`;
  }

  #reduced({ name, part }: Reduce): string {
    const sizes = part.parts.map((factor) => factor.value.shape.join());
    if (name === "∑" && part instanceof Apply && part.name === "·" && this.#uses.get(part) === 1 &&
        sizes.every((size) => size === String(part.value.size))) {
      return `np.dot(${part.parts.map((factor) => this.#listed(factor)).join(", ")})`;
    }
    const axis = part.value.shape.length > 1 ? ", -1" : "";
    return `np.${REDUCTIONS[name] ?? name}(${this.#listed(part)}${axis})`;
  }

  /** Functions of arrays take lists as well, which are shorter. */
  #listed(formula: Formula): string {
    return this.write(formula, 0).replace(/^np\.array\((\[[^()]*\])\)$/, "$1");
  }
}

const partsOf = (formula: Formula): readonly Formula[] =>
  formula instanceof Apply && formula.name === "chosen" ? formula.parts.slice(0, 1) : formula.parts;

/** Whole constants are written without a point. */
const constantKind = (value: Values): NumberKind =>
  value.kind === "float" && value.re.every((x) => Number.isInteger(x) && Math.abs(x) < 2 ** 53) ? "int" : value.kind;

function literal(value: Values, kind: NumberKind): string {
  const one = (i: number): string => {
    const re = value.re[i]!;
    if (value.im !== null) return `complex(${float(re)}, ${float(value.im[i]!)})`;
    return kind === "bool" ? (re ? "True" : "False") : kind === "int" ? whole(re) : float(re);
  };
  const nested = (from: number, [n, ...inner]: readonly number[]): string => {
    if (n === undefined) return one(from);
    const size = inner.reduce((a, b) => a * b, 1);
    return `[${Array.from({ length: n }, (_, i) => nested(from + i * size, inner)).join(", ")}]`;
  };
  return nested(0, value.shape);
}

const float = (x: number): string => repr(x).replace(/^(-?)(inf|nan)$/, "$1np.$2");
