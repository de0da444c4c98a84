/**
 * Where the eye is and what it sees. World: x right, y down, z towards the viewer; all in float64, and only differences
 * to the eye are ever sent to the graphics card, so that a model a million cells tall does not tremble.
 */
import type { CameraPose, Vec3 } from "../types.ts";

const TAN = Math.tan((34 / 2) * (Math.PI / 180)); // half the vertical angle of view

export const add = (a: Vec3, b: Vec3, s = 1): Vec3 => [a[0] + b[0] * s, a[1] + b[1] * s, a[2] + b[2] * s];
export const dot = (a: Vec3, b: Vec3): number => a[0] * b[0] + a[1] * b[1] + a[2] * b[2];
export interface Point { x: number; y: number; depth: number } // css pixels; depth > 0 is before the eye

export class View {
  readonly eye: Vec3;
  readonly right: Vec3;
  readonly up: Vec3;
  readonly back: Vec3; // towards the viewer
  readonly focal: number; // css pixels that one cell takes at distance 1
  readonly matrix = new Float32Array(16);

  constructor(readonly pose: CameraPose, readonly width: number, readonly height: number) {
    const [a, e] = [(pose.azimuth * Math.PI) / 180, (pose.elevation * Math.PI) / 180];
    const [sa, ca, se, ce] = [Math.sin(a), Math.cos(a), Math.sin(e), Math.cos(e)];
    this.back = [sa * ce, -se, ca * ce];
    this.right = [ca, 0, -sa];
    this.up = [-sa * se, -ce, -ca * se];
    this.eye = add(pose.center, this.back, pose.distance);
    this.focal = height / 2 / TAN;
  }

  /** Fits the depth buffer to what is visible; takes positions relative to the eye. */
  setDepth(near: number, far: number): void {
    const [x, y] = [(2 * this.focal) / this.width, (2 * this.focal) / this.height];
    const [s, o] = [(far + near) / (far - near), (-2 * far * near) / (far - near)];
    for (const i of [0, 1, 2] as const) {
      this.matrix.set([this.right[i] * x, this.up[i] * y, -this.back[i] * s, -this.back[i]], i * 4);
    }
    this.matrix.set([0, 0, o, 0], 12);
  }

  project(at: Vec3): Point {
    const v = add(at, this.eye, -1);
    const depth = -dot(v, this.back);
    const scale = this.focal / Math.max(depth, 1e-6);
    return { x: this.width / 2 + dot(v, this.right) * scale, y: this.height / 2 - dot(v, this.up) * scale, depth };
  }

  /** The direction through a pixel, of depth 1. */
  ray(x: number, y: number): Vec3 {
    const [px, py] = [(x - this.width / 2) / this.focal, (this.height / 2 - y) / this.focal];
    return [0, 1, 2].map((i) => this.right[i as 0] * px + this.up[i as 0] * py - this.back[i as 0]) as Vec3;
  }

  /** Is any of a sphere before the eye and inside the picture? */
  sees(center: Vec3, radius: number): boolean {
    const v = add(center, this.eye, -1);
    const depth = -dot(v, this.back);
    if (depth < -radius) return false;
    const across = (size: number, along: number): boolean => {
      const slope = size / 2 / this.focal;
      return Math.abs(along) - depth * slope < radius * Math.hypot(1, slope);
    };
    return across(this.width, dot(v, this.right)) && across(this.height, dot(v, this.up));
  }
}

/** The nearest pose of that direction from which a whole box is seen, with a margin as a part of the picture. */
export const fitBox = (
  min: Vec3, max: Vec3, azimuth: number, elevation: number, width: number, height: number, margin: number,
): CameraPose => {
  const center: Vec3 = [(min[0] + max[0]) / 2, (min[1] + max[1]) / 2, (min[2] + max[2]) / 2];
  const view = new View({ center, azimuth, elevation, distance: 1 }, width, height);
  const room = 1 - Math.min(0.9, 2 * margin);
  const [x, y] = [(width / 2 / view.focal) * room, (height / 2 / view.focal) * room];
  let distance = 2;
  for (let corner = 0; corner < 8; corner++) {
    const half = [0, 1, 2].map((i) => (((corner >> i) & 1 ? 1 : -1) * (max[i as 0] - min[i as 0])) / 2) as Vec3;
    const towards = dot(half, view.back);
    distance = Math.max(
      distance, Math.abs(dot(half, view.right)) / x + towards, Math.abs(dot(half, view.up)) / y + towards,
    );
  }
  return { center, azimuth, elevation, distance };
};
