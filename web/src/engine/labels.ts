/**
 * Names in the scene. Each wants a place; the more important ones get theirs first and none may overlap another, so that
 * the picture says as much as can be read and not more. Words are upright and of constant size: they are read, not flown
 * past.
 */
import { add, type View } from "./camera.ts";
import type { Batch } from "./batch.ts";
import type { Glyphs, Style } from "./glyphs.ts";
import { straight } from "./lines.ts";
import { LEGIBLE } from "./numbers.ts";
import { dimensionColor, type Palette, PALETTES, rgb, roleOf, type Theme } from "./palette.ts";
import type { Rays } from "./pick.ts";
import type { Block, Group, Scene, Stage, Text, Token, Vec3 } from "../types.ts";

interface Rect { x0: number; y0: number; x1: number; y1: number }
interface Anchor { at: Vec3; owner: number; clear: boolean } // clear: not to be written on other blocks
type Align = 0 | 0.5 | 1; // of the text along x to its anchor

export class Labels {
  readonly #placed: Rect[] = [];
  #view!: View;
  #glyphs!: Glyphs;
  #lines!: Batch;
  #rays!: Rays;

  constructor(private readonly scene: Scene) {}

  draw(
    view: View, glyphs: Glyphs, lines: Batch, rays: Rays, groups: Group[], blocks: Map<number, number>, stage: Stage,
    theme: Theme, language: keyof Text,
  ): void {
    this.#placed.length = 0;
    [this.#view, this.#glyphs, this.#lines, this.#rays] = [view, glyphs, lines, rays];
    const palette = PALETTES[theme];
    const pointed = new Set(stage.glows.filter((it) => it.color === "focus").map((it) => it.block));
    for (const note of stage.notes) {
      const at = view.project(note.at);
      if (at.depth > 0) this.#text(note.text, at.x, at.y, (note.align ?? 0.5) as Align, { size: note.size, color: rgb(palette.ink) }, null);
    }
    const sized = [...blocks].map(([id, opacity]) => {
      const block = this.scene.blocks[id]!;
      const offset = stage.offset.get(id);
      const pos = offset === undefined ? block.pos : add(block.pos, offset);
      const cell = view.focal / Math.max(view.project(add(pos, [block.size[0] / 2, block.size[1] / 2, 1])).depth, 1);
      const weight = opacity * cell * Math.sqrt(block.size[0] * block.size[1]) + (pointed.has(id) ? 1e6 : 0);
      return { block, pos, opacity, cell, weight };
    }).filter((it) => it.opacity > 0.25 && it.cell * Math.max(...it.block.size) > 26).sort((a, b) => b.weight - a.weight);

    this.#title(groups, palette);
    this.#brackets(groups, palette, language);
    for (const { block, pos, opacity, cell } of sized.slice(0, 160)) {
      if (opacity > 0.6) this.#tokens(block, pos, cell, palette.ink);
      this.#name(block, pos, cell, opacity, pointed.has(block.id), language, palette.roles[roleOf(block)].ink);
    }
    for (const group of groups) this.#corner(group, palette, language);
    for (const { block, pos, opacity, cell } of sized.slice(0, 24)) {
      if (opacity > 0.6) this.#dimensions(block, pos, cell, pointed.has(block.id), theme);
    }
  }

  /** Claims a place and writes there, unless something else has it or `owner`'s anchor is hidden by another block. */
  #text(text: string, x: number, y: number, align: Align, style: Style, anchor: Anchor | null): boolean {
    const width = this.#glyphs.width(text, style.size, style.bold);
    const left = x - width * align;
    if (left < 0 || left + width > this.#view.width) return false; // half a word is none
    const rect = { x0: left - 2, y0: y - style.size, x1: left + width + 2, y1: y + style.size * 0.3 };
    if (!this.#claim(rect, anchor)) return false;
    this.#glyphs.write(text, left, y, style);
    return true;
  }

  #claim(rect: Rect, anchor: Anchor | null): boolean {
    const { width, height, eye } = this.#view;
    if (rect.x1 < 0 || rect.y1 < 0 || rect.x0 > width || rect.y0 > height) return false;
    const free = this.#placed.every((it) => rect.x1 < it.x0 || it.x1 < rect.x0 || rect.y1 < it.y0 || it.y1 < rect.y0);
    if (!free) return false;
    if (anchor !== null) {
      const before = this.#rays.hit(add(anchor.at, eye, -1), 0.998);
      if (before !== null && before.box.block.id !== anchor.owner) return false;
      const y = (rect.y0 + rect.y1) / 2;
      if (anchor.clear && [0, 0.25, 0.5, 0.75, 1].some((part) => {
        const found = this.#rays.hit(this.#view.ray(rect.x0 + (rect.x1 - rect.x0) * part, y));
        return found !== null && found.box.block.id !== anchor.owner;
      })) return false;
    }
    this.#placed.push(rect);
    return true;
  }

  /** Above a block or below it where that is free, else on it. */
  #name(block: Block, pos: Vec3, cell: number, opacity: number, pointed: boolean, language: keyof Text, color: string): void {
    const text = block.label[language];
    const [nx, ny] = block.size;
    const style = { size: 12, color: rgb(color), alpha: Math.min(1, opacity + 0.2) };
    const width = this.#glyphs.width(text, style.size);
    if (!pointed && cell * nx < width * 0.4) return; // too small to be named
    const [left, right, low] = ([[0, 0], [nx, 0], [0, ny]] as const).map(([x, y]) => this.#view.project(add(pos, [x, y, 1])));
    if (left!.depth <= 0 || right!.depth <= 0 || low!.depth <= 0) return;
    const [wide, tall] = [Math.hypot(right!.x - left!.x, right!.y - left!.y), Math.hypot(low!.x - left!.x, low!.y - left!.y)];
    const row = this.#above.get(block.id) ?? 0;
    const places: [Vec3, number, boolean][] = [[[nx / 2, 0, 1], -6 - row, true], [[nx / 2, ny, 1], 15, true]];
    if (pointed || cell >= LEGIBLE) places.push([[nx / 2, 0, 1], -6 - row, false]);
    else if (wide > width * 1.1 && tall > 30) places.push([[nx / 2, ny / 2, 1], 4, false]);
    for (const [corner, down, clear] of places) {
      const at = add(pos, corner);
      const { x, y } = this.#view.project(at);
      const inside = down > 0 && down < 15;
      const look = { ...style, halo: inside ? 1 : 0.85, bold: inside };
      if (this.#text(text, x, y + down, 0.5, look, { at, owner: block.id, clear })) return;
    }
  }

  /** How many px of token texts stand above a block. */
  readonly #above = new Map<number, number>();

  /** Token texts over the columns of positions and beside the rows of keys. */
  #tokens(block: Block, pos: Vec3, cell: number, ink: string): void {
    this.#above.delete(block.id);
    if (cell < 10) return;
    const size = Math.min(15, Math.max(10, cell * 0.45));
    const style: Style = { size, color: rgb(ink), bold: true };
    const tokens = tokensOf(this.scene, block, 0);
    if (tokens.length > 0) {
      const widest = Math.max(...tokens.map((it) => this.#glyphs.width(visible(it.text), size, true)));
      const turned = widest > cell * 0.95;
      const ends = [0, block.size[0]].map((x) => this.#view.project(add(pos, [x, 0, 1])));
      const tall = turned ? widest * 0.72 + size : size * 1.3;
      const rect = { x0: ends[0]!.x, x1: ends[1]!.x, y0: Math.min(ends[0]!.y, ends[1]!.y) - tall - 4, y1: Math.max(ends[0]!.y, ends[1]!.y) - 2 };
      if (rect.x1 > rect.x0 && this.#claim(rect, { at: add(pos, [block.size[0] / 2, 0, 1]), owner: block.id, clear: cell < 24 })) {
        this.#above.set(block.id, tall + 2);
        tokens.forEach(({ text }, i) => {
          const at = this.#view.project(add(pos, [i + 0.5, 0, 1]));
          const word = visible(text);
          const start = turned ? at.x + size * 0.3 : at.x - this.#glyphs.width(word, size, true) / 2;
          if (at.depth > 0) this.#glyphs.write(word, start, at.y - 5, { ...style, turn: turned ? -45 : 0 });
        });
      }
    }
    if (cell >= 12) {
      tokensOf(this.scene, block, 1).forEach(({ text }, i) => {
        const corner = add(pos, [0, i + 0.5, 1]);
        const at = this.#view.project(corner);
        if (at.depth > 0) this.#text(visible(text), at.x - 6, at.y + size * 0.36, 1, style, { at: corner, owner: block.id, clear: cell < 24 });
      });
    }
  }

  /** |—— T = 6 ——| above and |—— C = 48 ——| to the left of blocks that are large enough. */
  #dimensions(block: Block, pos: Vec3, cell: number, pointed: boolean, theme: Theme): void {
    const [nx, ny] = block.size;
    const sides: [0 | 1, Vec3, Vec3, Vec3][] = [
      [0, [0, ny, 1], [nx, ny, 1], [0, 10 / cell, 0]], [1, [0, 0, 1], [0, ny, 1], [-10 / cell, 0, 0]],
    ];
    for (const [axis, from, to, away] of sides) {
      const letter = block.axes[axis];
      if (letter === "" || block.size[axis] < 2) continue;
      const [a, b] = [add(add(pos, from), away), add(add(pos, to), away)];
      const [start, end] = [this.#view.project(a), this.#view.project(b)];
      if (start.depth <= 0 || end.depth <= 0 || Math.hypot(end.x - start.x, end.y - start.y) < (pointed ? 30 : 110)) continue;
      const color = dimensionColor(letter, theme);
      const style = { size: 11, bold: true, color: rgb(color) };
      const middle = add(a, add(b, a, -1), 0.5);
      const at = this.#view.project(middle);
      const [n, first] = [block.size[axis], block.start?.[axis] ?? 0];
      const text = n < this.scene.sizes[letter]! ? `${letter} ${first}…${first + n - 1}` : `${letter} = ${n}`; // a part
      const anchor = { at: middle, owner: block.id, clear: !pointed };
      const [x, y, align] = axis === 0 ? [at.x, at.y + 16, 0.5 as Align] : [at.x - 8, at.y + 4, 1 as Align];
      if (!this.#text(text, x, y, align, style, anchor)) continue;
      const tick = add([0, 0, 0], away, 0.4);
      for (const [p, q] of [[a, b], [add(a, tick), add(a, tick, -1)], [add(b, tick), add(b, tick, -1)]] as const) {
        straight(this.#lines, this.#view, p, q, { width: 1.2, color, alpha: 0.8 });
      }
    }
  }

  /** The model's name over all of it. */
  #title(groups: Group[], palette: Palette): void {
    const model = groups.find((it) => it.role === "model");
    if (model === undefined) return;
    const at = this.#view.project([(model.min[0] + model.max[0]) / 2, model.min[1], model.max[2]]);
    const y = at.y - 24;
    if (at.depth <= 0 || y < 20) return;
    this.#text(this.scene.model.name, at.x, y, 0.5, { size: 18, bold: true, color: rgb(palette.ink) }, null);
  }

  /** A bracket along the left side of each layer, and its name, which stays in the picture. */
  #brackets(groups: Group[], palette: Palette, language: keyof Text): void {
    const view = this.#view;
    const layers = groups.filter((it) => it.role === "layer");
    for (const [i, group] of layers.entries()) {
      const next = layers[i + 1];
      const below = next !== undefined && next.min[0] < group.max[0] && next.min[1] > group.min[1];
      const middle = add(group.min, add(group.max, group.min, -1), 0.5);
      const px = Math.max(view.project(middle).depth, 1) / view.focal; // cells
      const x = group.min[0] - 22 * px;
      const bottom = Math.min(group.max[1], below ? next.min[1] - 2 : Infinity);
      const [a, b]: [Vec3, Vec3] = [[x, group.min[1], group.max[2]], [x, bottom, group.max[2]]];
      const [start, end] = [view.project(a), view.project(b)];
      if (start.depth <= 0 || end.depth <= 0 || Math.hypot(end.x - start.x, end.y - start.y) < 26) continue;
      if (end.y < 10 || start.y > view.height - 10) continue;
      const y = (Math.max(24, start.y) + Math.min(view.height - 24, end.y)) / 2;
      const at = start.x + ((end.x - start.x) * (y - start.y)) / (end.y - start.y || 1);
      const beside = { at: add(a, add(b, a, -1), 0.5), owner: -1, clear: true };
      const written = [15, 11].some((size) =>
        this.#text(group.label[language], at - 12, y + size / 3, 1, { size, bold: true, color: rgb(palette.ink) }, beside));
      if (!written) continue;
      const tick: Vec3 = [8 * px, 0, 0];
      for (const [p, q] of [[a, b], [a, add(a, tick)], [b, add(b, tick)]] as const) {
        straight(this.#lines, view, p, q, { width: 1.6, color: palette.muted, alpha: 0.75 });
      }
    }
  }

  #corner(group: Group, palette: Palette, language: keyof Text): void {
    if (group.role === "model" || group.role === "layer") return;
    const corner: Vec3 = [group.min[0], group.min[1], group.max[2]];
    const at = this.#view.project(corner);
    const end = this.#view.project([group.max[0], group.max[1], group.max[2]]);
    if (at.depth <= 0 || Math.hypot(end.x - at.x, end.y - at.y) < 70) return;
    const text = group.label[language];
    const style = { size: 13, bold: true, color: rgb(palette.muted) };
    this.#text(text, at.x, at.y - 8, 0, style, { at: corner, owner: -1, clear: true });
  }
}

/** The tokens over a block (0) or beside it (1): of the source along N, of the text along T, or S for keys. */
const tokensOf = ({ source, tokens }: Scene, { axes, size, start = [0, 0] }: Block, side: 0 | 1): Token[] => {
  const all = axes[side] === "N" ? source : axes[side] === "TS"[side] ? tokens : [];
  const found = all.slice(start[side], start[side] + size[side]);
  return found.length === size[side] ? found : [];
};

/** Spaces and line ends as signs that can be seen. */
const visible = (text: string): string => text.replaceAll(" ", "␣").replaceAll("\n", "⏎").replaceAll("\t", "⇥");
