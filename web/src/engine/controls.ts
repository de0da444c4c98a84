/**
 * Mouse and touch: what is under the cursor stays under it. Drag pans, right or shift drag turns, the wheel comes nearer;
 * one finger pans, two turn and pinch; a double click fits the block, and once it is fitted its group.
 *
 * This only says where the camera should be; whoever owns the pose sets `pose` and draws.
 */
import type { CameraPose, Vec3 } from "../types.ts";
import { add, dot, View } from "./camera.ts";
import type { Engine } from "./index.ts";
import { cellAt, onPlane } from "./pick.ts";

const TURN = 0.35; // degrees per px
const ZOOM = 0.0014; // per unit of the wheel
const STILL = 5; // px; less is a click and not a drag
const LONG = 500; // ms; a longer touch pins
const NEAREST = 2, FARTHEST = 1e7; // cells

interface Finger { x: number; y: number; startX: number; startY: number }

export class Controls {
  onChange: (pose: CameraPose) => void = () => {};
  onFly: (pose: CameraPose) => void = (pose) => this.onChange(pose); // there, but not at once
  onHover: (at: { x: number; y: number } | null) => void = () => {}; // css px of the canvas
  onPin: (at: { x: number; y: number }) => void = () => {};
  readonly #fingers = new Map<number, Finger>();
  #held: Vec3 | null = null; // the point of the world under the cursor
  #moved = false;
  #press = 0;
  #fitted: number | null = null; // the block of the last double click

