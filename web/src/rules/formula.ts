/**
 * Formulas over recorded cells: they compute themselves in double precision, know how far rounding may take a kernel
 * from that, and print as text, LaTeX, MathML or NumPy. The twin of tracing/formula.py.
 *
 * A formula's value is a number, or an array where it stands for the entries of a sum. Its `spread` is S in the bound
 * |computed − recorded| ≤ u · (16 + 4 √n) · S: what roundings add up to. Recorded cells are exact: they have 0.
 */
import { COMPLEX, type Complex, FUNCTIONS } from "./functions.ts";
import { type Cell, type Entry, type LoadedTrace, placeIn } from "./trace.ts";
import { Values, product, reach, scalar, together } from "./values.ts";

/** A node of the tree. `label` is a letter that stands for it where it is used in a larger formula. */
export abstract class Formula {
  label = "";
  readonly parts: readonly Formula[] = [];
  #value: Values | null = null;
  #spread: Float64Array | null = null;

  /** In double precision. */
  get value(): Values {
    return (this.#value ??= this.compute());
  }

  /** S, for each entry of the value. */
  get spread(): Float64Array {
    return (this.#spread ??= this.spreads());
  }

  /** n: the terms of the longest sum in it. */
  get longest(): number {
    return Math.max(1, ...this.parts.map((part) => part.longest));
  }

  protected abstract compute(): Values;

  protected spreads(): Float64Array {
    return new Float64Array(this.value.size);
  }

  /** The recorded cells that it is made of, each once. */
  leaves(): Operand[] {
    const seen = new Set<Formula>([this]);
    for (const node of seen) for (const part of node.parts) seen.add(part); // which the loop then comes to
    return [...seen].filter((node) => node instanceof Operand);
  }
}

/** A constant of the source, or an array of them, such as the roots of unity in a Fourier transform. */
export class Constant extends Formula {
  readonly number: Values | null; // null where an argument was left out

  constructor(number: number | Values | null, label = "") {
    super();
    this.number = typeof number === "number" ? scalar(number) : number;
    this.label = label;
  }

  is(number: number): boolean {
    return this.number?.size === 1 && this.number.im === null && this.number.re[0] === number;
  }

  protected compute(): Values {
    if (this.number === null) throw new Error("an argument is missing");
    return this.number;
  }

  protected override spreads(): Float64Array {
    if (this.value.kind !== "float") return super.spreads();
    return this.value.re.map((x) => (Math.fround(x) === x ? 0 : Math.abs(x))); // it may be known in single precision
  }
}

/** Recorded cells: one, or as many as the arrays in the index pick. */
export class Operand extends Formula {
  constructor(readonly trace: LoadedTrace, readonly tensor: number, readonly index: readonly Entry[]) {
    super();
  }

  get dtype(): string {
    return this.trace.tensor(this.tensor).dtype;
  }

  protected compute(): Values {
    return this.trace.values(this.tensor, this.index);
  }

  /** The cells, in the order of the value, under the names that people know them by. */
  cells(): Cell[] {
    const { tensor, index } = this.trace.home(this.tensor, this.index);
    const { shape, elements } = this.trace.elements(tensor, index);
    return Array.from(elements, (_, i) => ({ tensor, index: placeIn(index, shape, i) }));
  }
}

/** A function of one or several formulas, entry by entry; of "chosen", the first is what the others chose. */
export class Apply extends Formula {
  constructor(readonly name: string, override readonly parts: readonly Formula[]) {
    super();
  }

  protected compute(): Values {
    if (this.name === "chosen") return this.parts[0]!.value;
    const values = this.parts.map((part) => part.value);
    const shape = together(values.map((value) => value.shape));
    const named = FUNCTIONS[this.name]!;
    const kind = named.kind(...values.map((value) => value.kind));
    const reaches = values.map((value) => reach(value.shape, shape));
    if (values.some((value) => value.im !== null)) return this.#complex(kind, shape, values, reaches);
    const re = new Float64Array(product(shape));
    const compute = (kind === "bool" && named.truth) || named.compute;
    for (let i = 0; i < re.length; i++) re[i] = compute(...values.map((value, k) => value.re[reaches[k]!(i)]!));
    return new Values(kind, shape, kind === "bool" ? re.map((x) => Number(x !== 0)) : re);
  }

  #complex(kind: Values["kind"], shape: number[], values: Values[], reaches: ((i: number) => number)[]): Values {
    const compute = COMPLEX[this.name];
    if (compute === undefined) throw new Error(`there is no ${this.name} of complex numbers here`);
    const entry = (k: number, i: number): Complex => {
      const [value, at] = [values[k], reaches[k]?.(i) ?? 0];
      return value === undefined ? [0, 0] : [value.re[at]!, value.im?.[at] ?? 0];
    };
    const found = Array.from({ length: product(shape) }, (_, i) => compute(entry(0, i), entry(1, i)));
    const im = kind === "complex" ? Float64Array.from(found, (z) => z[1]) : null;
    return new Values(kind, shape, Float64Array.from(found, (z) => z[0]), im);
  }

  protected override spreads(): Float64Array {
    if (this.name === "chosen") return this.parts[0]!.spread;
    const { slopes, exact } = FUNCTIONS[this.name]!;
    const values = this.parts.map((part) => part.value);
    const spreads = this.parts.map((part) => part.spread);
    const own = exact ? super.spreads() : this.value.real.map(Math.abs);
    if (!spreads.some((spread) => spread.some((s) => s !== 0))) return own;
    const sizes = values.map((value) => value.real);
    const reaches = values.map((value) => reach(value.shape, this.value.shape));
    return own.map((spread, i) => {
      const places = reaches.map((at) => at(i));
      slopes(...sizes.map((size, k) => size[places[k]!]!)).forEach((slope, k) => {
        const added = Math.abs(slope) * spreads[k]![places[k]!]!;
        spread += Number.isFinite(added) ? added : 0;
      });
      return spread;
    });
  }
}

/** A sum, a largest or a smallest entry, over the last axis of a formula. */
export class Reduce extends Formula {
  override readonly parts: readonly [Formula];

