/**
 * The engine draws a scene as it is at a moment: `draw` is a pure function of scene, stage and camera (and of the tiles that
 * have arrived). Every frame the boxes are chosen anew, their records written, and a handful of draw calls made.
 */
import type { Block, CameraPose, Cells, DataSource, Group, Scene, Stage, Text, Vec3 } from "../types.ts";
import { Atlas } from "./atlas.ts";
import { Batch } from "./batch.ts";
import { add, fitBox, View } from "./camera.ts";
import { type Box, Detail, MAX_BOXES } from "./detail.ts";
import { Glyphs } from "./glyphs.ts";
import { Labels } from "./labels.ts";
import { Lines } from "./lines.ts";
import { LEGIBLE, Numbers } from "./numbers.ts";
import { PALETTES, rgb, ROLES, roleOf, type Theme } from "./palette.ts";
import { cellAt, type Hit, Rays } from "./pick.ts";
import * as shaders from "./shaders.ts";

export type From = "front" | "left" | "right" | "above" | "angle";
const DIRECTIONS: Record<From, [azimuth: number, elevation: number]> = {
  front: [0, 0], left: [-62, 12], right: [62, 12], above: [0, 62], angle: [-28, 16],
};
const MASKED = 1, HATCHED = 2, GHOST = 4; // as in the shader
const SMALL = 4.5; // css px per cell; smaller ones have no disc
const pairs = (n: number): number[] => Array.from({ length: n }, (_, i) => [0, 1, 2, 2, 1, 3].map((k) => 2 * i + k)).flat();

/** What lives on the graphics card and is lost with it. */
interface Card { boxes: Batch; curves: Batch; glows: Batch; glyphs: Glyphs }
/** What belongs to one scene. */
interface Shown { scene: Scene; run: number; step: number; atlas: Atlas; detail: Detail; lines: Lines; labels: Labels; numbers: Numbers }

export class Engine {
  onNeedsFrame: () => void = () => {};
  onLost: () => void = () => {};
  onRestored: () => void = () => {};
  lost = false;
  readonly renderer: string;
  readonly #gl: WebGL2RenderingContext;
  #card!: Card;
  #shown: Shown | null = null;
  #view = new View({ center: [0, 0, 0], azimuth: -28, elevation: 16, distance: 100 }, 1, 1);
  #boxes: Box[] = [];
  #rays = new Rays([], this.#view);
  #theme: Theme = "light";
  #language: keyof Text = "en";
  #head: number | null = null;
  #pixel = 1; // device pixels per css px
  #patience = 0; // until when a new scene may wait for its tiles
  #drawCalls = 0;
  #cpuMs = 0;

