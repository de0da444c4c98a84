/** What the scene shows now: the chapter's stage, and over it what the visitor points at. */

import { computed, effect, signal } from "@preact/signals";
import {
  compared,
  glowing,
  gradients,
  head,
  hover,
  hoverAnswer,
  lit,
  opened,
  pinAnswer,
  pinned,
  pointedBlock,
  position,
  run,
  scene,
  source,
  sourceAt,
  step,
  stillness,
  tokens,
  trace,
} from "../state.ts";
import type { Arc, Block, Cells, Explanation, Glow, Scene, Stage } from "../types.ts";
import { cellsOf, placeOf, wholeBlock, type Place } from "./cells.ts";
import { chapterStage } from "./walk.ts";

const MOST_ARCS = 20;
const THICKEST = 0.6; // of what an arc can be
const FAINTEST = 0.02; // an arc of attention thinner than this is not drawn

const focus = (place: Place, strength = 1): Glow => ({ ...cellsOf(place), color: "focus", strength });

/** The sources of a number glow, and arcs come from the operands of its largest terms, as thick as the terms. */
const ofAnswer = (shown: Scene, answer: Explanation): { glows: Glow[]; arcs: Arc[] } => {
  const records = trace.value;
  const target = records && placeOf(shown, records, answer.cell);
  if (!records || !target) return { glows: [], arcs: [] };
  const size = (value: number | string): number => (typeof value === "number" ? Math.abs(value) : 0);
  const largest = Math.max(...answer.terms.map((term) => size(term.value)), Number.MIN_VALUE);
  const weights = new Map<string, number>();
  const key = (cell: { tensor: number; index: number[] }): string => `${cell.tensor}:${cell.index}`;
  const shownPlace = (cell: { tensor: number; index: number[] }): Place | null => {
    const place = placeOf(shown, records, cell);
    const step_of = place && shown.blocks[place.block]?.step_of;
    return step_of == null || opened.value.has(step_of) ? place : null; // folded steps are not there to be pointed at
  };
  const arcs: Arc[] = [];
  for (const { operands, value } of answer.terms) {
    const weight = size(value) / largest;
    for (const operand of operands) {
      weights.set(key(operand), Math.max(weight, weights.get(key(operand)) ?? 0));
      const place = arcs.length < MOST_ARCS ? shownPlace(operand) : null;
      if (place && weight > FAINTEST) {
        arcs.push({
          from: cellsOf(place),
          to: cellsOf(target),
          weight: weight * THICKEST,
          sign: Number(value) < 0 ? -1 : 1,
        });
      }
    }
  }
  const glows = answer.sources.flatMap((cell): Glow[] => {
    const place = shownPlace(cell);
    const strength = answer.terms.length > 0 ? 0.25 + 0.75 * (weights.get(key(cell)) ?? 0) : 1;
    return place ? [{ ...cellsOf(place), color: "source", strength }] : [];
  });
  if (answer.terms.length === 0) {
    for (const glow of glows.slice(0, MOST_ARCS)) arcs.push({ from: glow, to: cellsOf(target), weight: 0.5, sign: 1 });
  }
  return { glows, arcs };
};

// ---- attention of the chosen head

/** The attention weights of the chosen head in the layer that is looked at, and the position that asks. */
export interface Attention {
  block: Block;
  values: Float64Array;
  layer: number;
  head: number;
}
export const attention = signal<Attention | null>(null);
export const layerChosen = signal<number | null>(null);

export const attentionBlock = computed<Block | null>(() => {
  const chosen = head.value;
  const shown = scene.value;
  if (chosen === null || !shown) return null;
  const layer = layerChosen.value ?? pointedBlock.value?.layer ?? 0;
  return (
    shown.blocks.find((b) => b.role === "weights" && b.head === chosen && b.layer === layer && b.step_of === null) ??
    null
  );
});

export const startAttention = (): void => {
  effect(() => {
    const [block, from] = [attentionBlock.value, source.value];
    const [r, n] = [run.value, step.value];
    if (!block || !from || block.tensor < 0 || block.size[0] * block.size[1] > 1 << 20) {
      attention.value = null;
      return;
    }
    from.numbers(r, n, block, 0, 0, ...block.size).then(
      (values) => {
        if (attentionBlock.peek() !== block) return;
        attention.value = { block, values, layer: block.layer ?? 0, head: block.head ?? 0 };
      },
      () => {
        if (attentionBlock.peek() === block) attention.value = null;
      },
    );
  });
};

