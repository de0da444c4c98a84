/** Numbers with a shape, as numpy's arrays are: just as much of them as formulas need. */

export type NumberKind = "bool" | "int" | "float" | "complex";

const KINDS: NumberKind[] = ["bool", "int", "float", "complex"];

export class Values {
  readonly size: number;

  constructor(
    readonly kind: NumberKind,
    readonly shape: readonly number[],
    readonly re: Float64Array,
    readonly im: Float64Array | null = null,
  ) {
    this.size = re.length;
  }

  get last(): number {
    return this.shape.at(-1) ?? 1;
  }

  /** The moduli of complex numbers; the others as they are. */
  get real(): Float64Array {
    const im = this.im;
    return im === null ? this.re : this.re.map((re, i) => Math.hypot(re, im[i]!));
  }

  /** One of the entries, by its place row by row. */
  entry(i: number): Values {
    return new Values(this.kind, [], this.re.slice(i, i + 1), this.im?.slice(i, i + 1) ?? null);
  }
}

export const scalar = (value: number, kind: NumberKind = Number.isInteger(value) ? "int" : "float"): Values =>
  new Values(kind, [], Float64Array.of(value));

export const vector = (numbers: ArrayLike<number>, kind: NumberKind = "int"): Values =>
  new Values(kind, [numbers.length], Float64Array.from(numbers));

/** 0, 1, … n − 1. */
export const range = (n: number): Values => vector(Array.from({ length: n }, (_, i) => i));

/** The same numbers in another shape. */
export const reshaped = (values: Values, ...shape: number[]): Values =>
  new Values(values.kind, shape, values.re, values.im);

/** The indices of all cells of a shape, row by row: one vector for each axis. */
export function grid(shape: readonly number[]): Values[] {
  const n = product(shape);
  let inner = n;
  return shape.map((size) => {
    inner = size > 0 ? inner / size : 0;
    return vector(Array.from({ length: n }, (_, i) => Math.floor(i / inner) % size));
  });
}

/** The kind that holds them all. */
export const widest = (...kinds: NumberKind[]): NumberKind =>
  KINDS[Math.max(0, ...kinds.map((kind) => KINDS.indexOf(kind)))]!;

/** The shape of several together: axes of length 1 are repeated, missing ones too. */
export function together(shapes: (readonly number[])[]): number[] {
  const full: number[] = Array(Math.max(0, ...shapes.map((shape) => shape.length))).fill(1);
  for (const shape of shapes) {
    shape.forEach((n, k) => {
      const axis = full.length - shape.length + k;
      if (n !== 1 && full[axis] !== 1 && full[axis] !== n) throw new Error(`axes of ${n} and ${full[axis]} do not fit`);
      if (n !== 1) full[axis] = n;
    });
  }
  return full;
}

/** Where, among the entries of an array, the i-th entry of the larger shape is that it is repeated to. */
export function reach(of: readonly number[], to: readonly number[]): (i: number) => number {
  if (of.every((n) => n === 1)) return () => 0;
  if (of.length === to.length && of.every((n, axis) => n === to[axis])) return (i) => i;
  return (i) => {
    let [rest, at, stride] = [i, 0, 1];
    for (let axis = 1; axis <= of.length; axis++) {
      const n = of[of.length - axis]!;
      const size = to[to.length - axis]!;
      at += n === 1 ? 0 : (rest % size) * stride;
      rest = Math.floor(rest / size);
      stride *= n;
    }
    return at;
  };
}

export const product = (numbers: readonly number[]): number => numbers.reduce((a, b) => a * b, 1);

/** The index of the i-th cell of a shape, row by row. */
export function placeAt(i: number, shape: readonly number[]): number[] {
  const place: number[] = [];
  for (const n of shape.toReversed()) {
    place.unshift(i % n);
    i = Math.floor(i / n);
  }
  return place;
}