  constructor(readonly name: string, part: Formula) {
    super();
    this.parts = [part];
  }

  get part(): Formula {
    return this.parts[0];
  }

  protected compute(): Values {
    const { kind, shape, re, im } = this.part.value;
    const along = (numbers: Float64Array): Float64Array => rows(numbers, this.part.value.last, REDUCTIONS[this.name]!);
    if (im !== null && this.name !== "∑") throw new Error(`there is no ${this.name} of complex numbers here`);
    const made = ["any", "all"].includes(this.name) ? "bool" : this.name.startsWith("arg") ? "int" : kind;
    return new Values(made, shape.slice(0, -1), along(re), im && along(im));
  }

  protected override spreads(): Float64Array {
    const { last, real } = this.part.value;
    const spread = this.part.spread;
    if (this.name === "∑") return rows(spread.map((s, i) => Math.max(s, Math.abs(real[i]!))), last, sum);
    if (this.name === "∏") {
      const share = (s: number, i: number): number => (s ? Math.min(s / Math.abs(real[i]!), Number.MAX_VALUE) : 0);
      const shares = rows(spread.map(share), last, sum);
      return this.value.re.map((x, i) => Math.abs(x) * (1 + shares[i]!));
    }
    return spread.length > 0 ? rows(spread, last, largest) : super.spreads();
  }

  override get longest(): number {
    return Math.max(this.part.value.last, this.part.longest);
  }
}

function rows(numbers: Float64Array, length: number, reduce: (row: Float64Array) => number): Float64Array {
  const n = length > 0 ? numbers.length / length : 1;
  return Float64Array.from({ length: n }, (_, i) => reduce(numbers.subarray(i * length, (i + 1) * length)));
}

const sum = (row: Float64Array): number => row.reduce((a, b) => a + b, 0);
const largest = (row: Float64Array): number => row.reduce((a, b) => Math.max(a, b), -Infinity);
const smallest = (row: Float64Array): number => row.reduce((a, b) => Math.min(a, b), Infinity);

const REDUCTIONS: Record<string, (row: Float64Array) => number> = {
  "∑": sum,
  "∏": (row) => row.reduce((a, b) => a * b, 1),
  max: largest,
  min: smallest,
  any: (row) => Number(row.some((x) => x !== 0)),
  all: (row) => Number(row.every((x) => x !== 0)),
  argmax: (row) => row.indexOf(largest(row)),
  argmin: (row) => row.indexOf(smallest(row)),
};

// ---- short ways to write them

export type Part = Formula | number;

/** A formula as it is; anything else as a constant. */
export const lift = (part: Part): Formula => (part instanceof Formula ? part : new Constant(part));

/** The function of this name of formulas and numbers. */
export const call = (name: string, ...parts: Part[]): Formula => new Apply(name, parts.map(lift));

/** The same, with a letter that stands for it. */
export function labelled<T extends Formula>(label: string, formula: T): T {
  formula.label = label;
  return formula;
}

export const add = (a: Part, b: Part): Formula => call("+", a, b);

export const times = (a: Part, b: Part): Formula => call("·", a, b);
export const over = (a: Part, b: Part): Formula => call("/", a, b);

/** ∑ over the last axis. */
export const total = (part: Formula): Formula => new Reduce("∑", part);
