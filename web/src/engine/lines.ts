/** Curves of the scene: the residual stream as a ribbon as wide as its RMS, arrows between blocks, arcs of attention. */
import { add, type View } from "./camera.ts";
import type { Batch } from "./batch.ts";
import { type Palette, rgb } from "./palette.ts";
import type { Arc, Block, Cells, DataSource, Scene, Stage, Vec3 } from "../types.ts";

interface Pen { width: number; color: string; alpha: number; cells?: boolean; head?: number }

/** One more cubic curve; positions in the world, widths in css px unless `cells`. */
export const curve = (batch: Batch, view: View, points: [Vec3, Vec3, Vec3, Vec3], pen: Pen): void => {
  const at = batch.add();
  if (at < 0) return;
  const fourth = [pen.width, pen.cells === true ? 1 : 0, pen.head ?? 0, 0];
  points.forEach((point, i) => batch.data.set([...add(point, view.eye, -1), fourth[i]!], at + 4 * i));
  batch.data.set([...rgb(pen.color), pen.alpha], at + 16);
};

export const straight = (batch: Batch, view: View, a: Vec3, b: Vec3, pen: Pen): void =>
  curve(batch, view, [a, add(a, add(b, a, -1), 1 / 3), add(a, add(b, a, -1), 2 / 3), b], pen);

/** Where an arrow leaves one box and reaches another: across the widest gap, straight where they face each other. */
const join = (a: Block, aPos: Vec3, b: Block, bPos: Vec3): [Vec3, Vec3, Vec3, Vec3] => {
  const size = (block: Block, i: number): number => (i === 2 ? 1 : block.size[i as 0]);
  const gap = (i: 0 | 1 | 2): number => Math.max(bPos[i] - aPos[i] - size(a, i), aPos[i] - bPos[i] - size(b, i));
  const axis = ([0, 1, 2] as const).reduce((best, i) => (gap(i) > gap(best) ? i : best), 1 as 0 | 1 | 2);
  const forward = bPos[axis] > aPos[axis];
  const [p, r]: Vec3[] = [[0, 0, 0], [0, 0, 0]] as [Vec3, Vec3];
  for (const i of [0, 1, 2] as const) {
    const [low, high] = [Math.max(aPos[i], bPos[i]), Math.min(aPos[i] + size(a, i), bPos[i] + size(b, i))];
    if (i === axis) {
      p![i] = aPos[i] + (forward ? size(a, i) : 0);
      r![i] = bPos[i] + (forward ? 0 : size(b, i));
    } else if (low < high) p![i] = r![i] = (low + high) / 2;
    else {
      p![i] = aPos[i] + size(a, i) / 2;
      r![i] = bPos[i] + size(b, i) / 2;
    }
  }
  const bend: Vec3 = [0, 0, 0];
  bend[axis] = (r![axis] - p![axis]) * 0.5;
  return [p!, add(p!, bend), add(r!, bend, -1), r!];
};

export class Lines {
  readonly #rms: (number | null)[];

  constructor(private readonly scene: Scene, source: DataSource, run: number, step: number, onArrival: () => void) {
    this.#rms = scene.stream.map(() => null);
    scene.stream.forEach((id, i) => {
      const block = scene.blocks[id]!;
      if (block.tensor < 0) return;
      const level = Math.ceil(Math.log2(Math.max(...block.size))); // of which one texel is the whole block
      source.tile(run, step, block, level, 0, 0).then(({ rms }) => {
        this.#rms[i] = rms[0] ?? null;
        onArrival();
      }, () => {});
    });
  }

  /** What stands between the blocks and is hidden by them. */
  draw(batch: Batch, view: View, stage: Stage, opacity: (block: Block) => number, shown: Map<number, number>, palette: Palette): void {
    const place = (block: Block): Vec3 => {
      const offset = stage.offset.get(block.id);
      return offset === undefined ? block.pos : add(block.pos, offset);
    };
    const most = Math.max(1e-30, ...this.#rms.map((it) => it ?? 0));
    this.scene.stream.slice(1).forEach((id, i) => {
      const [a, b] = [this.scene.blocks[this.scene.stream[i]!]!, this.scene.blocks[id]!];
      const [aPos, bPos] = [place(a), place(b)];
      const rms = this.#rms[i] ?? null;
      const width = a.size[0] * (rms === null ? 0.3 : 0.12 + 0.83 * (rms / most));
      const alpha = 0.42 * Math.min(opacity(a), opacity(b));
      const middle = (block: Block, pos: Vec3, end: number): Vec3 => [pos[0] + block.size[0] / 2, pos[1] + end, pos[2] - 0.5];
      straight(batch, view, middle(a, aPos, a.size[1]), middle(b, bPos, 0), { width, cells: true, color: palette.stream, alpha });
    });
    const stream = new Set(this.scene.stream);
    for (const { from, to, kind } of this.scene.arrows) {
      const alpha = Math.min(shown.get(from) ?? 0, shown.get(to) ?? 0);
      if (alpha < 0.02 || (kind === "residual" && stream.has(from) && stream.has(to))) continue;
      const [a, b] = [this.scene.blocks[from]!, this.scene.blocks[to]!];
      const points = join(a, place(a), b, place(b));
      const [start, end] = [view.project(points[0]), view.project(points[3])];
      if (start.depth < 0 && end.depth < 0) continue;
      const reach = Math.hypot(end.x - start.x, end.y - start.y);
      if (reach < 3) continue;
      const cell = view.focal / Math.max(end.depth, start.depth, 1);
      const width = Math.max(1, Math.min(3.5, cell * 0.5)) * (kind === "residual" ? 1.5 : 1);
      const head = reach > 10 ? Math.min(4 + 3 * width, reach * 0.6) : 0;
      curve(batch, view, points, { width, head, color: palette.arrow[kind], alpha: alpha * (cell < 0.4 ? 0.35 : 0.6) });
    }
  }

  /** Arcs, over everything: between columns of one level above them, else in a bow towards the viewer. */
  arcs(batch: Batch, view: View, arcs: Arc[], center: (cells: Cells) => Vec3, palette: Palette): void {
    const tone = palette.roles.computed;
    for (const { from, to, weight, sign } of arcs) {
      const [a, b] = [center(from), center(to)];
      const far = Math.hypot(...add(a, b, -1));
      const level = a[1] === b[1];
      if (level) a[1] = b[1] -= Math.max(from.y1 - from.y0, 1) / 2;
      const lift: Vec3 = level ? [0, (from.block === to.block ? -0.65 : -0.2) * far - 1, 0.2 * far] : [0, 0, 0.45 * far + 2];
      curve(batch, view, [a, add(a, lift), add(b, lift), b], {
        width: 1 + 6 * weight, color: sign < 0 ? tone.minus : tone.plus, alpha: 0.3 + 0.65 * weight,
      });
    }
  }
}
