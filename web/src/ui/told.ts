/** The cell that a chapter takes apart at this moment, with its explanation. */

import { computed, effect, signal } from "@preact/signals";
import { folded, run, scene, source, step, trace } from "../state.ts";
import type { Cells, Explanation } from "../types.ts";
import { refAt } from "./cells.ts";
import { chapterStage } from "./walk.ts";

const key = computed(() => {
  const cells = chapterStage.value?.unroll?.cell ?? chapterStage.value?.popup;
  return cells ? `${cells.block} ${cells.x0} ${cells.y0}` : null;
});

/** Changes only when another cell is told of, not with every frame. */
export const toldCells = computed<Cells | null>(() => {
  if (key.value === null) return null;
  const [block = 0, x0 = 0, y0 = 0] = key.value.split(" ").map(Number);
  return { block, x0, y0, x1: x0 + 1, y1: y0 + 1 };
});
export const toldAnswer = signal<Explanation | null>(null);
export const unrolling = computed<number | null>(() => chapterStage.value?.unroll?.t ?? null);

const whole = computed(() => folded.value && unrolling.value === null); // a sum is laid out where it was computed

export const startTelling = (): void => {
  effect(() => {
    const short = whole.value;
    const [cells, shown, records, from] = [toldCells.value, scene.value, trace.value, source.value];
    const ref = cells && shown && records && refAt(shown, records, { block: cells.block, x: cells.x0, y: cells.y0 });
    let current = true;
    toldAnswer.value = null;
    if (ref && from) {
      from.explain(run.peek(), step.peek(), ref.tensor, ref.index, short).then(
        (answer) => {
          if (current) toldAnswer.value = answer;
        },
        () => undefined,
      );
    }
    return () => {
      current = false;
    };
  });
};
