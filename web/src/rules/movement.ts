/**
 * Operations that compute nothing: each number of the result is one of an operand's, or a constant that fills a place.
 * The twin of rules/movement.py, which replays them; here each says itself where a cell of its result stood.
 */
import type { Argument } from "../types.ts";
import { type Formula, Operand, call } from "./formula.ts";
import { type Index, type Rule, type Step, broadcast, constantOf, refOf, rule } from "./table.ts";
import { dtypeOf } from "./trace.ts";
import { Values, grid, placeAt, product, reach, together, vector } from "./values.ts";

type Move = (step: Step, index: Index) => Formula | null; // null: a constant fills this place

/** Declare where the numbers of some operations stood. */
function moved(names: string[], move: Move): void {
  const made: Rule = (step, index) => {
    if (step.flag("accumulate") || step.has("reduce")) throw new Error("adding up at repeated places");
    const here = move(step, index);
    return here === null ? filled(step) : call("chosen", here, ...choosers(step, index));
  };
  rule(names, made);
}

const filled = (step: Step): Formula =>
  constantOf(step.has("value") && refOf(step.get("value")) === null ? step.get("value") : 0);

/** For a lookup: the cells that hold the row's number. */
function choosers(step: Step, index: Index): Formula[] {
  if (step.base === "embedding") return [step.at("indices", index.slice(0, -1))];
  if (step.base === "gather") return [step.at("index", index)];
  if (step.base === "index_select") return [step.at("index", index.slice(step.dim(), step.dim() + 1))];
  if (step.base !== "index") return [];
  const { axes, refs, rank } = lookups(step);
  if (!sideBySide(axes) || refs.some((ref) => step.trace.tensor(ref).dtype === "bool")) return [];
  const here = index.slice(axes[0], axes[0]! + rank);
  return refs.map((ref) => new Operand(step.trace, ref, broadcast(here, step.trace.tensor(ref).shape)));
}

const number = (formula: Formula): number => formula.value.re[0]!;

// ---- every number stays, is repeated or changes its place

moved(["clone"], (step, index) => step.at("self", index));

moved(["repeat"], (step, index) => {
  const shape = step.shape("self");
  return step.at("self", index.slice(index.length - shape.length).map((i, axis) => i % shape[axis]!));
});

moved(["flip"], (step, index) => {
  const [dims, shape] = [step.dims("dims"), step.shape("self")];
  return step.at("self", index.map((i, axis) => (dims.includes(axis) ? shape[axis]! - 1 - i : i)));
});

moved(["roll"], (step, index) => {
  const [shape, shifts] = [step.shape("self"), step.list("shifts")];
  const back = (i: number, by: number, n: number): number => (((i - by) % n) + n) % n;
  if (step.list("dims").length === 0) { // all in one row
    const at = index.reduce((sum, i, axis) => sum * shape[axis]! + i, 0);
    return step.at("self", placeAt(back(at, shifts[0]!, product(shape)), shape));
  }
  const dims = step.dims("dims");
  const place = [...index];
  dims.forEach((axis, k) => (place[axis] = back(place[axis]!, shifts[k]!, shape[axis]!)));
  return step.at("self", place);
});

moved(["diag_embed"], (step, index) => {
  const [n, offset] = [index.length, step.number("offset", 0)];
  const [a, b] = [step.number("dim1", -2), step.number("dim2", -1)].map((dim) => (dim + n) % n) as [number, number];
  const [row, column] = [index[a]!, index[b]!];
  if (column - row !== offset) return null;
  return step.at("self", [...index.filter((_, axis) => axis !== a && axis !== b), Math.min(row, column)]);
});

moved(["tril", "triu"], (step, index) => {
  const above = index.at(-1)! - index.at(-2)! - step.number("diagonal", 0);
  return (step.base === "tril" ? above <= 0 : above >= 0) ? step.at("self", index) : null;
});

// ---- several tensors in one

moved(["cat"], (step, index) => {
  const n = index.length;
  const dim = (step.number("dim", 0) + n) % n;
  let at = index[dim]!;
  for (const ref of tensorsOf(step, "tensors")) {
    const { shape } = step.trace.tensor(ref);
    if (shape.length !== n) continue; // an empty list may stand beside anything
    if (at < shape[dim]!) return new Operand(step.trace, ref, index.with(dim, at));
    at -= shape[dim]!;
  }
  throw new Error("no operand has this cell");
});

