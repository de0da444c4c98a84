/**
 * What the scene shows at a moment of a chapter: a pure function of the step, the time in it (0 to 1) and the numbers.
 *
 * A step says what it looks like when it is over: what is dim, hidden or moved away. Opacities and offsets glide there
 * from where the step before left them, so that nothing has to be undone, and a step looks the same however it was
 * reached. The verbs that move data (sweep, unroll, fly, pulse, arcs) run once and stay as they end.
 */

import type {
  Arc, Block, Cells, Chapter, ChapterStep, Flight, Glow, Group, Note, Scene, Stage, Vec3,
} from "../types.ts";
import { short } from "../ui/format.ts";
import { hasLens, lens, streamAfter } from "./lens.ts";
import { resolve, select, selectGroups } from "./selectors.ts";
import { chance, exponential, prophecy, type Context } from "./template.ts";

const DIM = 0.1;
const GLIDE = 0.35; // of a step's time, in which opacities, offsets and glows settle
const PULSES = 3;
const POPUPS = 16; // a sweep over more than can be read shows only the last cell's arithmetic
const FEW = 12; // of more blocks that are swept at once, the lines that are computed do not glow
const NOTE = 14; // px
const FAINT = 0.004; // arcs for smaller weights are left out
const QUERIES = 32; // arcs of more positions at once would be a hatch

/** The steps of a chapter that this model has. */
export const stepsFor = (chapter: Chapter, scene: Scene): ChapterStep[] =>
  chapter.steps.filter((step) => {
    const holds = (condition: string): boolean =>
      select(scene, condition.replace(/^!/, ""), chapter.vars).length > 0 !== condition.startsWith("!");
    return (step.when?.split(" & ").every(holds) ?? true) && (!step.lens || hasLens(scene));
  });

/** The chapters whose needs a model has, each with the steps that it has. */
export function applicable(chapters: Chapter[], scene: Scene): Chapter[] {
  const roles = new Set([...scene.blocks, ...scene.groups].map(({ role }) => role));
  return chapters
    .filter(({ needs, vars }) =>
      needs.every((need) => (need.startsWith("@") ? select(scene, need, vars).length > 0 : roles.has(need))))
    .map((chapter) => ({ ...chapter, steps: stepsFor(chapter, scene) }))
    .filter((chapter) => chapter.steps.length > 0)
    .sort((a, b) => a.order - b.order);
}

/** Where the camera stands in a step: where the last step that says so has put it. */
export const cameraAt = (chapter: Chapter, step: number): ChapterStep["camera"] =>
  chapter.steps.slice(0, step + 1).findLast((one) => one.camera !== undefined)?.camera;

export const emptyStage = (): Stage => ({
  opacity: new Map(), offset: new Map(), fills: new Map(), glows: [], arcs: [], flights: [], notes: [], unroll: null,
  popup: null,
});

/** A step of a chapter as `applicable` gives it, so that `when` has been answered. */
export function stageAt(chapter: Chapter, stepIndex: number, t: number, context: Context): Stage {
  const stage = emptyStage();
  const step = chapter.steps[stepIndex];
  if (step === undefined) return stage;
  const find = (selector: string | undefined): Cells[] =>
    selector === undefined ? [] : select(context.scene, selector, context.vars);
  glide(stage, rest(chapter.steps[stepIndex - 1], context), rest(step, context), t, context.scene);
  stage.glows.push(...glow(find(step.focus), ease(t / GLIDE)), ...glow(find(step.pulse), pulse(t)));
  if (step.sweep) sweep(stage, find(step.sweep.block), step.sweep, t, context);
  if (step.fly) {
    const [from, to] = [find(step.fly.from), find(step.fly.to)];
    stage.flights.push(...fly(from, to, t));
    stage.glows.push(...glow(from, t > 0 ? 1 - ease(t / GLIDE) : 0), ...glow(to, 0.6 * ease((t - 0.7) / 0.3)));
  }
  if (step.arcs) stage.arcs.push(...arcs(find(step.arcs.row), find(step.arcs.over), find(step.arcs.keys), ease(t), context));
  if (step.powers) stage.notes.push(...powers(find(step.powers.of), step.powers.add, t, context));
  if (step.lens) stage.notes.push(...lensNotes(t, context));
  const unrolled = find(step.unroll?.cell)[0];
  if (unrolled) stage.unroll = { cell: summed(context.scene, unrolled), t: clamp(t) };
  const popup = find(step.popup)[0];
  if (popup && t > 0) stage.popup = popup;
  return stage;
}

