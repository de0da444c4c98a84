/**
 * A cell's arithmetic: its formula with real operands, the cells it came from, the line of source, and the proof. The
 * twin of tracing/explain.py; what it gives is, field by field, what src/glassformer/viewer/responses.py gives.
 */
import { type Explanation, MAX_SOURCES, MAX_TERMS, type OperationRecord } from "../types.ts";
import { IMAGINARY } from "./elementwise.ts";
import { folded } from "./folding.ts";
import { Apply, Constant, type Formula, Operand, Reduce, call, times } from "./formula.ts";
import { finite, plain } from "./numbers.ts";
import { numpyOf } from "./numpy.ts";
import { Step, ruleOf } from "./table.ts";
import { render } from "./text.ts";
import { type Cell, type LoadedTrace, TraceError, dtypeOf } from "./trace.ts";
import { type Values, scalar } from "./values.ts";
import "./movement.ts";
import "./contraction.ts";
import "./reduction.ts";
import "./normalisation.ts";
import "./signal.ts";
import "./source.ts";

const UNITS: Record<string, number> = {
  float16: 2 ** -11, bfloat16: 2 ** -8, float64: 2 ** -53, complex128: 2 ** -53, float32: 2 ** -24, complex64: 2 ** -24,
};
const TINY: Record<string, number> = { float64: 1e-300, complex128: 1e-300, float16: 6e-8 };

type Check = NonNullable<Explanation["check"]>;
interface Term { operands: Cell[]; value: Values; product: boolean }

/**
 * The arithmetic behind a cell; with the storages of steps, over operands that have names (folding.ts).
 * Throws a `TraceError` for a cell of an operation that has no rule.
 */
export function explain(
  trace: LoadedTrace, tensor: number, index: number[], steps: ReadonlySet<number> = new Set(),
): Explanation {
  const cell: Cell = { tensor, index };
  const { kind, dtype } = trace.tensor(tensor);
  const value = trace.values(tensor, index);
  const found = derivation(trace, cell);
  const shown = { cell: trace.ref(cell), kind, dtype };
  if (found === null) {
    return {
      ...shown, text: "", numbers: "", latex: "", mathml: "", numpy: numpyOf(new Constant(value), dtype),
      terms: [], n_terms: 0, sources: [], n_sources: 0, computed: null, check: null, operation: null, source: null,
    };
  }
  const { computed } = found;
  const short = steps.size > 0 ? folded(found, steps, derive) : null;
  const recomputes = short !== null && verdict(short.formula, value, dtype).passed;
  const { formula, operation } = recomputes ? short : found;
  const terms = termsOf(formula, scalar(1, "float"));
  const sources = distinct(formula.leaves().flatMap((leaf) => leaf.cells()));
  return {
    ...shown,
    computed: same(computed, cell) ? null : trace.ref(computed),
    text: render(formula),
    numbers: render(formula, "text", true),
    latex: render(formula, "latex"),
    mathml: render(formula, "mathml"),
    numpy: sources.length > MAX_SOURCES ? "" : numpyOf(formula, dtype),
    terms: bySize(formula, terms).slice(0, MAX_TERMS).map(({ operands, value, product }) => ({
      operands: operands.map((operand) => trace.ref(operand)),
      value: plain(value),
      product,
    })),
    n_terms: terms.length,
    sources: sources.slice(0, MAX_SOURCES).map((source) => trace.ref(source)),
    n_sources: sources.length,
    check: verdict(formula, value, dtype),
    operation: { id: trace.records.operations.indexOf(operation), name: operation.name, module: operation.module },
    source: trace.records.sources[operation.source] ?? null,
  };
}

/** Only the proof: whether a cell recomputes from its recorded operands. Null for what came from outside. */
export function check(trace: LoadedTrace, tensor: number, index: number[]): Check | null {
  const found = derivation(trace, { tensor, index });
  return found && verdict(found.formula, trace.values(tensor, index), trace.tensor(tensor).dtype);
}

// ---- the formula of a cell

