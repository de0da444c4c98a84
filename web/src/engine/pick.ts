/** What is under the cursor: a ray against the boxes of the last frame, in float64; 2,000 boxes take some ten microseconds. */
import { add, dot, type View } from "./camera.ts";
import type { Box } from "./detail.ts";
import type { Vec3 } from "../types.ts";

export interface Hit { box: Box; at: Vec3; distance: number }

const FAINT = 0.3; // boxes fainter than this let the cursor through
const SQUARE = 64; // px: boxes are looked for among those that reach into the same square of the picture

/** The boxes of a frame as rays from its eye meet them; labels cast hundreds a frame, so their bounds lie side by side. */
export class Rays {
  readonly #boxes: Box[];
  readonly #bounds: Float64Array; // of each box both ends along x, y and z, relative to the eye
  readonly #all: number[];
  readonly #squares: number[][] = [];
  readonly #columns: number;

  constructor(boxes: Box[], private readonly view: View) {
    const { eye } = view;
    this.#boxes = boxes.filter((it) => it.opacity >= FAINT && !it.ghost);
    this.#bounds = new Float64Array(this.#boxes.length * 6);
    this.#boxes.forEach(({ pos, x0, x1, y0, y1 }, i) => {
      const [x, y, z] = [pos[0] - eye[0], pos[1] - eye[1], pos[2] - eye[2]];
      this.#bounds.set([x, x + x1 - x0, y, y + y1 - y0, z, z + 1], i * 6);
    });
    this.#all = this.#boxes.map((_, i) => i);
    this.#columns = Math.ceil(view.width / SQUARE) || 1;
    const rows = Math.ceil(view.height / SQUARE) || 1;
    for (let n = 0; n < this.#columns * rows; n++) this.#squares.push([]);
    for (const i of this.#all) {
      const [left, right, top, bottom] = this.#seen(i);
      const last = Math.min(this.#columns - 1, Math.floor(right / SQUARE));
      for (let row = Math.max(0, Math.floor(top / SQUARE)); row <= Math.min(rows - 1, Math.floor(bottom / SQUARE)); row++) {
        for (let column = Math.max(0, Math.floor(left / SQUARE)); column <= last; column++) {
          this.#squares[row * this.#columns + column]!.push(i);
        }
      }
    }
  }

  /** The part of the picture that a box takes; all of it when the box reaches behind the eye. */
  #seen(i: number): [left: number, right: number, top: number, bottom: number] {
    const [bounds, view] = [this.#bounds, this.view];
    let [left, right, top, bottom] = [Infinity, -Infinity, Infinity, -Infinity];
    for (let corner = 0; corner < 8; corner++) {
      const [dx, dy, dz] = [bounds[i * 6 + (corner & 1)]!, bounds[i * 6 + 2 + ((corner >> 1) & 1)]!, bounds[i * 6 + 4 + (corner >> 2)]!];
      const { x, y, depth } = view.project(add(view.eye, [dx, dy, dz]));
      if (depth <= 0) return [0, view.width, 0, view.height];
      [left, right, top, bottom] = [Math.min(left, x), Math.max(right, x), Math.min(top, y), Math.max(bottom, y)];
    }
    return [left, right, top, bottom];
  }

  #near(direction: Vec3): number[] {
    const { x, y, depth } = this.view.project(add(this.view.eye, direction));
    if (depth <= 0 || x < 0 || y < 0 || x >= this.view.width || y >= this.view.height) return this.#all;
    return this.#squares[Math.floor(y / SQUARE) * this.#columns + Math.floor(x / SQUARE)]!;
  }

  /** The first box in a direction, up to so many times its length away. */
  hit(direction: Vec3, until = Infinity): Hit | null {
    const bounds = this.#bounds;
    let [found, nearest] = [-1, until];
    const [ix, iy, iz] = [1 / (direction[0] || 1e-30), 1 / (direction[1] || 1e-30), 1 / (direction[2] || 1e-30)];
    for (const n of this.#near(direction)) {
      const i = n * 6;
      const x0 = bounds[i]! * ix, x1 = bounds[i + 1]! * ix;
      const y0 = bounds[i + 2]! * iy, y1 = bounds[i + 3]! * iy;
      const z0 = bounds[i + 4]! * iz, z1 = bounds[i + 5]! * iz;
      const enter = Math.max(0, Math.min(x0, x1), Math.min(y0, y1), Math.min(z0, z1));
      const leave = Math.min(nearest, Math.max(x0, x1), Math.max(y0, y1), Math.max(z0, z1));
      if (enter < leave) [found, nearest] = [n, enter];
    }
    return found < 0 ? null : { box: this.#boxes[found]!, at: add(this.view.eye, direction, nearest), distance: nearest };
  }
}

/** The cell at a point of a box. */
export const cellAt = ({ box, at }: Hit): { block: number; x: number; y: number } => {
  const clamp = (v: number, low: number, high: number): number => Math.max(low, Math.min(high - 1, Math.floor(v)));
  return {
    block: box.block.id,
    x: clamp(box.x0 + at[0] - box.pos[0], box.x0, box.x1),
    y: clamp(box.y0 + at[1] - box.pos[1], box.y0, box.y1),
  };
};

/** Where a ray meets the plane through a point that faces the eye; for drags that begin beside the model. */
export const onPlane = (view: View, through: Vec3, direction: Vec3): Vec3 => {
  const t = dot(add(through, view.eye, -1), view.back) / dot(direction, view.back);
  return add(view.eye, direction, t);
};