type Axis = 0 | 1 | 2;

const clamp = (t: number): number => Math.min(1, Math.max(0, t));

/** Slow at both ends. */
export const ease = (t: number): number => { const s = clamp(t); return s * s * (3 - 2 * s); };

const mix = (a: number, b: number, t: number): number => a * (1 - t) + b * t; // exactly b at the end

// ---- what a step looks like when it is over, and the way there

const HOME: Vec3 = [0, 0, 0];

interface Rest { opacity: Map<number, number>; offset: Map<number, Vec3> }

const rests = new WeakMap<ChapterStep, { context: Context; rest: Rest }>(); // worked out once, not in every frame

function rest(step: ChapterStep | undefined, context: Context): Rest {
  if (step === undefined) return { opacity: new Map(), offset: new Map() };
  const known = rests.get(step);
  if (known?.context.scene === context.scene && known.context.vars === context.vars) return known.rest;
  const found = workOut(step, context);
  rests.set(step, { context, rest: found });
  return found;
}

function workOut(step: ChapterStep, context: Context): Rest {
  const { scene, vars } = context;
  const opacity = new Map<number, number>();
  const fade = (selector: string | undefined, to: number): void => {
    for (const { block } of selector ? select(scene, selector, vars) : []) {
      if (scene.blocks[block]!.step_of === null || selector === step.show) opacity.set(block, to); // steps stay hidden
    }
  };
  fade(step.dim, DIM);
  fade(step.focus, 1);
  fade(step.hide, 0);
  fade(step.show, 1);
  const offset = new Map<number, Vec3>();
  if (step.stack) stack(offset, step.stack, context);
  if (step.split) split(offset, step.split, context);
  return { opacity, offset };
}

function glide(stage: Stage, from: Rest, to: Rest, t: number, scene: Scene): void {
  const [fading, moving] = [ease(t / GLIDE), ease(t)];
  for (const block of new Set([...from.opacity.keys(), ...to.opacity.keys()])) {
    const usual = scene.blocks[block]!.step_of === null ? 1 : 0;
    stage.opacity.set(block, mix(from.opacity.get(block) ?? usual, to.opacity.get(block) ?? usual, fading));
  }
  for (const block of new Set([...from.offset.keys(), ...to.offset.keys()])) {
    const [a, b] = [from.offset.get(block) ?? HOME, to.offset.get(block) ?? HOME];
    stage.offset.set(block, [mix(a[0], b[0], moving), mix(a[1], b[1], moving), mix(a[2], b[2], moving)]);
  }
}

/** The blocks one below another, as if they were one: from the first one's place on, or in front of another block. */
function stack(offset: Map<number, Vec3>, how: NonNullable<ChapterStep["stack"]>, { scene, vars }: Context): void {
  const blocks = select(scene, how.blocks, vars).map((cells) => scene.blocks[cells.block]!);
  const onto = how.onto === undefined ? undefined : select(scene, how.onto, vars)[0];
  const [x, top, z] = onto === undefined ? blocks[0]?.pos ?? HOME : scene.blocks[onto.block]!.pos;
  let y = top;
  for (const block of blocks) {
    offset.set(block.id, [x - block.pos[0], y - block.pos[1], z + (onto ? 2 : 0) - block.pos[2]]);
    y += block.size[1] + (how.gap ?? 0);
  }
}

