/** Formulas as people read them: plain text, LaTeX, MathML; and as NumPy computes them. The twin of tracing/render.py. */
import { Apply, Constant, type Formula, Operand, Reduce } from "./formula.ts";
import { general, shorten } from "./numbers.ts";
import type { Entry } from "./trace.ts";

export type Dialect = "text" | "latex" | "mathml";

const [SUM, PRODUCT, ATOM] = [1, 2, 3] as const; // how tightly an expression holds together

/** How a function is written: its arguments need `inside` at least; `holds` is its own. */
interface Notation extends Record<Dialect, (...parts: string[]) => string> {
  holds: number;
  inside: readonly [number, number];
}

const escaped = (text: string): string =>
  text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;").replaceAll('"', "&quot;")
    .replaceAll("'", "&#x27;");

const infix = (text: string, latex: string, holds: number, right: number): Notation => ({
  text: (a, b) => `${a} ${text} ${b}`,
  latex: (a, b) => `${a} ${latex} ${b}`,
  mathml: (a, b) => `${a}<mo>${escaped(text)}</mo>${b}`,
  holds,
  inside: [holds, right],
});

const around = (
  before: string, after: string, latex: (a: string) => string, holds: number = ATOM, needs: number = 0,
): Notation => ({
  text: (a) => before + a + after,
  latex: (a) => latex(a!),
  mathml: (a) => (before && `<mo>${before}</mo>`) + a + (after && `<mo>${after}</mo>`),
  holds,
  inside: [needs, 0],
});

const named = (text: string, latex = `\\mathrm{${text}}`): Notation => ({
  text: (a) => `${text}(${a})`,
  latex: (a) => `${latex}(${a})`,
  mathml: (a) => `<mi>${text}</mi><mo>(</mo>${a}<mo>)</mo>`,
  holds: ATOM,
  inside: [0, 0],
});

const NOTATIONS: Record<string, Notation> = {
  "+": infix("+", "+", SUM, SUM),
  "−": infix("−", "-", SUM, PRODUCT),
  "·": infix("·", "\\cdot", PRODUCT, PRODUCT),
  "/": {
    text: (a, b) => `${a} / ${b}`,
    latex: (a, b) => `\\frac{${a}}{${b}}`,
    mathml: (a, b) => `<mfrac><mrow>${a}</mrow><mrow>${b}</mrow></mfrac>`,
    holds: PRODUCT,
    inside: [PRODUCT, ATOM],
  },
  "^": {
    text: (a, b) => `${a}^${b}`,
    latex: (a, b) => `{${a}}^{${b}}`,
    mathml: (a, b) => `<msup><mrow>${a}</mrow><mrow>${b}</mrow></msup>`,
    holds: ATOM,
    inside: [ATOM, ATOM],
  },
  "√": {
    text: (a) => `√(${a})`, latex: (a) => `\\sqrt{${a}}`, mathml: (a) => `<msqrt>${a}</msqrt>`,
    holds: ATOM, inside: [0, 0],
  },
  neg: around("−", "", (a) => `-${a}`, PRODUCT, ATOM),
  abs: around("|", "|", (a) => `|${a}|`),
  "⌊⌋": around("⌊", "⌋", (a) => `\\lfloor ${a} \\rfloor`),
  "⌈⌉": around("⌈", "⌉", (a) => `\\lceil ${a} \\rceil`),
  copy: around("", "", (a) => a, SUM),
  float32: around("", "", (a) => a, SUM),
  "¬": around("¬", "", (a) => `\\lnot ${a}`, PRODUCT, ATOM),
  "σ": named("σ", "\\sigma"),
  if: {
    text: (c, a, b) => `(${a} if ${c} else ${b})`,
    latex: (c, a, b) => `(${a}\\ \\mathrm{if}\\ ${c}\\ \\mathrm{else}\\ ${b})`,
    mathml: (c, a, b) => `<mo>(</mo>${a}<mtext> if </mtext>${c}<mtext> else </mtext>${b}<mo>)</mo>`,
    holds: ATOM,
    inside: [0, 0],
  },
  ...Object.fromEntries(
    [["=", "="], ["≠", "\\ne"], ["<", "<"], ["≤", "\\le"], [">", ">"], ["≥", "\\ge"],
      ["∧", "\\land"], ["∨", "\\lor"], ["⊻", "\\oplus"]]
      .map(([sign, latex]) => [sign!, infix(sign!, latex!, 0, SUM)]),
  ),
  ...Object.fromEntries(
    ["exp", "log", "sin", "cos", "tanh", "max", "min"].map((name) => [name, named(name, `\\${name}`)]),
  ),
};
const TWO = ["max", "min", "arctan2", "mod", "fmod"];

