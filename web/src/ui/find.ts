/** "block 5 head 3 q[7,12]", "层 0 softmax", or a name as the trace has it: to the blocks that are meant. */

import type { Block, Scene, TraceRecords } from "../types.ts";
import { elementOf, placeOf, type Place } from "./cells.ts";

export interface Found {
  block: Block;
  place: Place | null;
}

const LAYER = /(?:\b(?:layer|block|blocks|l)|第?层|块)[ .#]*(\d+)/iu;
const HEAD = /(?:\b(?:head|h)|注意力头|头)[ .#]*(\d+)/iu;
const INDEX = /\[([\d,\s]+)\]\s*$/;
const MOST = 30;

export const find = (scene: Scene, trace: TraceRecords | null, wanted: string): Found[] => {
  const text = wanted.trim().toLowerCase();
  if (text === "") return [];
  const index = INDEX.exec(text)?.[1]?.split(",").map(Number) ?? null;
  const bare = text.replace(INDEX, "").trim();
  const byName = scene.blocks.filter((block) => nameOf(block) === bare);
  const blocks = byName.length > 0 ? byName : byWords(scene, bare);
  return blocks.slice(0, MOST).map((block) => ({ block, place: index ? cell(scene, trace, block, index) : null }));
};

const nameOf = (block: Block): string => block.name.replace(/\[[^\]]*\]$/, "").toLowerCase();

/** Every word must be in the block's name, role or label; the best match first. */
const byWords = (scene: Scene, text: string): Block[] => {
  const layer = LAYER.exec(text)?.[1];
  const head = HEAD.exec(text.replace(LAYER, " "))?.[1];
  const words = text.replace(LAYER, " ").replace(HEAD, " ").split(/\s+/).filter(Boolean);
  const score = (block: Block): number => {
    if (layer !== undefined && block.layer !== Number(layer)) return 0;
    if (head !== undefined && block.head !== Number(head)) return 0;
    let total = block.step_of === null ? 1 : 0.5;
    for (const word of words) {
      const texts = [block.label.en, block.label.zh, block.name, block.role.replaceAll("_", " ")].map((one) =>
        one.toLowerCase(),
      );
      const last = nameOf(block).split(".").at(-1);
      if (block.role === word || last === word) total += 4;
      else if (texts.some((one) => one.startsWith(word))) total += 2;
      else if (texts.some((one) => one.includes(word))) total += 1;
      else return 0;
    }
    return total;
  };
  return scene.blocks
    .map((block) => ({ block, points: score(block) }))
    .filter(({ points }) => points > 0)
    .sort((a, b) => b.points - a.points || a.block.id - b.block.id)
    .map(({ block }) => block);
};

/** Indices count the block's own axes, rows first as names have them, or all axes of its tensor. */
const cell = (scene: Scene, trace: TraceRecords | null, block: Block, index: number[]): Place | null => {
  const tensor = trace?.tensors[block.tensor];
  if (
    tensor &&
    trace &&
    index.length === tensor.shape.length &&
    index.every((i, axis) => i < (tensor.shape[axis] ?? 0))
  ) {
    const place = placeOf(scene, trace, { tensor: block.tensor, index });
    if (place) return place;
    const rest = elementOf(tensor, index) - block.offset;
    if (rest < 0) return null;
  }
  const [a = 0, b = 0] = index;
  const axes = tensor?.axes.filter((axis) => block.axes.includes(axis)) ?? [];
  const xFirst = index.length === 1 || axes[0] === block.axes[0];
  const [x, y] = xFirst ? [a, b] : [b, a];
  return x < block.size[0] && y < block.size[1] ? { block: block.id, x, y } : null;
};