moved(["stack"], (step, index) => {
  const dim = (step.number("dim", 0) + index.length) % index.length;
  return new Operand(step.trace, tensorsOf(step, "tensors")[index[dim]!]!, index.toSpliced(dim, 1));
});

function tensorsOf(step: Step, name: string): number[] {
  const given = step.get(name);
  return Array.isArray(given) ? given.map(refOf).filter((ref) => ref !== null) : [];
}

// ---- images: windows, borders, and channels that become places

moved(["im2col"], (step, index) => {
  const pair = (name: string): [number, number] => [step.list(name)[0]!, step.list(name).at(-1)!];
  const [[kh, kw], [sy, sx], [py, px], [dy, dx]] = [
    pair("kernel_size"), pair("stride"), pair("padding"), pair("dilation"),
  ];
  const [height, width] = step.shape("self").slice(-2) as [number, number];
  const [row, window] = index.slice(-2) as [number, number];
  const windows = Math.floor((width + 2 * px - dx * (kw - 1) - 1) / sx) + 1; // side by side
  const y = Math.floor(window / windows) * sy - py + (Math.floor(row / kw) % kh) * dy;
  const x = (window % windows) * sx - px + (row % kw) * dx;
  if (y < 0 || y >= height || x < 0 || x >= width) return null;
  return step.at("self", [...index.slice(0, -2), Math.floor(row / (kh * kw)), y, x]);
});

moved(["pixel_shuffle"], (step, index) => {
  const r = step.number("upscale_factor");
  const [c, y, x] = index.slice(-3) as [number, number, number];
  const channel = c * r * r + (y % r) * r + (x % r);
  return step.at("self", [...index.slice(0, -3), channel, Math.floor(y / r), Math.floor(x / r)]);
});

moved(["pixel_unshuffle"], (step, index) => {
  const r = step.number("downscale_factor");
  const [c, y, x] = index.slice(-3) as [number, number, number];
  return step.at("self", [
    ...index.slice(0, -3), Math.floor(c / (r * r)), y * r + (Math.floor(c / r) % r), x * r + (c % r),
  ]);
});

moved(["constant_pad_nd"], (step, index) => {
  const place = unpadded(step, index);
  return place.every((i, axis) => i >= 0 && i < step.shape("self")[axis]!) ? step.at("self", place) : null;
});

moved(["reflection_pad1d", "reflection_pad2d"], (step, index) => {
  const ends = step.shape("self").map((n) => n - 1);
  return step.at("self", unpadded(step, index).map((i, axis) => ends[axis]! - Math.abs(ends[axis]! - Math.abs(i))));
});

moved(["replication_pad1d"], (step, index) => {
  const ends = step.shape("self").map((n) => n - 1);
  return step.at("self", unpadded(step, index).map((i, axis) => Math.min(Math.max(i, 0), ends[axis]!)));
});

/** The place before padding, which lists what comes before and after, the last axis first. */
function unpadded(step: Step, index: Index): number[] {
  const pad = step.list(step.has("pad") ? "pad" : "padding");
  return index.map((i, axis) => i - (pad[2 * (index.length - 1 - axis)] ?? 0));
}

// ---- looked up

moved(["embedding"], (step, index) =>
  step.at("weight", [number(step.at("indices", index.slice(0, -1))), index.at(-1)!]));

moved(["gather"], (step, index) => step.at("self", index.with(step.dim(), number(step.at("index", index)))));

moved(["index_select"], (step, index) => {
  const dim = step.dim();
  return step.at("self", index.with(dim, number(step.at("index", index.slice(dim, dim + 1)))));
});

moved(["take"], (step, index) => {
  const [shape, at] = [step.shape("self"), number(step.at("index", index))];
  return step.at("self", placeAt(at < 0 ? at + product(shape) : at, shape));
});

moved(["masked_select"], (step, index) => {
  const shape = together([step.shape("self"), step.shape("mask")]);
  const mask = step.trace.values(step.tensor("mask"), grid(step.shape("mask"))).re;
  const from = reach(step.shape("mask"), shape);
  const places = [...Array(product(shape)).keys()].filter((i) => mask[from(i)]);
  return step.broadcast("self", placeAt(places[index[0]!]!, shape));
});

