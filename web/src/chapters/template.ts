/**
 * The text of a chapter, with its placeholders filled from the scene: pieces for the page to colour and to link.
 *
 *   {size:C} how long an axis is      {dim:C} the axis's letter       {layers} {heads} {params} {name} of the model
 *   {about} what the model does: a sentence with an example, and a space behind it; nothing where nobody says
 *   {value:@…} the number of a cell   {exp:@…} e to that number, in float32; {exp:@…|a} with a added to it first
 *   {max:@…} the largest of cells     {most:@…} the token at the position of the largest, along the keys
 *   {token:t} the token at a position {tokens} all of them            {var:L} what a variable stands for
 *   {over_one:@… & @…|words} words that are there only if the largest cells of two rows, which stand at different keys,
 *                             come to more than one
 *   {term:@…|words} words that glow together with the blocks that they name
 *   {prediction} {probability} what the model takes to come next; {loss} of that guess, if it is right
 *   {lens:first} {lens_probability:first} the same guess, read off the residual stream after a layer (lens.ts)
 *
 * No number is ever written into a text by hand, so none can be out of date.
 */

import type { Cells, Scene, Text, Token } from "../types.ts";
import { grouped, share, short, tokenText } from "../ui/format.ts";
import { lens, prediction, type Guess } from "./lens.ts";
import type { Numbers } from "./numbers.ts";
import { resolve, select, type Vars } from "./selectors.ts";

export type Segment =
  | { kind: "text"; text: string }
  | { kind: "value"; text: string; cells: Cells | null } // a number, and where it stands
  | { kind: "size" | "dim"; text: string; axis: string }
  | { kind: "term"; text: string; cells: Cells[] }
  | { kind: "token"; text: string; position: number | null; token: Token | null };

export interface Context { scene: Scene; vars: Vars; numbers: Numbers; textOf: (id: number) => string }

const PLACEHOLDER = /\{(\w+)(?::((?:[^{}]|\{[^{}]*\})*))?\}/g;
const WAITING = "…"; // for a number that has not come yet

/** The pieces of a text in a language. */
export function fill(text: Text, language: keyof Text, context: Context): Segment[] {
  const segments: Segment[] = [];
  let end = 0;
  for (const match of text[language].matchAll(PLACEHOLDER)) {
    if (match.index > end) segments.push({ kind: "text", text: text[language].slice(end, match.index) });
    segments.push(...placeholder(match[1]!, match[2] ?? "", language, context));
    end = match.index + match[0].length;
  }
  if (end < text[language].length) segments.push({ kind: "text", text: text[language].slice(end) });
  return segments;
}

/** Of a text, the placeholders as they are written: the same in both languages, but for the words of terms. */
export const placeholders = (text: string): string[] => [...text.matchAll(PLACEHOLDER)].map((match) => match[0]);

function placeholder(kind: string, argument: string, language: keyof Text, context: Context): Segment[] {
  const { scene, vars } = context;
  const [selector, rest] = argument.split("|") as [string, string | undefined];
  switch (kind) {
    case "size": return [{ kind, text: size(scene.sizes[argument]), axis: argument }];
    case "dim": return [{ kind, text: argument, axis: argument }];
    case "layers": return [{ kind: "size", text: size(count(scene, "layer")), axis: "L" }];
    case "heads": return [{ kind: "size", text: size(scene.sizes.H), axis: "H" }];
    case "params": return [text(size(scene.model.n_parameters))];
    case "name": return [text(scene.model.name)];
    case "about": return [text(purpose(scene.model.about, language))];
    case "var": return [text(`${variable(argument, scene, vars)}`)];
    case "value": return [number(first(scene, selector, vars), context)];
    case "exp": return [number(first(scene, selector, vars), context, (x) => exponential(x + Number(rest ?? 0)))];
    case "max": return [number(largest(select(scene, selector, vars), context)?.cells ?? null, context)];
    case "most": {
      const found = largest(select(scene, selector, vars), context);
      return [found === null ? text(WAITING) : tokenAt(found.key, found)];
    }
    case "over_one": return exceedOne(selector.split(" & "), context) ? [text(rest ?? "")] : [];
    case "term": return [{ kind, text: rest ?? "", cells: select(scene, selector, vars) }];
    case "token": return [tokenAt(variable(argument, scene, vars), scene)];
    case "tokens": return scene.tokens.map((_, position) => tokenAt(position, scene));
    case "prediction": return [guessed(prediction(context.numbers), context)];
    case "probability": return [text(chance(prediction(context.numbers)))];
    case "loss": return [text(loss(prediction(context.numbers)))];
    case "lens": return [guessed(lensAfter(argument, context), context)];
    case "lens_probability": return [text(chance(lensAfter(argument, context)))];
    default: throw new Error(`{${kind}} is not a placeholder.`);
  }
}