/** How much position t looks at each position. Queries run along x, keys along y. */
export const lookedAt = ({ block, values }: Attention, t: number): number[] =>
  Array.from({ length: block.size[1] }, (_, s) => values[s * block.size[0] + t] ?? 0);

const attentionArcs = (shown: Scene): Arc[] => {
  const seen = attention.value;
  if (!seen) return [];
  const above = shown.stream
    .map((id) => shown.blocks[id])
    .filter((b) => b !== undefined && b.pos[1] <= seen.block.pos[1]);
  const spine = above.at(-1) ?? shown.blocks[shown.stream[0] ?? -1];
  if (!spine) return [];
  const column = (x: number): Cells => ({ block: spine.id, x0: x, y0: 0, x1: x + 1, y1: 1 });
  const all = Array.from({ length: tokens.value.length }, (_, t) => t);
  const asking = position.value !== null ? [position.value] : all.length <= 16 ? all : all.slice(-1);
  return asking.flatMap((t) =>
    lookedAt(seen, t).flatMap((weight, s): Arc[] =>
      weight > FAINTEST && s !== t ? [{ from: column(s), to: column(t), weight, sign: 1 }] : [],
    ),
  );
};

// ---- blocks that a change has reached pulse for a while, then keep a faint glow

const pulse = signal(0);

export const startPulse = (): void => {
  effect(() => {
    if (!compared.value?.changed.length || stillness.value) return;
    const begun = performance.now();
    let frame = 0;
    const beat = (now: number): void => {
      const seconds = (now - begun) / 1000;
      pulse.value = seconds < 2.4 ? Math.sin((seconds / 0.8) * Math.PI) ** 2 : 0;
      if (seconds < 2.4) frame = requestAnimationFrame(beat);
    };
    frame = requestAnimationFrame(beat);
    return () => cancelAnimationFrame(frame);
  });
};

// ---- all of it

export const stage = computed<Stage | null>(() => {
  const shown = scene.value;
  const told = chapterStage.value;
  if (!shown || !told) return null;
  const opacity = new Map(told.opacity);
  const hidden = new Set<number>(); // of a weight and its gradient, who stand in one place, the one that is not shown
  for (const block of shown.blocks) {
    if (block.gradient_of !== undefined) hidden.add(gradients.value ? block.gradient_of : block.id);
    if (block.step_of === null) continue;
    if (!opened.value.has(block.step_of)) opacity.set(block.id, 0);
    else opacity.set(block.step_of, Math.min(0.35, opacity.get(block.step_of) ?? 1));
  }
  const glows = [...told.glows];
  const arcs = [...told.arcs, ...attentionArcs(shown)];
  const answer = hover.value ? hoverAnswer.value : pinAnswer.value;
  if (answer) {
    const own = ofAnswer(shown, answer);
    glows.push(...own.glows);
    arcs.push(...own.arcs);
  }
  const reached = sourceAt.value >= 0 && trace.value ? pinAnswer.value?.sources[sourceAt.value] : undefined;
  const reachedPlace = reached && trace.value && placeOf(shown, trace.value, reached);
  for (const place of [hover.value, pinned.value?.place, reachedPlace, ...glowing.value])
    if (place) glows.push(focus(place));
  for (const { block } of glows.slice(told.glows.length)) opacity.set(block, 1); // what is pointed at is never dim
  for (const block of hidden) opacity.set(block, 0);
  for (const cells of lit.value) glows.push({ ...cells, color: "focus", strength: 0.7 });
  if (position.value !== null) {
    for (const id of shown.stream) {
      const block = shown.blocks[id];
      const t = position.value;
      if (block) glows.push({ block: id, x0: t, y0: 0, x1: t + 1, y1: block.size[1], color: "token", strength: 0.6 });
    }
  }
  for (const id of compared.value?.changed ?? []) {
    const block = shown.blocks[id];
    if (block) glows.push({ ...wholeBlock(block), color: "token", strength: 0.2 + 0.8 * pulse.value });
  }
  return { ...told, opacity, glows, arcs };
});
