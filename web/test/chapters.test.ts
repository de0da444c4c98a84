/** What plays the chapters, without a browser: selectors, the stages of steps, texts filled with numbers, the clock. */

import assert from "node:assert/strict";
import { existsSync, readFileSync } from "node:fs";
import { test } from "node:test";
import { signal } from "@preact/signals";
import { varsOf } from "../src/chapters/contrast.ts";
import { Numbers } from "../src/chapters/numbers.ts";
import { Player } from "../src/chapters/player.ts";
import { select } from "../src/chapters/selectors.ts";
import { applicable, stageAt } from "../src/chapters/stage.ts";
import { fill, type Context } from "../src/chapters/template.ts";
import type { Block, Chapter, ChapterStep, DataSource, Scene } from "../src/types.ts";

const SHARED = "../tests/viewer/selectors.json"; // from web/, where npm runs

test("selectors find what they find in Python", { skip: !existsSync(SHARED) && `there is no ${SHARED}` }, () => {
  const { scene, cases, errors } = JSON.parse(readFileSync(SHARED, "utf8"));
  for (const { selector, vars, cells } of cases) {
    const found = select(scene, selector, vars).map(({ block, x0, y0, x1, y1 }) => [block, x0, y0, x1, y1]);
    assert.deepEqual(found, cells, selector);
  }
  for (const { selector, vars } of errors) assert.throws(() => select(scene, selector, vars), Error, selector);
});

const block = (id: number, part: Partial<Block>): Block => ({
  id, group: 0, name: `block${id}`, role: "x", kind: "computed", label: { en: "", zh: "" }, tensor: 0, storage: 0,
  dtype: "float32", offset: 0, strides: [1, 3], size: [3, 2], axes: ["T", "C"], pos: [0, 0, 0], layer: null, head: null,
  step_of: null, scale: 1, ...part,
});

const blocks = [
  block(0, { role: "tokens", size: [3, 1], axes: ["T", ""] }),
  block(1, { pos: [0, 10, 0] }),
  block(2, { role: "out", pos: [8, 0, 0] }),
  block(3, { role: "out", pos: [8, 0, 5] }),
  block(4, { role: "weights", size: [3, 3], axes: ["T", "S"] }),
  block(5, { role: "step", step_of: 1 }),
];
const scene = {
  model: { name: "tiny", n_parameters: 1234 }, tokens: ["a", "b", "c"].map((text, id) => ({ id, text, bytes: "61" })),
  sizes: { T: 3, S: 3, C: 2 }, stream: [1], logits: null, blocks,
  groups: [{ id: 0, parent: null, role: "model", index: null }],
} as unknown as Scene;

const source = { numbers: async (_run, _step, _block, _x, _y, width, height) =>
  Float64Array.from({ length: width * height }, (_, i) => i / 8) } as Partial<DataSource> as DataSource;
const numbers = new Numbers(source, scene, 0, 0, () => undefined);
const context: Context = { scene, vars: { t: "last" }, numbers, textOf: (id) => `#${id}` };
const text = { en: "", zh: "" };
const chapterOf = (...steps: Partial<ChapterStep>[]): Chapter => ({
  id: "one", order: 0, title: text, needs: ["x"], vars: { t: "last" }, steps: steps.map((step) => ({ text, ...step })),
});

test("a step is there if its condition holds, a chapter if the model has what it needs", () => {
  const chapter = chapterOf({}, { when: "@tokens" }, { when: "!@tokens" }, { when: "@gate" }, { when: "!@gate" });
  assert.equal(applicable([chapter, { ...chapter, needs: ["gate"] }], scene).length, 1);
  assert.deepEqual(applicable([chapter], scene)[0]!.steps.map(({ when }) => when), [undefined, "@tokens", "!@gate"]);
});

test("what a step is not about fades, and hidden steps of numbers stay hidden", () => {
  const chapter = chapterOf({ dim: "!@out" }, {});
  const at = (step: number, t: number): number[] => {
    const { opacity } = stageAt(chapter, step, t, context);
    return blocks.map(({ id }) => opacity.get(id) ?? 1);
  };
  assert.deepEqual(at(0, 0), [1, 1, 1, 1, 1, 1]);
  assert.deepEqual(at(0, 1), [0.1, 0.1, 1, 1, 0.1, 1]);
  assert.equal(stageAt(chapter, 0, 1, context).opacity.has(5), false);
  assert.deepEqual(at(1, 0), at(0, 1)); // the next step begins where this one ends
  assert.deepEqual(at(1, 1), [1, 1, 1, 1, 1, 1]);
});

test("heads are stacked one below another onto a block, and come home in the next step", () => {
  const chapter = chapterOf({ stack: { blocks: "@out", onto: "@x" } }, {});
  const end = stageAt(chapter, 0, 1, context).offset;
  assert.deepEqual([end.get(2), end.get(3)], [[-8, 10, 2], [-8, 12, -3]]);
  assert.deepEqual(stageAt(chapter, 1, 1, context).offset.get(3), [0, 0, 0]);
});

