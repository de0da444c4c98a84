/** What the page computes without a browser: cells and indices, probabilities, and what a search finds. */

import assert from "node:assert/strict";
import { test } from "node:test";
import type { Block, Scene, TensorRecord, TraceRecords } from "../src/types.ts";
import { full, recent, slotsAfter, withSinks } from "../src/ui/cache-slots.ts";
import { changedBlocks, placeOf, refAt } from "../src/ui/cells.ts";
import { find } from "../src/ui/find.ts";
import { exact, pieceText, short } from "../src/ui/format.ts";
import { mergeTrees } from "../src/ui/merge-tree.ts";
import { distribution, PLAIN, ranked } from "../src/ui/sampling.ts";

const block = (id: number, part: Partial<Block>): Block => ({
  id,
  group: 0,
  name: `block${id}`,
  role: "x",
  kind: "computed",
  label: { en: `Block ${id}`, zh: `块 ${id}` },
  tensor: 0,
  storage: 0,
  dtype: "float32",
  offset: 0,
  strides: [1, 1],
  size: [1, 1],
  axes: ["", ""],
  pos: [0, 0, 0],
  layer: null,
  head: null,
  step_of: null,
  scale: 1,
  ...part,
});

const tensor = (part: Partial<TensorRecord>): TensorRecord => ({
  storage: 0,
  dtype: "float32",
  shape: [],
  strides: [],
  offset: 0,
  kind: "computed",
  name: "q",
  axes: [],
  made_by: 0,
  derived: false,
  ...part,
});

// q has 1 × 2 heads × 3 positions × 4 features, head 1 is shown with positions along x and features along y
const q = tensor({ shape: [1, 2, 3, 4], strides: [24, 4, 8, 1], axes: ["B", "H", "T", "D"] });
const bias = tensor({ storage: 1, shape: [3, 4], strides: [0, 1], name: "bias" });
const blocks = [
  block(0, {
    name: "blocks.0.attn.q[0,0]",
    role: "q",
    offset: 0,
    strides: [8, 1],
    size: [3, 4],
    axes: ["T", "D"],
    layer: 0,
    head: 0,
  }),
  block(1, {
    name: "blocks.0.attn.q[0,1]",
    role: "q",
    offset: 4,
    strides: [8, 1],
    size: [3, 4],
    axes: ["T", "D"],
    layer: 0,
    head: 1,
  }),
  block(2, { tensor: 1, storage: 1, strides: [1, 1], size: [1, 4], name: "bias", role: "q_bias" }),
];
const storages = ["a", "b"].map((blob) => ({ blob, nbytes: 96, written_by: null, previous: null }));
const trace = {
  tensors: [q, bias],
  storages,
  operations: [],
  sources: [],
  modules: [],
  names: {},
} satisfies TraceRecords;
const scene = { blocks, groups: [] } as unknown as Scene;

test("a cell leads to its number's index, and the index back to the cell", () => {
  assert.deepEqual(refAt(scene, trace, { block: 1, x: 2, y: 3 }), { tensor: 0, index: [0, 1, 2, 3] });
  assert.deepEqual(placeOf(scene, trace, { tensor: 0, index: [0, 1, 2, 3] }), { block: 1, x: 2, y: 3 });
  assert.deepEqual(placeOf(scene, trace, { tensor: 0, index: [0, 0, 1, 0] }), { block: 0, x: 1, y: 0 });
});

test("a repeated axis shows the same number", () => {
  assert.deepEqual(placeOf(scene, trace, { tensor: 1, index: [2, 3] }), { block: 2, x: 0, y: 3 });
  assert.deepEqual(refAt(scene, trace, { block: 2, x: 0, y: 3 }), { tensor: 1, index: [0, 3] });
});

test("runs are compared by the names of their bytes", () => {
  const other = { ...trace, storages: [storages[0]!, { ...storages[1]!, blob: "c" }] };
  assert.deepEqual(changedBlocks({ scene, trace }, { scene, trace: other }), [2]);
  const longer = { ...scene, sizes: { T: 99 } } as Scene;
  assert.equal(changedBlocks({ scene, trace }, { scene: longer, trace }), null, "a longer text is another picture");
});

