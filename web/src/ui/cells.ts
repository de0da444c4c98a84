/** From a cell of the scene to the number of the trace that it shows, and back. */

import type { Block, Cells, Scene, TensorRecord, TraceRecords } from "../types.ts";

/** A cell of a block. */
export interface Place {
  block: number;
  x: number;
  y: number;
}

/** One number of a trace: what `explain` is asked about. */
export interface Ref {
  tensor: number;
  index: number[];
}

export const cellsOf = ({ block, x, y }: Place): Cells => ({ block, x0: x, y0: y, x1: x + 1, y1: y + 1 });
export const wholeBlock = (block: Block): Cells => ({
  block: block.id,
  x0: 0,
  y0: 0,
  x1: block.size[0],
  y1: block.size[1],
});
export const samePlace = (a: Place | null, b: Place | null): boolean =>
  a === b || (a !== null && b !== null && a.block === b.block && a.x === b.x && a.y === b.y);

/** The indices along axes of these lengths and strides that lead to an element, or null where none do. */
const unravel = (lengths: number[], strides: number[], element: number): number[] | null => {
  const index = lengths.map(() => 0);
  const widest = lengths.map((_, axis) => axis).sort((a, b) => (strides[b] ?? 0) - (strides[a] ?? 0));
  let rest = element;
  for (const axis of widest) {
    const stride = strides[axis] ?? 0;
    if (stride <= 0) continue; // a repeated axis: any index shows the same number
    index[axis] = Math.min(Math.floor(rest / stride), (lengths[axis] ?? 1) - 1);
    rest -= (index[axis] ?? 0) * stride;
  }
  return rest === 0 && index.every((i) => i >= 0) ? index : null;
};

export const elementOf = (tensor: TensorRecord, index: number[]): number =>
  index.reduce((sum, i, axis) => sum + i * (tensor.strides[axis] ?? 0), tensor.offset);

/** The number that a cell shows; null where only shapes are known. */
export const refAt = (scene: Scene, trace: TraceRecords, place: Place): Ref | null => {
  const block = scene.blocks[place.block];
  const tensor = block && trace.tensors[block.tensor];
  if (!block || !tensor) return null;
  const element = block.offset + place.x * block.strides[0] + place.y * block.strides[1];
  const index = unravel(tensor.shape, tensor.strides, element - tensor.offset);
  return index && { tensor: block.tensor, index };
};

const byStorage = new WeakMap<Scene, Map<number, Block[]>>();

const blocksOfStorage = (scene: Scene, storage: number): Block[] => {
  let table = byStorage.get(scene);
  if (!table) {
    table = new Map();
    for (const block of scene.blocks) {
      const others = table.get(block.storage);
      if (block.tensor < 0) continue;
      if (others) others.push(block);
      else table.set(block.storage, [block]);
    }
    byStorage.set(scene, table);
  }
  return table.get(storage) ?? [];
};

/** Where the scene shows a number: in the block of its tensor if there is one, else in any window into its storage. */
export const placeOf = (scene: Scene, trace: TraceRecords, ref: Ref): Place | null => {
  const tensor = trace.tensors[ref.tensor];
  if (!tensor) return null;
  const element = elementOf(tensor, ref.index);
  const rank = (block: Block): number => (block.tensor === ref.tensor ? 0 : 2) + (block.step_of === null ? 0 : 1);
  const blocks = blocksOfStorage(scene, tensor.storage).toSorted((a, b) => rank(a) - rank(b));
  for (const block of blocks) {
    const at = unravel(block.size, block.strides, element - block.offset);
    if (at) return { block: block.id, x: at[0] ?? 0, y: at[1] ?? 0 };
  }
  return null;
};

/** Computed blocks in the order in which the model computed them. */
export const inOrder = (scene: Scene, trace: TraceRecords): Block[] => {
  const when = (block: Block): number => trace.tensors[block.tensor]?.made_by ?? -1;
  return scene.blocks
    .filter((block) => block.step_of === null && when(block) >= 0)
    .sort((a, b) => when(a) - when(b) || (a.head ?? 0) - (b.head ?? 0));
};

/** Blocks whose bytes differ between two runs of the same shape; null where the runs cannot be laid side by side. */
export const changedBlocks = (
  a: { scene: Scene; trace: TraceRecords },
  b: { scene: Scene; trace: TraceRecords },
): number[] | null => {
  if (JSON.stringify(a.scene.sizes) !== JSON.stringify(b.scene.sizes)) return null;
  const theirs = new Map(b.scene.blocks.map((block) => [block.name, block]));
  const blob = ({ trace }: { trace: TraceRecords }, block: Block | undefined): string | undefined =>
    trace.storages[block?.storage ?? -1]?.blob;
  return a.scene.blocks.filter((block) => blob(a, block) !== blob(b, theirs.get(block.name))).map(({ id }) => id);
};
