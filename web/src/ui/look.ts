/** Pointing at a number and pinning it: asks for its explanation, and remembers the way back. */

import { batch, effect, signal } from "@preact/signals";
import {
  announced,
  folded,
  hover,
  hoverAnswer,
  lang,
  loading,
  pinAnswer,
  pinned,
  pointer,
  rightOpen,
  run,
  scene,
  sheet,
  source,
  sourceAt,
  step,
  t,
  tab,
  trace,
  trail,
  type Pin,
} from "../state.ts";
import type { CellRef, Explanation } from "../types.ts";
import { placeOf, refAt, samePlace, type Place, type Ref } from "./cells.ts";
import { cellName, short } from "./format.ts";

/** Keep `into` the explanation of what `which` names; an answer that comes late for another cell is dropped. */
const follow = (which: () => Ref | null, into: { value: Explanation | null }): void => {
  let asked = 0;
  effect(() => {
    const ref = which();
    const from = source.value;
    const [r, n] = [run.value, step.value];
    const short = folded.value;
    const mine = ++asked;
    if (!ref || !from || loading.value) {
      into.value = null;
      return;
    }
    from.explain(r, n, ref.tensor, ref.index, short).then(
      (answer) => {
        if (mine === asked) into.value = answer;
      },
      () => {
        if (mine === asked) into.value = null;
      },
    );
  });
};

const settled = signal<Place | null>(null); // where the pointer has stayed for a moment

export const startLooking = (): void => {
  let timer = 0;
  effect(() => {
    const place = hover.value;
    clearTimeout(timer);
    const pause = place && scene.peek()?.lazy ? 16 : 0; // a pointer on its way does not ask the server
    timer = window.setTimeout(() => (settled.value = place), pause);
  });
  follow(() => {
    const place = settled.value;
    return place && scene.value && trace.value ? refAt(scene.value, trace.value, place) : null;
  }, hoverAnswer);
  follow(() => pinned.value, pinAnswer);
  effect(() => {
    const answer = pinAnswer.value;
    if (answer) announced.value = spoken(answer);
  });
};

/** The whole explanation as a sentence. */
export const spoken = (answer: Explanation): string => {
  void lang.value;
  const { cell, check } = answer;
  const checked = check ? t(check.passed ? "spoken_passed" : "spoken_failed") : "";
  return `${cellName(cell)} = ${short(cell.value)}. ${answer.text}. ${checked}`;
};

export const pointAt = (place: Place | null, at: { x: number; y: number } | null = null): void =>
  batch(() => {
    pointer.value = at;
    if (!samePlace(hover.value, place)) hover.value = place;
  });

const toPin = (ref: Ref): Pin | null => {
  const [shown, records] = [scene.value, trace.value];
  const name = records?.tensors[ref.tensor]?.name;
  return shown && records && name !== undefined ? { ...ref, name, place: placeOf(shown, records, ref) } : null;
};

/** Pin a number; `walking` keeps the way that led to it, so that the breadcrumb grows. */
export const pin = (ref: Ref, walking = false): void => {
  const made = toPin(ref);
  if (!made) return;
  batch(() => {
    const { pins, at } = trail.value;
    const before = walking ? pins.slice(0, at + 1) : [];
    trail.value = { pins: [...before, made], at: before.length };
    sourceAt.value = -1;
    tab.value = "cell";
    rightOpen.value = true;
    if (sheet.value === "peek") sheet.value = "half";
    if (made.place) hover.value = null;
  });
};

export const pinPlace = (place: Place): void => {
  const [shown, records] = [scene.value, trace.value];
  const ref = shown && records && refAt(shown, records, place);
  if (ref) pin(ref);
};

export const walkTo = (cell: CellRef): void => pin(cell, true);

export const walkTrail = (at: number): void => {
  const { pins } = trail.value;
  if (at >= 0 && at < pins.length)
    batch(() => {
      trail.value = { pins, at };
      sourceAt.value = -1;
    });
};

export const unpin = (): void =>
  batch(() => {
    trail.value = { pins: [], at: -1 };
    sourceAt.value = -1;
  });

/** Pins of one step point at the same cells of another, where it has them. */
export const renewPins = (): void => {
  const pins = trail.value.pins.map(({ place, ...old }) => {
    const ref = place && scene.value && trace.value ? refAt(scene.value, trace.value, place) : old;
    return ref && toPin(ref);
  });
  const kept = pins.every((made) => made !== null);
  trail.value = kept ? { pins, at: trail.value.at } : { pins: [], at: -1 };
};

/** The next of the cells that the pinned one came from. */
export const cycleSources = (back = false): void => {
  const sources = pinAnswer.value?.sources ?? [];
  if (sources.length === 0) return;
  sourceAt.value =
    (Math.max(-1, sourceAt.value) + (back ? sources.length - 1 : 1) + (back && sourceAt.value < 0 ? 1 : 0)) %
    sources.length;
  const cell = sources[sourceAt.value];
  if (cell) announced.value = `${cellName(cell)} = ${short(cell.value)}`;
};