test("a search understands layers, heads and indices, in both languages", () => {
  for (const wanted of ["layer 0 head 1 q[2,3]", "层 0 头 1 q[2,3]", "block 0 head 1 q[0,1,2,3]"]) {
    const [found] = find(scene, trace, wanted);
    assert.deepEqual([found?.block.id, found?.place], [1, { block: 1, x: 2, y: 3 }], wanted);
  }
  assert.equal(find(scene, trace, "bias")[0]?.block.id, 2);
  assert.deepEqual(find(scene, trace, "no such thing"), []);
});

test("sampling follows inference/logits.py", () => {
  const logits = Float64Array.of(1, 3, 2, 2);
  const sum = (all: Float64Array): number => all.reduce((a, b) => a + b, 0);
  const plain = distribution(logits, PLAIN);
  assert.ok(Math.abs(sum(plain) - 1) < 1e-12);
  assert.ok(Math.abs((plain[1] ?? 0) / (plain[2] ?? 1) - Math.E) < 1e-12);
  assert.deepEqual([...distribution(logits, { ...PLAIN, temperature: 0 })], [0, 1, 0, 0]);
  assert.deepEqual(
    [...distribution(logits, { ...PLAIN, top_k: 2 })].map((p) => p > 0),
    [false, true, true, true],
  ); // a tie stays
  assert.deepEqual(
    [...distribution(logits, { ...PLAIN, top_p: 0.6 })].map((p) => p > 0),
    [false, true, true, false],
  );
  assert.deepEqual(ranked(plain), [1, 2, 3, 0]);
});

test("numbers and pieces are written as people read them", () => {
  assert.equal(short(-0.31774345), "−0.3177");
  assert.equal(short(1.2548e-5), "1.255×10⁻⁵");
  assert.equal(short("-inf"), "−∞");
  assert.equal(exact(Math.fround(0.1), "float32"), "0.1");
  assert.equal(pieceText("e4bd"), "⟨E4 BD⟩");
  assert.equal(pieceText("e4bda0"), "你");
});

test("the tree of a word's merges has what was merged under each of them", () => {
  const hex = (symbols: string): string[] => symbols.split(" ").map((symbol) => Buffer.from(symbol).toString("hex"));
  const { branches, height } = mergeTrees({
    text: "hugs",
    bytes: "68756773",
    special: false,
    method: "merges",
    rows: [hex("h u g s"), hex("h ug s"), hex("hug s")],
    steps: [
      { at: 1, rank: 4, score: null },
      { at: 0, rank: 9, score: null },
    ],
    ids: [300, 115],
  });
  assert.deepEqual(branches.map(({ text, rank }) => [text, rank]), [["hug", 9], ["s", null]]);
  const [hug] = branches;
  assert.deepEqual(hug!.parts.map(({ text, step }) => [text, step]), [["h", 0], ["ug", 1]]);
  const [h, ug] = hug!.parts;
  assert.equal(hug!.x, (h!.x + ug!.x) / 2);
  assert.ok(h!.y < ug!.y && ug!.y < hug!.y && hug!.y < height);
});

test("a cache keeps what its policy says, each token in its slot", () => {
  assert.deepEqual(slotsAfter(full(8), 3), { positions: [0, 1, 2], forgotten: [], newest: 2 });
  assert.deepEqual(slotsAfter(recent(3), 5), { positions: [3, 4, 2], forgotten: [0, 1], newest: 1 });
  assert.deepEqual(slotsAfter(withSinks(1, 2), 2), { positions: [0, 1, -1], forgotten: [], newest: 1 });
  assert.deepEqual(slotsAfter(withSinks(2, 2), 7), { positions: [0, 1, 6, 5], forgotten: [2, 3, 4], newest: 2 });
});
