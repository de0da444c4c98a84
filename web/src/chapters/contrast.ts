/** The two heads, of all that attend from a position, whose weights differ most: those that show best why heads are many. */

import type { Chapter } from "../types.ts";
import type { Numbers } from "./numbers.ts";
import { select, type Vars } from "./selectors.ts";

const chosen = new WeakMap<Numbers, Map<Chapter, Vars>>(); // once all numbers have come

/** What the variables of a chapter stand for; of one that contrasts heads, two of them are chosen by their numbers. */
export function varsOf(told: Chapter, numbers: Numbers): Vars {
  if (told.contrast === undefined) return told.vars;
  const before = chosen.get(numbers)?.get(told);
  if (before !== undefined) return before;
  const rows = rowsOf(told.contrast.rows, told.vars, numbers);
  if (rows === null || rows.size < 2) return told.vars;
  const [g, h] = told.contrast.vars;
  const [one, other] = farthest([...rows]);
  const vars = { ...told.vars, [g]: one, [h]: other };
  chosen.set(numbers, (chosen.get(numbers) ?? new Map<Chapter, Vars>()).set(told, vars));
  return vars;
}

/** The weights of each head, or null until all have come. */
function rowsOf(selector: string, vars: Vars, numbers: Numbers): Map<number, number[]> | null {
  const rows = new Map<number, number[]>();
  const all = select(numbers.scene, selector, vars).map((cells) => ({ cells, weights: numbers.of(cells) })); // asks for all
  for (const { cells, weights } of all) {
    if (weights === undefined) return null;
    const { head } = numbers.scene.blocks[cells.block]!;
    if (head !== null) rows.set(head, [...rows.get(head) ?? [], ...weights]); // a long row is cut into several blocks
  }
  return rows;
}

/** Of all pairs the one with the largest distance, the first of equals. */
function farthest(rows: [head: number, weights: number[]][]): [number, number] {
  const pairs = rows.flatMap(([g, a], i) =>
    rows.slice(i + 1).map(([h, b]) => ({ heads: [g, h] as [number, number], apart: distance(a, b) })));
  return pairs.reduce((best, one) => (one.apart > best.apart ? one : best)).heads;
}

/** Half the sum of the differences: the share that would have to move to make one row of the other. */
const distance = (a: number[], b: number[]): number => a.reduce((sum, x, i) => sum + Math.abs(x - b[i]!), 0) / 2;
