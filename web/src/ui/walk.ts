/** The walkthrough on this page: the player with our signals, its frames, its camera, and the stage that it shows. */

import { batch, computed, effect, signal } from "@preact/signals";
import { varsOf } from "../chapters/contrast.ts";
import { Numbers } from "../chapters/numbers.ts";
import { Player } from "../chapters/player.ts";
import { select } from "../chapters/selectors.ts";
import { applicable, cameraAt, emptyStage, stageAt } from "../chapters/stage.ts";
import { fill, type Context, type Segment } from "../chapters/template.ts";
import {
  chapter,
  chapters,
  chapterStep,
  engine,
  lang,
  playing,
  run,
  scene,
  source,
  step,
  stillness,
  time,
  visited,
} from "../state.ts";
import type { Chapter, ChapterStep, Stage } from "../types.ts";
import { fit } from "./camera.ts";
import { textOf } from "./next.ts";

const OF_NUMBERS = /\{(value|exp|max|most|tokens?|prediction|probability|lens\w*)[:}]/; // what shapes alone cannot tell

/** The chapters that this model has what it needs for. */
export const walk = computed<Chapter[]>(() => {
  const shown = scene.value;
  if (!shown) return [];
  const all = applicable(chapters.value, shown);
  if (!shown.model.shapes_only) return all;
  return all
    .map((told) => ({ ...told, steps: told.steps.filter(({ text }) => !OF_NUMBERS.test(text.en)) }))
    .filter((told) => told.steps.length > 0);
});
export const here = computed<Chapter | null>(() => walk.value.find(({ id }) => id === chapter.value) ?? null);

export const player = new Player(
  { chapter, step: chapterStep, time, playing },
  () => walk.peek(),
  () => stillness.peek(),
  () => lang.peek(),
);

// ---- what its texts and stages are filled from

const arrivals = signal(0); // numbers that have come since they were first asked for
const numbers = computed(
  () =>
    source.value &&
    scene.value &&
    new Numbers(source.value, scene.value, run.peek(), step.peek(), () => arrivals.value++),
);

const contextOf = (told: Chapter): Context | null => {
  void arrivals.value;
  const [shown, known] = [scene.value, numbers.value];
  return shown && known && { scene: shown, vars: varsOf(told, known), numbers: known, textOf };
};

export const segments = (told: Chapter, at: ChapterStep): Segment[] => {
  const context = contextOf(told);
  return context ? fill(at.text, lang.value, context) : [];
};

export const chapterStage = computed<Stage | null>(() => {
  const told = here.value;
  const context = told && contextOf(told);
  if (!scene.value) return null;
  return told && context ? stageAt(told, chapterStep.value, time.value, context) : emptyStage();
});

// ---- going

let frame = 0;
let before = 0;

const beat = (now: number): void => {
  const seconds = Math.min(0.1, (now - before) / 1000); // a page that was in the background does not leap
  before = now;
  frame = player.tick(seconds) ? requestAnimationFrame(beat) : 0;
};

const start = (): void => {
  if (frame !== 0) return;
  before = performance.now();
  frame = requestAnimationFrame(beat);
};

/** Change where the walk is, and let it run from there. */
const going = (change: () => void) => (): void => {
  batch(change);
  start();
};

export const goTo = (id: string, at = 0, atTime?: number): void => going(() => player.goTo(id, at, atTime))();
export const goNext = going(() => player.next());
export const goBack = going(() => player.back());
export const togglePlay = going(() => player.toggle());
export const stopPlaying = (): void => player.pause();

/** To where a chapter's step wants to be seen from. */
export const flyToStep = (seconds?: number): void => {
  const [told, shown] = [here.peek(), scene.peek()];
  const camera = told && cameraAt(told, chapterStep.peek());
  if (!told || !shown || !camera) return;
  const cells = select(shown, camera.fit, told.vars);
  if (cells.length > 0) fit(cells, camera.from, camera.margin, seconds);
};

let cameraIsKept = false; // the next step comes from a permalink, which says itself where the camera is

export const keepCameraOnce = (): void => {
  cameraIsKept = true;
};

export const startWalking = (): void => {
  effect(() => {
    const at = `${here.value?.id}/${chapterStep.value}`;
    if (!here.value || !engine.value) return;
    visited.value = new Set([...visited.peek(), at]);
    if (!cameraIsKept) flyToStep();
    cameraIsKept = false;
  });
};
