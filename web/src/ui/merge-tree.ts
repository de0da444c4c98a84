/** Where the merges of a word stand in a picture: its symbols side by side at the top, each merge on a line below. */

import type { TokenizedPiece } from "../types.ts";
import { pieceText } from "./format.ts";

export interface Branch {
  text: string;
  step: number; // 0 of a symbol at first
  rank: number | null;
  x: number; // the middle
  y: number;
  parts: Branch[]; // what was merged
}

const LINE = 30; // px from a merge to the next
const TOP = 12;
export const lineOf = (step: number): number => TOP + LINE * step;

const [LETTER, WIDE_LETTER, GAP] = [7.5, 13, 8]; // px, of what is written at 12.5 px
const WIDE = /[\u2e80-\ua4cf\uac00-\ud7a3\uf900-\ufaff\uff00-\uffef⟨⟩\u{1f000}-\u{1faff}]/u;

/** The trees of a piece's tokens, and how much room they take. */
export function mergeTrees({ rows, steps }: TokenizedPiece): { branches: Branch[]; width: number; height: number } {
  let width = 0;
  let branches = (rows[0] ?? []).map((symbol): Branch => {
    const text = pieceText(symbol);
    const room = GAP + [...text].reduce((sum, letter) => sum + (WIDE.test(letter) ? WIDE_LETTER : LETTER), 0);
    width += room;
    return { text, step: 0, rank: null, x: width - room / 2, y: lineOf(0), parts: [] };
  });
  steps.forEach(({ at, rank }, i) => {
    const row = rows[i + 1] ?? [];
    const parts = branches.slice(at, at + 1 + branches.length - row.length);
    const x = ((parts[0]?.x ?? 0) + (parts.at(-1)?.x ?? 0)) / 2;
    const joined = { text: pieceText(row[at] ?? ""), step: i + 1, rank, x, y: lineOf(i + 1), parts };
    branches = [...branches.slice(0, at), joined, ...branches.slice(at + parts.length)];
  });
  return { branches, width, height: lineOf(steps.length) + TOP };
}