  constructor(private readonly canvas: HTMLCanvasElement, private readonly engine: Engine, public pose: CameraPose) {
    canvas.style.touchAction = "none";
    for (const [type, listener] of this.#listeners) canvas.addEventListener(type, listener as EventListener, { passive: false });
  }

  dispose(): void {
    clearTimeout(this.#press);
    for (const [type, listener] of this.#listeners) this.canvas.removeEventListener(type, listener as EventListener);
  }

  readonly #down = (event: PointerEvent): void => {
    this.canvas.setPointerCapture(event.pointerId);
    const at = this.#at(event);
    this.#fingers.set(event.pointerId, { ...at, startX: at.x, startY: at.y });
    this.#moved = this.#fingers.size > 1;
    this.#held = this.#under(this.#middle());
    clearTimeout(this.#press);
    if (event.pointerType === "touch" && this.#fingers.size === 1) {
      this.#press = window.setTimeout(() => {
        this.#moved = true; // so that lifting the finger is not a tap
        this.onPin(at);
      }, LONG);
    }
  };

  readonly #move = (event: PointerEvent): void => {
    const at = this.#at(event);
    const finger = this.#fingers.get(event.pointerId);
    if (finger === undefined) {
      if (event.pointerType !== "touch") this.onHover(at);
      return;
    }
    if (!this.#moved && Math.hypot(at.x - finger.startX, at.y - finger.startY) < STILL) return;
    if (!this.#moved) this.onHover(null);
    this.#moved = true;
    clearTimeout(this.#press);
    const [before, spread] = [this.#middle(), this.#spread()];
    finger.x = at.x;
    finger.y = at.y;
    const after = this.#middle();
    const [dx, dy] = [after.x - before.x, after.y - before.y];
    const held = this.#held!;
    if (this.#fingers.size > 1) {
      this.#scale(spread / Math.max(this.#spread(), 1), held);
      this.#rotate(-dx * TURN, dy * TURN, held);
    } else if ((event.buttons & 6) !== 0 || event.shiftKey) this.#rotate(-dx * TURN, dy * TURN, held);
    else {
      const view = this.#view;
      const cells = -dot(add(held, view.eye, -1), view.back) / view.focal;
      this.#change({ center: add(add(this.pose.center, view.right, -dx * cells), view.up, dy * cells) });
    }
  };

  readonly #up = (event: PointerEvent): void => {
    clearTimeout(this.#press);
    const finger = this.#fingers.get(event.pointerId);
    this.#fingers.delete(event.pointerId);
    if (this.#fingers.size > 0) {
      this.#held = this.#under(this.#middle());
      return;
    }
    if (finger === undefined || this.#moved || event.type === "pointercancel") return;
    if (event.pointerType === "touch") this.onHover(finger);
    else if (event.button === 0) this.onPin(finger);
  };

  readonly #leave = (event: PointerEvent): void => {
    if (this.#fingers.size === 0 && event.pointerType !== "touch") this.onHover(null); // a tap stays
  };

  readonly #wheel = (event: WheelEvent): void => {
    event.preventDefault();
    const lines = event.deltaMode === 1 ? 33 : 1;
    this.#scale(Math.exp(Math.max(-400, Math.min(400, event.deltaY * lines)) * (event.ctrlKey ? 6 : 1) * ZOOM), this.#under(this.#at(event)));
  };

  readonly #double = (event: MouseEvent): void => {
    const { x, y } = this.#at(event);
    const found = this.engine.hit(x, y);
    if (found === null) {
      this.#fitted = null;
      this.onFly(this.engine.fit(null));
      return;
    }
    const { block } = found.box;
    const { block: id } = cellAt(found);
    const again = this.#fitted === id;
    this.#fitted = again ? null : id;
    const group = again ? this.engine.groupOf(block) : null;
    this.onFly(this.engine.fit(group ?? [{ block: id, x0: 0, y0: 0, x1: block.size[0], y1: block.size[1] }]));
  };

  readonly #menu = (event: Event): void => event.preventDefault();

  readonly #listeners = [
    ["pointerdown", this.#down], ["pointermove", this.#move], ["pointerup", this.#up], ["pointercancel", this.#up],
    ["pointerleave", this.#leave], ["wheel", this.#wheel], ["dblclick", this.#double], ["contextmenu", this.#menu],
  ] as const;

  get #view(): View { return new View(this.pose, this.canvas.clientWidth, this.canvas.clientHeight); }

  #at(event: MouseEvent): { x: number; y: number } {
    const { left, top } = this.canvas.getBoundingClientRect();
    return { x: event.clientX - left, y: event.clientY - top };
  }

  #middle(): { x: number; y: number } {
    const all = [...this.#fingers.values()];
    const mean = (axis: "x" | "y"): number => all.reduce((sum, it) => sum + it[axis], 0) / all.length;
    return { x: mean("x"), y: mean("y") };
  }

  #spread(): number {
    const [a, b] = [...this.#fingers.values()];
    return a === undefined || b === undefined ? 1 : Math.hypot(a.x - b.x, a.y - b.y);
  }

  #under({ x, y }: { x: number; y: number }): Vec3 {
    const found = this.engine.hit(x, y);
    const view = this.#view;
    return found?.at ?? onPlane(view, this.pose.center, view.ray(x, y));
  }

  /** Everything about a point grows or shrinks, so the point stays where it is in the picture. */
  #scale(factor: number, about: Vec3): void {
    const distance = Math.max(NEAREST, Math.min(FARTHEST, this.pose.distance * factor));
    const center = add(about, add(this.pose.center, about, -1), distance / this.pose.distance);
    this.#change({ center, distance });
  }

  #rotate(azimuth: number, elevation: number, about: Vec3): void {
    const turned: CameraPose = {
      ...this.pose, azimuth: this.pose.azimuth + azimuth,
      elevation: Math.max(-89, Math.min(89, this.pose.elevation + elevation)),
    };
    const [a, b] = [this.#view, new View(turned, this.canvas.clientWidth, this.canvas.clientHeight)];
    const arm = add(this.pose.center, about, -1);
    const [x, y, z] = [dot(arm, a.right), dot(arm, a.up), dot(arm, a.back)];
    turned.center = add(add(add(about, b.right, x), b.up, y), b.back, z);
    this.#change(turned);
  }

  #change(part: Partial<CameraPose>): void {
    this.pose = { ...this.pose, ...part };
    this.onChange(this.pose);
  }
}