/** Blocks, or groups with all that is in them, further apart along the axis on which they stand in a row. */
function split(offset: Map<number, Vec3>, how: NonNullable<ChapterStep["split"]>, { scene, vars }: Context): void {
  const groups = selectGroups(scene, how.blocks, vars);
  const units = groups.length > 0
    ? groups.map((group) => ({ at: group.min, blocks: scene.blocks.filter((block) => isIn(scene, block, group)) }))
    : select(scene, how.blocks, vars).map((cells) => scene.blocks[cells.block]!)
      .map((block) => ({ at: block.pos, blocks: [block] }));
  const spread = (axis: Axis): number => {
    const places = units.map((unit) => unit.at[axis]);
    return Math.max(...places) - Math.min(...places);
  };
  const axis = ([0, 1, 2] as Axis[]).reduce((best, one) => spread(one) > spread(best) ? one : best);
  units.sort((a, b) => a.at[axis] - b.at[axis]).forEach((unit, i) => {
    const away: Vec3 = [0, 0, 0];
    away[axis] = (i - (units.length - 1) / 2) * (how.gap ?? 0);
    for (const block of unit.blocks) offset.set(block.id, away);
  });
}

function isIn(scene: Scene, block: Block, group: Group): boolean {
  let at: number | null = block.group;
  while (at !== null && at !== group.id) at = scene.groups[at]!.parent;
  return at === group.id;
}

// ---- verbs

const glow = (cells: Cells[], strength: number): Glow[] =>
  strength > 0 ? cells.map((one) => ({ ...one, color: "focus", strength })) : [];

/** Up and down, and half lit at the end. */
const pulse = (t: number): number => t >= 1 ? 0.5 : t <= 0 ? 0 : 0.5 - 0.5 * Math.cos(2 * Math.PI * PULSES * t);

type Sweep = NonNullable<ChapterStep["sweep"]>;

/**
 * Blocks appear position by position, or along another axis, as they are computed; of a part of a block, the cells
 * light up. A sweep `from` a position adds to what is there up to it: a cache that grows. One `to` a position leaves
 * the rest for later.
 */
function sweep(stage: Stage, swept: Cells[], how: Sweep, t: number, { scene, vars }: Context): void {
  for (const cells of swept) {
    const block = scene.blocks[cells.block]!;
    const axes = block.axes.map((axis) => axis.toLowerCase());
    const side = how.axis ? axes.indexOf(how.axis) : axes.findIndex((axis) => axis === "t" || axis === "s");
    if (side < 0 || block.step_of !== null || block.kind === "weight") continue;
    const along = side === 0 ? "x" : "y";
    const [first, end] = side === 0 ? [cells.x0, cells.x1] : [cells.y0, cells.y1];
    const behind = (index: string): number => (resolve(index, scene.tokens.length, vars) ?? 0) + 1;
    const begin = block.start?.[side] ?? 0;
    const length = scene.sizes[block.axes[side]!] ?? extent(scene, swept, axes[side]!);
    const isPart = block.size[side]! < length; // one of the columns of a text, or of the patches of a picture
    const from = how.from === undefined ? (isPart ? 0 : first) : behind(how.from);
    const to = how.to === undefined ? (isPart ? length : end) : behind(how.to);
    const reached = Math.round(mix(from, to, clamp(t))) - begin;
    const done = Math.min(end, Math.max(first, reached));
    const isNow = done === reached;
    const [across, breadth] = side === 0 ? [cells.y1 - cells.y0, block.size[1]] : [cells.x1 - cells.x0, block.size[0]];
    if (across < breadth) stage.glows.push(...glow([clip(cells, along, first, done)], 0.5));
    else if (done < block.size[side]!) stage.fills.set(block.id, { block: block.id, axis: along, cells: done });
    const line = clip(cells, along, Math.max(first, done - 1), Math.max(first + 1, done));
    if (t > 0 && t < 1 && isNow && (isPart || swept.length <= FEW)) stage.glows.push(...glow([line], 1));
    if (how.popup && t > 0 && isNow && !stage.popup && (t >= 1 || end - first <= POPUPS)) {
      stage.popup = { ...line, x1: line.x0 + 1, y1: line.y0 + 1 };
    }
  }
}

/** How far blocks reach together along an axis whose length the scene does not say, as the patches of a picture do. */
const extent = (scene: Scene, swept: Cells[], axis: string): number => Math.max(0, ...swept.map((cells) => {
  const { axes, size, start = [0, 0] } = scene.blocks[cells.block]!;
  const side = axes.findIndex((letter) => letter.toLowerCase() === axis);
  return side < 0 ? 0 : start[side]! + size[side]!;
}));

