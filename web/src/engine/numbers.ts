/** The numbers themselves, printed in cells of at least 40 px: windows of 32 × 32 are fetched where someone looks. */
import { add, type View } from "./camera.ts";
import type { Box } from "./detail.ts";
import type { Glyphs } from "./glyphs.ts";
import type { Rays } from "./pick.ts";
import type { Block, DataSource } from "../types.ts";

export const LEGIBLE = 40; // css px per cell
const WINDOW = 32;
const KEPT = 256; // windows
const MOST = 2000; // numbers in a picture

/** Four digits; the page prints all of them. */
const short = (value: number, dtype: string): string => {
  if (/^(u?int|bool)/.test(dtype)) return String(value).replace("-", "−");
  const size = Math.abs(value);
  if (size === 0) return "0";
  const text = size >= 1e-3 && size < 1e5 ? value.toPrecision(4) : value.toExponential(3);
  return text.replace("e+", "e").replaceAll("-", "−");
};

export class Numbers {
  readonly #windows = new Map<string, Float64Array | null>();
  constructor(
    private readonly source: DataSource, private readonly run: number, private readonly step: number,
    private readonly onArrival: () => void,
  ) {}

  draw(view: View, boxes: Box[], rays: Rays, glyphs: Glyphs, ink: readonly number[]): void {
    let left = MOST;
    for (const box of boxes) {
      if (box.block.tensor < 0 || box.ghost || box.opacity < 0.5 || view.focal / box.distance < LEGIBLE) continue;
      const front = box.pos[2] + 1;
      if (view.eye[2] <= front) continue;
      const { x0, x1, y0, y1 } = this.#window(view, box, front);
      for (let y = y0; y < y1; y++) {
        for (let x = x0; x < x1 && left > 0; x++) {
          const middle = add(box.pos, [x - box.x0 + 0.5, y - box.y0 + 0.5, 1]);
          const at = view.project(middle);
          const cell = view.project(add(middle, [0.5, 0, 0])).x - view.project(add(middle, [-0.5, 0, 0])).x;
          if (at.depth <= 0 || cell < LEGIBLE || at.x < 0 || at.y < 0 || at.x > view.width || at.y > view.height) continue;
          const value = this.#value(box.block, x, y);
          if (value === null || !Number.isFinite(value)) continue; // these have glyphs
          const way = add(middle, view.eye, -1);
          if (rays.hit(way, 0.999) !== null) continue; // something stands before it
          const text = short(value, box.block.dtype);
          const size = Math.min(17, (cell * 0.88) / Math.max(glyphs.width("−0.00000", 1), glyphs.width(text, 1)));
          glyphs.write(text, at.x - glyphs.width(text, size) / 2, at.y + size * 0.36, { size, color: ink, alpha: box.opacity, halo: 0.8 });
          left--;
        }
      }
    }
  }

  /** The cells of a box that the picture may show: where the rays of its corners meet the front face. */
  #window(view: View, box: Box, front: number): { x0: number; x1: number; y0: number; y1: number } {
    const corners = [[0, 0], [1, 0], [0, 1], [1, 1]].map(([i, j]) => {
      const ray = view.ray(i! * view.width, j! * view.height);
      return ray[2] < 0 ? add(view.eye, ray, (front - view.eye[2]) / ray[2]) : null;
    });
    if (corners.some((it) => it === null)) return box;
    const span = (i: 0 | 1, low: number, high: number): [number, number] => {
      const cells = corners.map((it) => it![i] - box.pos[i] + low);
      return [Math.max(low, Math.floor(Math.min(...cells))), Math.min(high, Math.ceil(Math.max(...cells)))];
    };
    const [[x0, x1], [y0, y1]] = [span(0, box.x0, box.x1), span(1, box.y0, box.y1)];
    return { x0, x1, y0, y1 };
  }

  #value(block: Block, x: number, y: number): number | null {
    const [i, j] = [Math.floor(x / WINDOW), Math.floor(y / WINDOW)];
    const key = `${block.id}/${i}/${j}`;
    const nx = Math.min(WINDOW, block.size[0] - i * WINDOW);
    const known = this.#windows.get(key);
    if (known !== undefined) return known === null ? null : known[(y - j * WINDOW) * nx + x - i * WINDOW]!;
    if (this.#windows.size > KEPT) this.#windows.clear();
    this.#windows.set(key, null);
    const ny = Math.min(WINDOW, block.size[1] - j * WINDOW);
    this.source.numbers(this.run, this.step, block, i * WINDOW, j * WINDOW, nx, ny).then((found) => {
      this.#windows.set(key, found);
      this.onArrival();
    }, () => this.#windows.delete(key));
    return null;
  }
}