  constructor(private readonly canvas: HTMLCanvasElement, private readonly source: DataSource) {
    const options = { alpha: false, antialias: hasCard(), powerPreference: "high-performance" } as const;
    const gl = canvas.getContext("webgl2", options) as WebGL2RenderingContext | null;
    if (gl === null) throw new Error("This browser has no WebGL 2, which the scene is drawn with.");
    this.#gl = gl;
    this.renderer = rendererOf(gl);
    canvas.addEventListener("webglcontextlost", this.#lose);
    canvas.addEventListener("webglcontextrestored", this.#restore);
    this.resize();
    this.#build();
  }

  setScene(scene: Scene, run: number, step: number): void {
    if (this.#boxes.length > 0) this.#patience = performance.now() + 300;
    setTimeout(this.#need, 310);
    this.#boxes = [];
    this.#rays = new Rays([], this.#view); // what is picked until the next frame must not be the old scene's
    this.#shown?.atlas.dispose();
    const atlas = new Atlas(this.#gl, this.source, scene, run, step);
    atlas.onArrival = this.#need;
    this.#shown = {
      scene, run, step, atlas,
      detail: new Detail(scene, atlas),
      lines: new Lines(scene, this.source, run, step, this.#need),
      labels: new Labels(scene),
      numbers: new Numbers(this.source, run, step, this.#need),
    };
    this.#need();
  }

  setTheme(theme: Theme): void { this.#need(this.#theme = theme); }
  setLanguage(language: keyof Text): void { this.#need(this.#language = language); }
  /** Only this head stands out; null: all. */
  setHead(head: number | null): void { this.#need(this.#head = head); }

  resize(): void {
    const pixel = density();
    if (pixel !== this.#pixel && this.#card) this.#card.glyphs = this.#card.glyphs.remade(pixel);
    this.#pixel = pixel;
    const [width, height] = [this.canvas.clientWidth || 1, this.canvas.clientHeight || 1];
    this.canvas.width = Math.round(width * this.#pixel);
    this.canvas.height = Math.round(height * this.#pixel);
    this.#view = new View(this.#view.pose, width, height);
    this.#gl.clearColor(...rgb(PALETTES[this.#theme].paper), 1);
    this.#gl.clear(this.#gl.COLOR_BUFFER_BIT); // a new canvas is black
    this.#need();
  }

  draw(stage: Stage, camera: CameraPose): void {
    const started = performance.now();
    const [gl, card, shown] = [this.#gl, this.#card, this.#shown];
    if (this.lost) return;
    if (density() !== this.#pixel) this.resize(); // zoomed, or on another screen, where the canvas has the same size
    const palette = PALETTES[this.#theme];
    const view = (this.#view = new View(camera, this.canvas.width / this.#pixel, this.canvas.height / this.#pixel));
    const { boxes, curves, glows, glyphs } = card;
    for (const batch of [boxes, curves, glows, glyphs.batch]) batch.count = 0;
    this.#drawCalls = 0;
    gl.viewport(0, 0, this.canvas.width, this.canvas.height);
    gl.clearColor(...rgb(palette.paper), 1);
    gl.depthMask(true);
    if (shown === null) return gl.clear(gl.COLOR_BUFFER_BIT | gl.DEPTH_BUFFER_BIT);

    const { scene, atlas, detail, lines, labels, numbers } = shown;
    atlas.begin();
    detail.choose(view, stage, this.#head);
    this.#boxes = detail.boxes;
    const waits = this.#boxes.some((it) => it.region === null && it.block.tensor >= 0);
    if (started < this.#patience && waits) return; // the picture of the scene before stays until this one's tiles are there
    this.#patience = 0;
    gl.clear(gl.COLOR_BUFFER_BIT | gl.DEPTH_BUFFER_BIT);
    const far = Math.max(10, ...this.#boxes.map((it) => it.distance + Math.hypot(it.x1 - it.x0, it.y1 - it.y0, 1)));
    view.setDepth(Math.max(0.1, far * 1e-5, 0.5 * Math.min(...this.#boxes.map((it) => it.distance))), far * 1.5);

    const flying = this.#flights(stage, detail);
    const kinds: Box[][] = [[], [], [], []]; // as the variants of their shader, and the translucent ones
    for (const box of [...this.#boxes, ...flying]) {
      const odd = box.region === null ? scene.model.shapes_only || box.block.tensor < 0 : box.region.odd;
      kinds[box.opacity < 0.99 || box.ghost ? 3 : odd ? 2 : view.focal / box.distance > SMALL ? 1 : 0]!.push(box);
    }
    kinds[3]!.reverse(); // the farthest first
    const ends = kinds.map((kind) => {
      for (const box of kind) this.#record(box, scene, view);
      return boxes.count;
    });
    lines.draw(curves, view, stage, (block) => detail.opacity(block, stage), detail.visibleBlocks, palette);
    const hidden = curves.count;
    lines.arcs(curves, view, stage.arcs, (cells) => this.center(cells, stage), palette);
    this.#glow(stage, palette.glow);
    this.#rays = new Rays(this.#boxes, view);
    numbers.draw(view, this.#boxes, this.#rays, glyphs, rgb(palette.ink));
    labels.draw(view, glyphs, curves, this.#rays, detail.visibleGroups, detail.visibleBlocks, stage, this.#theme, this.#language);
    glyphs.upload();

    atlas.bind();
    glyphs.bind();
    const size = [this.canvas.width, this.canvas.height];
    const common = { matrix: view.matrix, size, pixel: this.#pixel, focal: view.focal * this.#pixel };
    const tones = new Float32Array(ROLES.flatMap((role) => Object.values(palette.roles[role]).flatMap(rgb)));
    boxes.prepare({ ...common, tiles: 1, tones, paper: rgb(palette.paper), numbers: LEGIBLE });
    curves.prepare(common);
    glows.prepare({ ...common, through: 0.22 });
    glyphs.batch.prepare({ size, glyphs: 2, behind: rgb(palette.halo) });
    gl.enable(gl.DEPTH_TEST);
    gl.disable(gl.BLEND);
    [0, 1, 2].forEach((variant) => this.#call(boxes, ends[variant - 1] ?? 0, ends[variant]!, variant));
    gl.enable(gl.BLEND);
    gl.blendFunc(gl.SRC_ALPHA, gl.ONE_MINUS_SRC_ALPHA);
    gl.depthMask(false);
    this.#call(curves, 0, hidden);
    this.#call(boxes, ends[2]!, ends[3]!, 2);
    gl.disable(gl.DEPTH_TEST);
    this.#call(glows, 0, glows.count);
    gl.enable(gl.DEPTH_TEST);
    glows.prepare({ through: 1 });
    this.#call(glows, 0, glows.count);
    gl.disable(gl.DEPTH_TEST);
    this.#call(curves, hidden, curves.count);
    this.#call(glyphs.batch, 0, glyphs.batch.count);
    this.#cpuMs = performance.now() - started;
  }

  /** The cell under a point of the canvas, in css px. */
  pick(x: number, y: number): { block: number; x: number; y: number } | null {
    const found = this.hit(x, y);
    return found === null ? null : cellAt(found);
  }

  /** As `pick`, with the point of the world. */
  hit(x: number, y: number): Hit | null {
    return this.#rays.hit(this.#view.ray(x, y));
  }

  groupOf(block: Block): Group | null {
    return this.#shown?.scene.groups.find((it) => it.id === block.group) ?? null;
  }

  /** A pose from which cells, a group or the whole model are seen; without `from` the direction stays. */
  fit(what: Cells[] | Group | null, from?: From, margin = 0.08): CameraPose {
    const { pose, width, height } = this.#view;
    const [azimuth, elevation] = from === undefined ? [pose.azimuth, pose.elevation] : DIRECTIONS[from];
    const [min, max] = this.#bounds(what);
    return fitBox(min, max, azimuth, elevation, width, height, margin);
  }

  project(at: Vec3): { x: number; y: number; visible: boolean } {
    const { x, y, depth } = this.#view.project(at);
    return { x, y, visible: depth > 0 && x >= 0 && y >= 0 && x <= this.#view.width && y <= this.#view.height };
  }

  /** The middle of cells on the front of their block. */
  center(cells: Cells, stage?: Stage): Vec3 {
    const block = this.#shown!.scene.blocks[cells.block]!;
    const at = add(block.pos, [(cells.x0 + cells.x1) / 2, (cells.y0 + cells.y1) / 2, 1]);
    return add(at, stage?.offset.get(cells.block) ?? [0, 0, 0]);
  }

  stats(): { boxes: number; drawCalls: number; cpuMs: number; tileBytes: number } {
    return { boxes: this.#boxes.length, drawCalls: this.#drawCalls, cpuMs: this.#cpuMs, tileBytes: this.#shown?.atlas.bytes ?? 0 };
  }

  dispose(): void {
    this.canvas.removeEventListener("webglcontextlost", this.#lose);
    this.canvas.removeEventListener("webglcontextrestored", this.#restore);
    this.#gl.getExtension("WEBGL_lose_context")?.loseContext();
  }

  readonly #need = (_changed?: unknown): void => this.onNeedsFrame();

  readonly #lose = (event: Event): void => {
    event.preventDefault(); // so that it may come back
    this.lost = true;
    this.onLost();
  };

  readonly #restore = (): void => {
    this.lost = false;
    this.#build();
    const shown = this.#shown;
    this.#shown = null;
    shown?.atlas.dispose(true);
    if (shown !== null) this.setScene(shown.scene, shown.run, shown.step);
    this.onRestored();
    this.#need();
  };

  #build(): void {
    const gl = this.#gl;
    const boxes = new Batch(gl, shaders.BOX_VERTEX, shaders.BOX_FRAGMENTS, 5, MAX_BOXES + 400, 12, [0, 4, 8].flatMap((k) => pairs(1).map((i) => i + k)));
    const curves = new Batch(gl, shaders.CURVE_VERTEX, [shaders.CURVE_FRAGMENT], 5, 2000, 30, pairs(shaders.CURVE_SEGMENTS + 2));
    const glows = new Batch(gl, shaders.GLOW_VERTEX, [shaders.GLOW_FRAGMENT], 3, 4100, 4, pairs(1));
    const words = new Batch(gl, shaders.GLYPH_VERTEX, [shaders.GLYPH_FRAGMENT], 4, 16000, 4, pairs(1));
    for (const batch of [boxes, curves, glows, words]) batch.check();
    this.#card = { boxes, curves, glows, glyphs: new Glyphs(gl, words, this.#pixel) };
  }

  #call(batch: Batch, first: number, end: number, variant = 0): void {
    if (end > first) this.#drawCalls++;
    batch.draw(first, end, variant);
  }

  #record(box: Box, scene: Scene, view: View): void {
    const { boxes } = this.#card;
    const { block, region, pos, x0, y0, x1, y1 } = box;
    const at = boxes.add();
    if (at < 0) return;
    const scale = 2 ** -(region?.level ?? 0);
    const place = region === null ? [0, 0, 0, -1, 0, 0] : [
      region.x + (x0 - box.tile[0]) * scale, region.y + (y0 - box.tile[1]) * scale, scale, region.layer,
      region.x + region.width - 1, region.y + region.height - 1,
    ];
    const hatched = scene.model.shapes_only || block.tensor < 0;
    const flags = (block.role === "scores" ? MASKED : 0) | (hatched ? HATCHED : 0) | (box.ghost ? GHOST : 0);
    boxes.data.set([
      ...add(pos, view.eye, -1), box.opacity, x1 - x0, y1 - y0, 1, ROLES.indexOf(roleOf(block)) * 4,
      ...place, flags, 0, x0, y0, ...block.size,
    ], at);
  }

  #glow(stage: Stage, colors: Record<string, string>): void {
    const { glows } = this.#card;
    for (const glow of stage.glows) {
      const block = this.#shown!.scene.blocks[glow.block];
      const at = block === undefined ? -1 : glows.add();
      if (at < 0) continue;
      const corner = add(add(block!.pos, [glow.x0, glow.y0, 1]), stage.offset.get(glow.block) ?? [0, 0, 0]);
      const place = add(corner, this.#view.eye, -1);
      glows.data.set([...place, glow.strength, glow.x1 - glow.x0, glow.y1 - glow.y0, 0, 0, ...rgb(colors[glow.color]!)], at);
    }
  }

  /** Copies of cells on their way, in a bow towards the viewer. */
  #flights(stage: Stage, detail: Detail): Box[] {
    return stage.flights.map(({ from, to, t }) => {
      const [a, b] = [this.center(from, stage), this.center(to, stage)];
      const way = add(b, a, -1);
      const bow = Math.sin(Math.PI * t) * (2 + 0.12 * Math.hypot(...way));
      const size: Vec3 = [from.x1 - from.x0, from.y1 - from.y0, 1];
      const at = add(add(add(a, way, t), [0, 0, bow]), [size[0] / 2, size[1] / 2, 1], -1);
      return detail.copy(from, at);
    });
  }

  #bounds(what: Cells[] | Group | null): [Vec3, Vec3] {
    const { scene } = this.#shown!;
    const parts: [Vec3, Vec3][] = what === null
      ? scene.blocks.filter((it) => it.step_of === null).map((it) => [it.pos, add(it.pos, [...it.size, 1])])
      : Array.isArray(what) ? what.map((it) => {
        const at = scene.blocks[it.block]!.pos;
        return [add(at, [it.x0, it.y0, 0]), add(at, [it.x1, it.y1, 1])];
      }) : [[what.min, what.max]];
    const [min, max]: [Vec3, Vec3] = [[Infinity, Infinity, Infinity], [-Infinity, -Infinity, -Infinity]];
    for (const [low, high] of parts) {
      for (const i of [0, 1, 2] as const) {
        min[i] = Math.min(min[i], low[i]);
        max[i] = Math.max(max[i], high[i]);
      }
    }
    return parts.length === 0 ? [[0, 0, 0], [1, 1, 1]] : [min, max];
  }
}

/** Device pixels per css px, of which more than two would only cost time. */
const density = (): number => Math.min(2, window.devicePixelRatio || 1);

const rendererOf = (gl: WebGL2RenderingContext): string => {
  const info = gl.getExtension("WEBGL_debug_renderer_info");
  return String(gl.getParameter(info === null ? gl.RENDERER : info.UNMASKED_RENDERER_WEBGL));
};

/** Smoothing by several samples costs a third of the time where the processor draws, and there words and cells are smooth without. */
const hasCard = (): boolean => {
  const gl = document.createElement("canvas").getContext("webgl2");
  if (gl === null) return false;
  const found = !/swiftshader|llvmpipe|software/i.test(rendererOf(gl));
  gl.getExtension("WEBGL_lose_context")?.loseContext();
  return found;
};