moved(["index"], (step, index) => {
  const { axes, at, rank, first } = lookups(step);
  const here = index.slice(first, first + rank);
  const others = index.toSpliced(first, rank);
  return step.at("self", step.shape("self").map((n, axis) => {
    const k = axes.indexOf(axis);
    return k < 0 ? others.shift()! : (entryAt(at[k]!, here) + n) % n;
  }));
});

/** The axes that are looked up, the numbers that say where, and where the axes of these stand in the result. */
function lookups(step: Step): { axes: number[]; at: Values[]; refs: number[]; rank: number; first: number } {
  const [axes, at, refs]: [number[], Values[], number[]] = [[], [], []];
  let axis = 0;
  for (const ref of (step.get("indices") as Argument[]).map(refOf)) {
    if (ref === null) axis += 1;
    else {
      refs.push(ref);
      for (const places of placesIn(step, ref)) {
        axes.push(axis++);
        at.push(places);
      }
    }
  }
  const rank = together(at.map((values) => values.shape)).length;
  return { axes, at, refs, rank, first: sideBySide(axes) ? axes[0]! : 0 };
}

/** Whether the axes are neighbours: else what they lead to stands in front. */
const sideBySide = (axes: number[]): boolean => axes.at(-1)! - axes[0]! === axes.length - 1;

/** The numbers of an index; a mask counts as the places where it is true, one index for each of its axes. */
function placesIn(step: Step, ref: number): Values[] {
  const { shape, dtype } = step.trace.tensor(ref);
  const all = grid(shape);
  const values = step.trace.values(ref, all);
  if (dtypeOf(dtype).kind !== "bool") return [new Values("int", shape, values.re)];
  const kept = [...values.re.keys()].filter((i) => values.re[i]);
  return all.map((axis) => vector(kept.map((i) => axis.re[i]!)));
}

/** The entry of an array that is repeated to a larger one, at a place in that. */
function entryAt(values: Values, place: readonly number[]): number {
  const near = broadcast(place, values.shape) as number[];
  return values.re[near.reduce((sum, i, axis) => sum * values.shape[axis]! + i, 0)]!;
}

// ---- written over; of several numbers for one place the last stays

moved(["scatter"], (step, index) => {
  const [dim, shape] = [step.dim(), step.shape("index")];
  if (index.every((i, axis) => axis === dim || i < shape[axis]!)) {
    for (let k = shape[dim]! - 1; k >= 0; k--) {
      const place = index.with(dim, k);
      if (number(step.at("index", place)) === index[dim]) return step.has("src") ? step.at("src", place) : null;
    }
  }
  return step.at("self", index);
});

moved(["slice_scatter"], (step, index) => {
  const dim = step.dim();
  const n = step.shape("self")[dim]!;
  const end = (name: string, otherwise: number): number => {
    const given = step.number(name, otherwise);
    return Math.min(Math.max(given < 0 ? given + n : given, 0), n);
  };
  const [at, by] = [index[dim]! - end("start", 0), step.number("step", 1)];
  const inside = at >= 0 && index[dim]! < end("end", n) && at % by === 0;
  return inside ? step.at("src", index.with(dim, at / by)) : step.at("self", index);
});

moved(["select_scatter"], (step, index) => {
  const [dim, at] = [step.dim(), step.number("index")];
  const n = step.shape("self")[dim]!;
  return index[dim] === (at + n) % n ? step.at("src", index.toSpliced(dim, 1)) : step.at("self", index);
});

moved(["index_copy"], (step, index) => {
  const dim = step.dim();
  for (let k = step.shape("index")[0]! - 1; k >= 0; k--) {
    if (number(step.at("index", [k])) === index[dim]) return step.at("source", index.with(dim, k));
  }
  return step.at("self", index);
});

moved(["index_put"], (step, index) => {
  const { axes, at, first } = lookups(step);
  const [shape, sizes] = [together(at.map((values) => values.shape)), step.shape("self")];
  const others = index.filter((_, axis) => !axes.includes(axis));
  for (let i = product(shape) - 1; i >= 0; i--) {
    const place = placeAt(i, shape);
    const n = (k: number): number => sizes[axes[k]!]!;
    if (axes.every((axis, k) => (entryAt(at[k]!, place) + n(k)) % n(k) === index[axis])) {
      return step.broadcast("values", others.toSpliced(first, 0, ...place));
    }
  }
  return step.at("self", index);
});