function derivation(
  trace: LoadedTrace, cell: Cell,
): { formula: Formula; computed: Cell; operation: OperationRecord } | null {
  const origin = trace.origin(cell);
  const written = origin && trace.tensor(origin.tensor);
  if (origin === null || written?.kind !== "computed") return null;
  const operation = trace.records.operations[written.made_by!]!;
  try {
    let [formula, computed] = [derive(trace, origin, operation), origin];
    if (written.dtype !== trace.tensor(cell.tensor).dtype) {
      [formula, computed] = [reinterpreted(trace, cell, origin, operation, formula), cell];
    }
    void formula.value; // which throws where a rule has stumbled
    return { formula, computed, operation };
  } catch (fault) {
    if (fault instanceof TraceError) throw fault;
    const reason = fault instanceof Error ? fault.message : String(fault);
    throw new TraceError(`${nameOf(trace, origin)} cannot be explained: ${reason}.`);
  }
}

/** The formula of a cell that an operation wrote. */
function derive(trace: LoadedTrace, { tensor, index }: Cell, operation: OperationRecord): Formula {
  const rule = ruleOf(operation);
  if (rule === undefined) throw new Error(`there is no rule for ${operation.name}`);
  return rule(new Step(trace, operation, operation.outputs.indexOf(tensor)), index);
}

/** The formula of a complex number read as a pair, or of a pair read as a complex number. */
function reinterpreted(
  trace: LoadedTrace, cell: Cell, origin: Cell, operation: OperationRecord, formula: Formula,
): Formula {
  const [written, shown] = [trace.tensor(origin.tensor), trace.tensor(cell.tensor)];
  const real: Record<string, string> = { complex64: "float32", complex128: "float64" };
  if (real[written.dtype] === shown.dtype) {
    return call(trace.elements(cell.tensor, cell.index).elements[0]! % 2 ? "Im" : "Re", formula);
  }
  if (real[shown.dtype] === written.dtype && written.strides.at(-1) === 1) {
    const index = origin.index.with(-1, origin.index.at(-1)! + 1);
    const other = derive(trace, { tensor: origin.tensor, index }, operation);
    return call("+", formula, times(other, new Constant(IMAGINARY, "i")));
  }
  throw new TraceError(
    `${nameOf(trace, cell)} reads the bytes of ${nameOf(trace, origin)} as another type, so no arithmetic made it.`,
  );
}

const nameOf = (trace: LoadedTrace, { tensor, index }: Cell): string =>
  `${trace.tensor(tensor).name}[${index.join(",")}]`;

const same = (a: Cell, b: Cell): boolean => a.tensor === b.tensor && a.index.join() === b.index.join();

function distinct(cells: Cell[]): Cell[] {
  return [...new Map(cells.map((cell) => [`${cell.tensor}:${cell.index.join()}`, cell])).values()];
}

// ---- its terms

/** Go through sums and constant factors down to the addends. */
function termsOf(formula: Formula, factor: Values): Term[] {
  if (formula instanceof Apply) {
    const [a, b] = formula.parts as [Formula, Formula];
    if (formula.name === "+") return [...termsOf(a, factor), ...termsOf(b, factor)];
    if (formula.name === "−") return [...termsOf(a, factor), ...termsOf(b, computed("neg", factor))];
    if (formula.name === "·" && b instanceof Constant && single(b)) return termsOf(a, computed("·", factor, b.value));
    if (formula.name === "·" && a instanceof Constant && single(a)) return termsOf(b, computed("·", factor, a.value));
    if (formula.name === "/" && single(b)) return termsOf(a, quotient(factor, b.value));
  }
  if (formula instanceof Reduce && formula.part.value.shape.length === 1) {
    const { name, part } = formula;
    if (name === "∑") {
      const values = computed("·", factor, part.value);
      const operands = direct(part).map((leaf) => leaf.cells());
      const cell = (cells: Cell[], i: number): Cell => (cells.length === values.size ? cells[i]! : cells[0]!);
      const product = isOne(factor) && isProduct(part);
      return Array.from(values.re, (_, i) => ({
        operands: operands.map((cells) => cell(cells, i)), value: values.entry(i), product,
      }));
    }
    if (["max", "min", "any", "all"].includes(name)) {
      const one = ({ trace }: Operand, cell: Cell): Term => ({
        operands: [cell], value: trace.values(cell.tensor, cell.index), product: true,
      });
      return direct(part).flatMap((leaf) => leaf.cells().map((cell) => one(leaf, cell)));
    }
  }
  const product = isProduct(formula);
  const leaves = product ? direct(formula) : formula.leaves();
  const value = single(formula) ? computed("·", factor, formula.value) : scalar(NaN);
  return [{ operands: leaves.flatMap((leaf) => leaf.cells()), value, product: product && isOne(factor) }];
}