/** What a model does, as a sentence: "It sorts six letters: CBABBC → ABBBCC. " */
export function purpose(about: Scene["model"]["about"], language: keyof Text): string {
  if (about === null) return "";
  const [colon, end] = language === "zh" ? ["：", "。"] : [": ", ". "];
  return about[language] + (about.input ? `${colon}${about.input} → ${about.output}` : "") + end;
}

const text = (words: string): Segment => ({ kind: "text", text: words });
const size = (length: number | undefined): string => length === undefined ? "?" : grouped(length);
/** e to the x, as float32 has it: ∞ beyond its range. */
export const exponential = (x: number): number => Math.fround(Math.exp(Math.fround(x)));
const count = (scene: Scene, role: string): number => scene.groups.filter((one) => one.role === role).length;
export const chance = (guess: Guess | undefined): string => guess === undefined ? WAITING : share(guess.probability);

const loss = (guess: Guess | undefined): string => guess === undefined ? WAITING : short(-Math.log(guess.probability));

/** A variable's number: L counts layers, h heads, a lower-case letter places along its axis, others positions. */
export function variable(name: string, scene: Scene, vars: Vars): number {
  const counted = name === "L" ? count(scene, "layer") : scene.sizes[name.toUpperCase()] ?? scene.tokens.length;
  return resolve(name, counted, vars) ?? 0;
}

function first(scene: Scene, selector: string, vars: Vars): Cells | null {
  const cells = select(scene, selector, vars)[0];
  return cells === undefined ? null : { ...cells, x1: cells.x0 + 1, y1: cells.y0 + 1 };
}

function number(cells: Cells | null, { numbers }: Context, of: (x: number) => number = (x) => x): Segment {
  const value = cells === null ? undefined : numbers.at(cells.block, cells.x0, cells.y0);
  return { kind: "value", text: value === undefined ? WAITING : short(of(value)), cells };
}

interface Largest { cells: Cells; key: number; tokens: Token[]; value: number }

/** The cell with the largest number, and its place along the keys, or along x where there are none. */
function largest(of: Cells[], { scene, numbers }: Context): Largest | null {
  let [found, highest]: [Largest | null, number] = [null, -Infinity];
  for (const cells of of) {
    const values = numbers.of(cells);
    if (values === undefined) return null;
    const value = values.reduce((a, b) => Math.max(a, b), -Infinity);
    if (!(value > highest)) continue;
    const [at, width] = [values.indexOf(value), cells.x1 - cells.x0];
    const [x, y] = [cells.x0 + at % width, cells.y0 + Math.floor(at / width)];
    const { axes, start = [0, 0] } = scene.blocks[cells.block]!;
    const down = axes[1] === "S" || axes[1] === "N";
    const key = down ? y + start[1] : x + start[0];
    const tokens = axes[down ? 1 : 0] === "N" ? scene.source : scene.tokens;
    [found, highest] = [{ cells: { block: cells.block, x0: x, y0: y, x1: x + 1, y1: y + 1 }, key, tokens, value }, value];
  }
  return found;
}

function exceedOne(rows: string[], context: Context): boolean {
  const [a, b] = rows.map((row) => largest(select(context.scene, row, context.vars), context));
  return a !== null && b !== null && a!.key !== b!.key && a!.value + b!.value > 1;
}

function tokenAt(position: number, { tokens }: Pick<Scene, "tokens">): Segment {
  const token = tokens[position] ?? null;
  return { kind: "token", text: token === null ? `${position}` : tokenText(token), position, token };
}

/** What a guess says. */
export const prophecy = (guess: Guess | undefined, { textOf }: Context): string =>
  guess === undefined ? WAITING : textOf(guess.id);

const guessed = (guess: Guess | undefined, context: Context): Segment =>
  ({ kind: "token", text: prophecy(guess, context), position: null, token: null });

const lensAfter = (layer: string, { scene, vars, numbers }: Context): Guess | undefined =>
  lens(numbers, resolve(layer, count(scene, "layer"), vars) ?? 0);
