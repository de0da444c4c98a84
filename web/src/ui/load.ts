/** What the page asks of its data source: a step of a run, one more token, another text, a changed number. */

import { batch, effect } from "@preact/signals";
import {
  before,
  busy,
  compared,
  engine,
  hover,
  isFull,
  loading,
  opened,
  pinned,
  position,
  problem,
  run,
  runInfo,
  sampling,
  scene,
  session,
  source,
  step,
  steps,
  trace,
} from "../state.ts";
import type { RunInfo, Scene } from "../types.ts";
import { changedBlocks, type Ref } from "./cells.ts";
import { renewPins } from "./look.ts";

const sentence = (error: unknown): string => (error instanceof Error ? error.message : String(error));

let asked = 0;

/** Show a recorded step; the camera stays where it is. */
export const show = async (toRun: number, toStep: number): Promise<void> => {
  const from = source.peek();
  if (!from) return;
  const mine = ++asked;
  loading.value = "loading_step";
  try {
    const [newScene, newTrace] = await Promise.all([from.scene(toRun, toStep), from.trace(toRun, toStep)]);
    if (mine !== asked) return;
    const kept = scene.peek() !== null && sameLayout(scene.peek(), newScene);
    batch(() => {
      [run.value, step.value, scene.value, trace.value] = [toRun, toStep, newScene, newTrace];
      position.value = null;
      hover.value = null;
      compared.value = null;
      if (!kept) opened.value = new Set();
      engine.peek()?.setScene(newScene, toRun, toStep);
      renewPins();
      loading.value = null;
    });
    await compareWith(runInfo.peek()?.compared_to ?? null);
  } catch (error) {
    if (mine === asked)
      batch(() => {
        problem.value = sentence(error);
        loading.value = null;
      });
  }
};

const sameLayout = (a: Scene | null, b: Scene): boolean =>
  a !== null && a.blocks.length === b.blocks.length && a.blocks.every((block, i) => block.name === b.blocks[i]?.name);

/** Lay another run beside the shown one: which blocks differ. */
export const compareWith = async (other: number | null): Promise<void> => {
  const [from, now, records] = [source.peek(), scene.peek(), trace.peek()];
  const theirs = session.peek()?.runs.find(({ id }) => id === other)?.steps;
  if (other === null || !from || !now || !records || !theirs?.length) {
    compared.value = null;
    return;
  }
  const at = theirs[Math.min(step.peek(), theirs.length - 1)]?.step ?? 0;
  const [otherScene, otherTrace] = await Promise.all([from.scene(other, at), from.trace(other, at)]);
  const changed = changedBlocks({ scene: now, trace: records }, { scene: otherScene, trace: otherTrace });
  if (scene.peek() === now) compared.value = { run: other, step: at, changed: changed ?? [] };
};

/** Keep at hand what the pinned number was in the run that the shown one is compared with. */
export const startComparing = (): void => {
  effect(() => {
    const [cell, other, from] = [pinned.value, compared.value, source.value];
    before.value = null;
    if (!cell || !other || !from) return;
    let current = true;
    const was = async (): Promise<number | string | null> => {
      const records = await from.trace(other.run, other.step);
      const same = records.tensors[cell.tensor]?.name === cell.name ? cell.tensor : records.names[cell.name]?.at(-1);
      return same === undefined ? null : (await from.explain(other.run, other.step, same, cell.index)).cell.value;
    };
    was().then(
      (value) => {
        if (current) before.value = value;
      },
      () => undefined,
    );
    return () => {
      current = false;
    };
  });
};

/** Do something that the server computes, one at a time; what it says on failure is shown. */
const ask = async (work: () => Promise<void>): Promise<void> => {
  if (busy.peek()) return;
  busy.value = true;
  try {
    await work();
  } catch (error) {
    problem.value = sentence(error);
  } finally {
    busy.value = false;
  }
};

const withRun = (info: RunInfo): void => {
  const now = session.peek();
  if (now) session.value = { ...now, runs: [...now.runs.filter(({ id }) => id !== info.id), info] };
};

export const runText = (text: string): Promise<void> =>
  ask(async () => {
    const info = await source.peek()?.run({ text });
    if (!info) return;
    withRun(info);
    await show(info.id, info.steps.at(-1)?.step ?? 0);
  });

export const nextToken = (): Promise<void> =>
  ask(async () => {
    const [from, info] = [source.peek(), runInfo.peek()];
    if (!from || !info || isFull.peek()) return;
    const made = await from.next(info.id, sampling.peek());
    withRun({ ...info, steps: [...info.steps.filter((old) => old.step !== made.step), made] });
    await show(info.id, made.step);
  });

export const changeNumber = (ref: Ref, value: number): Promise<void> =>
  ask(async () => {
    const info = await source.peek()?.patch(run.peek(), step.peek(), ref.tensor, ref.index, value);
    if (!info) return;
    withRun(info);
    await show(info.id, info.steps.at(-1)?.step ?? 0);
  });

/** To the recorded token before or after; at the end of a live run, one more token. */
export const stepBy = (by: number): void => {
  const list = steps.peek();
  const here = list.findIndex((info) => info.step === step.peek());
  const to = list[here + by];
  if (to) void show(run.peek(), to.step);
  else if (by > 0 && session.peek()?.can.generate) void nextToken();
};