/** Whether it is nothing but recorded cells multiplied. */
const isProduct = (formula: Formula): boolean =>
  formula instanceof Operand || (formula instanceof Apply && formula.name === "·" && formula.parts.every(isProduct));

const isOne = (factor: Values): boolean => factor.re[0] === 1 && (factor.im?.[0] ?? 0) === 0;

const single = (formula: Formula): boolean => formula.value.shape.length === 0;

const computed = (name: string, ...values: Values[]): Values =>
  new Apply(name, values.map((value) => new Constant(value))).value;

const quotient = (a: Values, b: Values): Values =>
  b.real[0] === 0 ? scalar(NaN) : computed("/", a, b);

/** The operands of an entry of a sum; those of a sum inside of it are not its own. */
function direct(part: Formula): Operand[] {
  if (part instanceof Operand) return [part];
  if (!(part instanceof Apply)) return [];
  return (part.name === "chosen" ? part.parts.slice(0, 1) : part.parts).flatMap(direct);
}

/** The terms that mattered most come first; what is no number before all. */
function bySize(formula: Formula, terms: Term[]): Term[] {
  const sign = formula instanceof Reduce ? { max: 1, min: -1 }[formula.name] : undefined;
  const size = ({ value }: Term): number => {
    const found = sign === undefined ? Math.abs(value.real[0]!) : sign * value.re[0]!;
    return Number.isNaN(found) ? Infinity : found;
  };
  const sizes = new Map(terms.map((term) => [term, size(term)]));
  const by = (a: number, b: number): number => (a === b ? 0 : b - a); // ∞ − ∞ is no number
  return terms.toSorted((a, b) => by(sizes.get(a)!, sizes.get(b)!));
}

// ---- its proof

/** What recomputing came to, under the bound of rounding. */
function verdict(formula: Formula, recorded: Values, dtype: string): Check {
  const mine = formula.value.size === 1 ? formula.value.entry(0) : null;
  if (mine === null) throw new Error("the formula has not one value");
  const bound = boundOf(formula, recorded, dtype);
  let difference = distance(mine, recorded);
  if (dtypeOf(dtype).kind === "int" && mine.kind === "int") {
    difference %= 2 ** (8 * dtypeOf(dtype).bytes); // whole numbers wrap around
  }
  return { recomputed: plain(mine), difference: finite(difference), bound, passed: difference <= bound };
}

function distance(mine: Values, recorded: Values): number {
  if (mine.kind === "bool" || recorded.kind === "bool") return Number(truth(mine) !== truth(recorded));
  const [a, b] = [[mine.re[0]!, mine.im?.[0] ?? 0], [recorded.re[0]!, recorded.im?.[0] ?? 0]] as const;
  if ((a[0] === b[0] && a[1] === b[1]) || (a.some(Number.isNaN) && b.some(Number.isNaN))) return 0;
  const difference = Math.hypot(a[0] - b[0], a[1] - b[1]);
  return Number.isNaN(difference) ? Infinity : difference;
}

const truth = (value: Values): boolean => value.re[0] !== 0 || (value.im?.[0] ?? 0) !== 0;

/** u · (16 + 4 √n) · S + u_out · |value|, with u the rounding of the sums and u_out that of the result. */
function boundOf(formula: Formula, recorded: Values, dtype: string): number {
  const unit = UNITS[dtype];
  if (unit === undefined) return 0;
  const spread = formula.spread[0]!;
  const value = Math.abs(recorded.real[0]!);
  const half = unit > 2 ** -24; // kernels round to it on their way too
  const rounding = half ? unit * (formula.longest > 1 ? 2 * value : Math.max(value, spread)) : 0;
  if (spread === 0 && rounding === 0) return 0;
  const allowed = Math.min(unit, 2 ** -24) * (16 + 4 * Math.sqrt(formula.longest)) * spread + rounding;
  return Number.isFinite(allowed) ? allowed + (TINY[dtype] ?? 1e-37) : 0;
}