/** The formula, and what its letters stand for; `numbers` puts the recorded values in the place of single cells. */
export function render(formula: Formula, dialect: Dialect = "text", numbers = false): string {
  const writer = new Writer(dialect, numbers);
  const lines = [writer.write(formula, 0, true)];
  for (const part of writer.met) { // which grows on the way
    lines.push(writer.letter(part.label) + (dialect === "mathml" ? "<mo>=</mo>" : " = ") + writer.write(part, 0, true));
  }
  if (dialect === "mathml") {
    const rows = lines.map((line) => `<mtr><mtd>${line}</mtd></mtr>`).join("");
    return `<math xmlns="http://www.w3.org/1998/Math/MathML"><mtable columnalign="left">${rows}</mtable></math>`;
  }
  const [first, ...others] = lines;
  return others.length ? `${first}${dialect === "text" ? ", where " : ",\\quad "}${others.join(", ")}` : first!;
}

/** Writes one formula; collects the labelled parts, which are written once, at the end. */
class Writer {
  readonly met = new Set<Formula>();

  constructor(private readonly dialect: Dialect, private readonly numbers: boolean) {}

  write(formula: Formula, needed: number, top = false): string {
    if (formula instanceof Constant) return formula.label ? this.letter(formula.label) : this.#number(constant(formula));
    if (formula.label && !top) {
      this.met.add(formula);
      return this.letter(formula.label);
    }
    if (formula instanceof Operand) {
      const single = formula.value.shape.length === 0;
      return this.numbers && single ? this.#number(shorten(formula.value)) : this.#operand(formula);
    }
    if (formula instanceof Reduce) {
      const { name, part } = formula;
      return this.#reduced(name, this.write(part, name === "∑" || name === "∏" ? PRODUCT : 0), needed);
    }
    const { name, parts } = formula as Apply;
    return name === "chosen" ? this.write(parts[0]!, needed) : this.#applied(name, parts, needed);
  }

  #applied(name: string, parts: readonly Formula[], needed: number): string {
    const notation = NOTATIONS[name] ?? named(this.dialect === "latex" ? name.replaceAll(" ", "\\ ") : name);
    if (TWO.includes(name)) {
      const inside = parts.map((part) => this.write(part, 0)).join(this.dialect === "mathml" ? "<mo>,</mo>" : ", ");
      return named(name)[this.dialect](inside);
    }
    const fraction = this.dialect !== "text" && name === "/";
    const needs = (k: number): number => (fraction ? 0 : notation.inside[Math.min(k, 1)]!);
    const written = notation[this.dialect](...parts.map((part, k) => this.write(part, needs(k))));
    return notation.holds < needed ? this.#bracketed(written) : written;
  }

  #reduced(name: string, inside: string, needed: number): string {
    const big = name === "∑" || name === "∏";
    const written = {
      latex: `${big ? { "∑": "\\sum", "∏": "\\prod" }[name] : `\\mathrm{${name}}`}_i ${inside}`,
      mathml: `<mrow><munder><${big ? "mo" : "mi"}>${name}</${big ? "mo" : "mi"}><mi>i</mi></munder>${inside}</mrow>`,
      text: `${name}ᵢ ${inside}`,
    }[this.dialect];
    return needed > SUM || (needed === SUM && big) ? this.#bracketed(written) : written;
  }

  #bracketed(written: string): string {
    return this.dialect === "mathml" ? `<mo>(</mo>${written}<mo>)</mo>` : `(${written})`;
  }

  letter(label: string): string {
    return this.dialect === "mathml" ? `<mi>${escaped(label)}</mi>` : label;
  }

  #number(written: string): string {
    if (this.dialect === "mathml") return `<mn>${escaped(written)}</mn>`;
    if (this.dialect === "latex") return written.replaceAll("−", "-");
    return written.startsWith("−") ? `(${written})` : written;
  }

  #operand(operand: Operand): string {
    const { tensor, index } = operand.trace.home(operand.tensor, operand.index);
    const { name } = operand.trace.tensor(tensor);
    const places = index.map(axisOf).join(",");
    if (this.dialect === "latex") return `\\mathrm{${name.replace(/[_#]/g, "\\$&")}}_{${places}}`;
    if (this.dialect === "mathml") {
      return `<msub><mtext>${escaped(name)}</mtext><mrow><mtext>${places}</mtext></mrow></msub>`;
    }
    return `${name}[${places}]`;
  }
}

/** An index as it is written: a number, i where the sum runs over it (j over the outer one of two), or a range. */
function axisOf(entry: Entry): string {
  if (typeof entry === "number") return String(entry);
  const { re: places, shape } = entry;
  if (places.length === 0) return "–";
  const first = places[0]!;
  if (places.every((place) => place === first)) return String(first);
  const counts = places.every((place, i) => place === first + i);
  if (shape.length === 1 && counts) return first === 0 ? "i" : `${first}+i`;
  if (shape.length === 2 && Math.min(...shape) === 1 && counts && first === 0) return shape[0] === 1 ? "i" : "j";
  return `${places.reduce((a, b) => Math.min(a, b))}…${places.reduce((a, b) => Math.max(a, b))}`;
}

/** A constant: a whole one in six digits, since nobody remembers whether 2 was written as 2.0. */
function constant({ number }: Constant): string {
  if (number === null) return "none";
  const isWhole = number.im === null && number.kind !== "bool" && Number.isInteger(number.re[0]);
  return isWhole ? general(number.re[0]!, 6).replaceAll("-", "−") : shorten(number);
}