test("a sweep fills position by position; one from a position adds to what is there", () => {
  const [all, some] = [{ block: "@x", popup: true }, { block: "@model", from: "first", to: "1" }];
  const chapter = chapterOf({ sweep: all }, { sweep: some });
  assert.deepEqual([0, 0.5, 1].map((t) => stageAt(chapter, 0, t, context).fills.get(1)?.cells), [0, 2, undefined]);
  assert.deepEqual(stageAt(chapter, 0, 1, context).popup, { block: 1, x0: 2, y0: 0, x1: 3, y1: 1 });
  assert.deepEqual([0, 1].map((t) => stageAt(chapter, 1, t, context).fills.get(1)?.cells), [1, 2]);
});

test("a picture in patches is swept from its top to its end, though no text counts its rows", () => {
  const patches = [0, 1].map((row) => block(6 + row, { role: "image", size: [3, 2], axes: ["X", "Y"], start: [0, 2 * row] }));
  const picture = { ...scene, blocks: [...blocks, ...patches] };
  const chapter = chapterOf({ sweep: { block: "@image", axis: "y" } });
  const at = (t: number): (number | undefined)[] => {
    const { fills } = stageAt(chapter, 0, t, { ...context, scene: picture });
    return patches.map(({ id }) => fills.get(id)?.cells);
  };
  assert.deepEqual([0, 0.25, 0.75, 1].map(at), [[0, 0], [1, 0], [undefined, 1], [undefined, undefined]]);
});

test("heads are contrasted that differ most, once their numbers have come", async () => {
  const rows = [[0.5, 0.5], [0.4, 0.6], [0.9, 0.1]];
  const heads = rows.map((_, head) => block(head, { role: "weights", head, size: [1, 2], axes: ["", "S"] }));
  const shown = { ...scene, blocks: heads };
  const weights = { numbers: async (_run, _step, { id }) => Float64Array.from(rows[id]!) } as Partial<DataSource> as DataSource;
  const known = new Numbers(weights, shown, 0, 0, () => undefined);
  const told = { ...chapterOf({}), vars: { t: "last", g: "first", h: "last" }, contrast: { rows: "@weights", vars: ["g", "h"] } };
  assert.equal(varsOf(told as Chapter, known), told.vars);
  await new Promise((resolve) => setTimeout(resolve));
  assert.deepEqual(varsOf(told as Chapter, known), { t: "last", g: 1, h: 2 });
  const say = (vars: Chapter["vars"]): string =>
    fill({ en: "{over_one:@weights[g] & @weights[h]|both}", zh: "" }, "en", { ...context, scene: shown, vars, numbers: known })
      .map((segment) => segment.text).join("");
  assert.equal(say({ t: "last", g: 1, h: 2 }), "both"); // 0.6 and 0.9, of different keys
  assert.equal(say({ t: "last", g: 0, h: 2 }), ""); // of the same
});

test("a sum is unrolled where its products were added, in the step before the bias", () => {
  const stage = stageAt(chapterOf({ unroll: { cell: "@x{t=t,c=first}" } }), 0, 0.5, context);
  assert.deepEqual(stage.unroll, { cell: { block: 5, x0: 2, y0: 0, x1: 3, y1: 1 }, t: 0.5 });
});

test("numbers come once they are fetched, with arcs as thick as weights and texts that say them", async () => {
  const chapter = chapterOf({ arcs: { row: "@weights{t=t}", over: "@tokens" } });
  const en = "{value:@weights{t=t,s=first}} {max:@weights{t=t}} {most:@weights{t=t}} {size:C} {term:@x|it} {token:t}";
  const say = (): string => fill({ en, zh: "" }, "en", context).map((segment) => segment.text).join("");
  assert.equal(say(), "… … … 2 it c");
  assert.deepEqual(stageAt(chapter, 0, 1, context).arcs, []);
  await new Promise((resolve) => setTimeout(resolve));
  assert.equal(say(), "0.2500 1 c 2 it c");
  const { arcs } = stageAt(chapter, 0, 1, context);
  assert.deepEqual(arcs.map(({ weight, from }) => [from.x0, weight]), [[0, 0.25], [1, 0.625], [2, 1]]);
});

test("the clock runs a step to its end, waits for the reader, and goes on through the chapters", () => {
  const clock = { chapter: signal<string | null>(null), step: signal(0), time: signal(0), playing: signal(false) };
  const chapters = [chapterOf({ seconds: 2 }, {}), { ...chapterOf({}), id: "two" }];
  let still = false;
  const player = new Player(clock, () => chapters, () => still, () => "en");
  const where = (): unknown[] => [clock.chapter.value, clock.step.value, clock.time.value];
  player.play();
  player.tick(1);
  assert.deepEqual(where(), ["one", 0, 0.5]);
  assert.equal(player.tick(-1), true);
  player.tick(1);
  assert.deepEqual(where(), ["one", 0, 1]);
  player.tick(1.5);
  assert.deepEqual(where(), ["one", 1, 0]);
  player.pause();
  still = true;
  assert.equal(player.next(), true);
  assert.deepEqual(where(), ["two", 0, 1]);
  assert.equal(player.next(), false);
  player.back();
  assert.deepEqual(where(), ["one", 1, 1]);
});