const clip = (cells: Cells, along: "x" | "y", from: number, to: number): Cells =>
  along === "x" ? { ...cells, x0: from, x1: to } : { ...cells, y0: from, y1: to };

/** Copies on their way, one after another; of unequal numbers, all go to the last or come from it. */
function fly(from: Cells[], to: Cells[], t: number): Flight[] {
  const count = from.length > 0 && to.length > 0 ? Math.max(from.length, to.length) : 0;
  const lateness = count > 1 ? 0.4 : 0; // of the last one
  return Array.from({ length: count }, (_, i) => ({
    from: from[Math.min(i, from.length - 1)]!,
    to: to[Math.min(i, to.length - 1)]!,
    t: ease((t - lateness * i / Math.max(1, count - 1)) / (1 - lateness)),
  }));
}

/** Where the products of a cell were added up: before a bias or a scale came, in the first step behind its block. */
function summed(scene: Scene, cells: Cells): Cells {
  const of = scene.blocks[cells.block]!;
  const step = scene.blocks.find((block) => block.step_of === of.id && `${block.size}` === `${of.size}`);
  return { ...cells, block: step?.id ?? of.id };
}

/** From each position that is looked at to the one that looks, as thick as the weight. */
function arcs(rows: Cells[], over: Cells[], keys: Cells[], grown: number, { scene, numbers }: Context): Arc[] {
  if (over.length === 0) return [];
  const of = (line: Cells[], at: number): Cells =>
    line.length > 1 ? line[at]! : { ...line[0]!, x0: at, x1: at + 1 }; // columns are blocks of their own, or one's
  return rows.flatMap((row) => {
    const { axes, start = [0, 0] } = scene.blocks[row.block]!;
    const keysAlongX = axes[0] === "S";
    const x0 = keysAlongX ? row.x0 : Math.max(row.x0, row.x1 - QUERIES);
    const y0 = keysAlongX ? Math.max(row.y0, row.y1 - QUERIES) : row.y0;
    const found: Arc[] = [];
    for (let y = y0; y < row.y1; y++) {
      for (let x = x0; x < row.x1; x++) {
        const value = numbers.at(row.block, x, y) ?? 0;
        const [key, query] = keysAlongX ? [x + start[0], y + start[1]] : [y + start[1], x + start[0]];
        if (Math.abs(value) < FAINT) continue;
        const weight = Math.min(1, Math.abs(value)) * grown;
        found.push({ from: of(keys.length > 0 ? keys : over, key), to: of(over, query), weight, sign: value < 0 ? -1 : 1 });
      }
    }
    return found;
  });
}

/** Beside each cell of a column, e to the power of its number with another added to it: where float32 overflows. */
function powers(cells: Cells[], add: number, t: number, { scene, numbers }: Context): Note[] {
  const all = cells.flatMap(({ block, x1, y0, y1 }) => Array.from({ length: y1 - y0 }, (_, i): Note => {
    const { pos } = scene.blocks[block]!;
    const power = (numbers.at(block, x1 - 1, y0 + i) ?? NaN) + add;
    const at: Vec3 = [pos[0] + x1 + 0.3, pos[1] + y0 + i + 0.6, pos[2] + 1];
    return { at, text: `e^${short(power)} = ${short(exponential(power))}`, size: NOTE, align: 0 };
  }));
  return all.slice(0, Math.ceil(clamp(t / 0.8) * all.length));
}

/** Beside the residual stream of the last position, what the model would say after each layer. */
function lensNotes(t: number, context: Context): Note[] {
  const { scene, numbers } = context;
  const layers = scene.groups.filter((group) => group.role === "layer").length;
  const reached = Math.ceil(clamp(t) * (layers + 1));
  return Array.from({ length: reached }, (_, i) => i - 1).flatMap((layer): Note[] => {
    const stream = streamAfter(scene, layer);
    const guess = lens(numbers, layer);
    if (stream === undefined || guess === undefined) return [];
    const at: Vec3 = [stream.pos[0] + stream.size[0] + 1, stream.pos[1] + stream.size[1] / 2, stream.pos[2] + 1];
    return [{ at, text: `${prophecy(guess, context)} ${chance(guess)}`, size: NOTE, align: 0 }];
  });
}
