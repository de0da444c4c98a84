/**
 * Level of detail: which boxes show a scene from here.
 *
 * A block is a quadtree of tiles; a tile of level n has texels of 2ⁿ × 2ⁿ cells and is divided until a texel is about a
 * pixel, which its distance alone tells. A group that is smaller than 24 px is shown by its few largest blocks, so that
 * the number of boxes depends on the screen and not on the model.
 */
import { add, type View } from "./camera.ts";
import { type Atlas, type Region, rootLevel } from "./atlas.ts";
import type { Block, Cells, Group, Scene, Stage, Vec3 } from "../types.ts";

export const MAX_BOXES = 2000;
const PROXY = 24; // px
const SMALLEST = 1.2; // px; less is not drawn
const FEW = 6;

export interface Box {
  block: Block;
  x0: number; y0: number; x1: number; y1: number; // cells
  pos: Vec3; // of the corner, in the world
  opacity: number;
  ghost: boolean; // the part that an animation has not filled yet
  region: Region | null;
  tile: [x: number, y: number]; // the cell at which the region's tile begins
  distance: number;
}

interface Node { group: Group; children: Node[]; blocks: Block[]; largest: Block[]; center: Vec3; radius: number }

const area = (block: Block): number => block.size[0] * block.size[1];

export class Detail {
  readonly visibleGroups: Group[] = [];
  readonly visibleBlocks = new Map<number, number>(); // block → its opacity
  boxes: Box[] = [];
  #coarser = 0; // how much the budget of boxes made everything coarser
  readonly #roots: Node[];
  #head: number | null = null;

  constructor(private readonly scene: Scene, private readonly atlas: Atlas) {
    const nodes = new Map<number, Node>();
    for (const group of scene.groups) {
      const center: Vec3 = add(group.min, add(group.max, group.min, -1), 0.5);
      const radius = Math.hypot(...add(group.max, center, -1));
      nodes.set(group.id, { group, children: [], blocks: [], largest: [], center, radius });
    }
    for (const block of scene.blocks) {
      nodes.get(block.group)?.blocks.push(block);
      if (block.step_of !== null) continue;
      for (let up = nodes.get(block.group); up !== undefined; up = nodes.get(up.group.parent ?? -1)) up.largest.push(block);
    }
    for (const node of nodes.values()) {
      node.largest.sort((a, b) => area(b) - area(a)).splice(FEW);
      nodes.get(node.group.parent ?? -1)?.children.push(node);
    }
    this.#roots = [...nodes.values()].filter(({ group }) => group.parent === null || !nodes.has(group.parent));
  }

  /** Fills `boxes`, nearest first. */
  choose(view: View, stage: Stage, head: number | null): void {
    this.#head = head;
    if (this.boxes.length < MAX_BOXES / 2) this.#coarser = Math.max(0, this.#coarser - 0.25);
    const loose = Math.max(0, ...[...stage.offset.values()].map((o) => Math.hypot(...o)));
    for (let tries = 0; tries < 12; tries++) {
      this.boxes = [];
      this.visibleGroups.length = 0;
      this.visibleBlocks.clear();
      for (const root of this.#roots) this.#walk(root, view, stage, loose);
      if (this.boxes.length <= MAX_BOXES) break;
      this.#coarser += 0.5;
    }
    this.boxes.sort((a, b) => a.distance - b.distance);
    this.boxes.splice(MAX_BOXES);
  }

  opacity(block: Block, stage: Stage): number {
    const own = stage.opacity.get(block.id) ?? (block.step_of === null ? 1 : 0);
    return this.#head !== null && block.head !== null && block.head !== this.#head ? own * 0.1 : own;
  }

  #walk(node: Node, view: View, stage: Stage, loose: number): void {
    if (!view.sees(node.center, node.radius + loose)) return;
    const distance = Math.max(Math.hypot(...add(node.center, view.eye, -1)) - node.radius, 1);
    const small = (2 * node.radius * view.focal) / distance < PROXY * 2 ** this.#coarser;
    if (!small) this.visibleGroups.push(node.group);
    for (const block of small ? node.largest : node.blocks) this.#block(block, view, stage);
    if (!small) for (const child of node.children) this.#walk(child, view, stage, loose);
  }

  #block(block: Block, view: View, stage: Stage): void {
    const opacity = this.opacity(block, stage);
    if (opacity < 0.01) return;
    const offset = stage.offset.get(block.id);
    const pos = offset === undefined ? block.pos : add(block.pos, offset);
    const fill = stage.fills.get(block.id);
    const root = rootLevel(block);
    const before = this.boxes.length;
    this.#tile(block, pos, opacity, root, 0, 0, view, root);
    if (fill !== undefined) this.#cut(before, fill.axis === "x" ? 0 : 1, Math.floor(fill.cells));
    if (this.boxes.length > before) this.visibleBlocks.set(block.id, opacity);
  }

  #tile(block: Block, pos: Vec3, opacity: number, level: number, x: number, y: number, view: View, root: number): void {
    const side = 256 * 2 ** level;
    const [x0, y0] = [x * side, y * side];
    const [x1, y1] = [Math.min(x0 + side, block.size[0]), Math.min(y0 + side, block.size[1])];
    if (x0 >= x1 || y0 >= y1) return;
    const corner: Vec3 = [pos[0] + x0, pos[1] + y0, pos[2]];
    const size: Vec3 = [x1 - x0, y1 - y0, 1];
    const middle = add(corner, size, 0.5);
    const radius = Math.hypot(...size) / 2;
    if (!view.sees(middle, radius)) return;
    const gap = [0, 1, 2].map((i) => { // to the nearest point of the tile
      const d = corner[i as 0] - view.eye[i as 0];
      return Math.max(d, -d - size[i as 0], 0);
    }) as Vec3;
    const distance = Math.max(Math.hypot(...gap), 0.5);
    if ((2 * radius * view.focal) / distance < SMALLEST) return;
    const wanted = Math.max(0, Math.floor(Math.log2(distance / view.focal) + 0.35 + this.#coarser));
    if (wanted < level) {
      for (const [i, j] of [[0, 0], [1, 0], [0, 1], [1, 1]] as const) {
        this.#tile(block, pos, opacity, level - 1, 2 * x + i, 2 * y + j, view, root);
      }
      return;
    }
    // A block of one tile takes the level that it is seen at; one of several has just been divided down to it.
    const shown = level === root ? Math.min(wanted, Math.ceil(Math.log2(Math.max(...block.size)))) : level;
    this.boxes.push(this.#box(block, { block: block.id, x0, y0, x1, y1 }, corner, shown, opacity, distance));
  }

  /** The cells of a block, drawn somewhere else. */
  copy(cells: Cells, pos: Vec3): Box {
    let level = 0; // at which all of them lie in one tile
    const place = (cell: number): number => Math.floor(cell / 256 / 2 ** level);
    while (place(cells.x0) !== place(cells.x1 - 1) || place(cells.y0) !== place(cells.y1 - 1)) level++;
    return this.#box(this.scene.blocks[cells.block]!, cells, pos, level, 1, 1);
  }

  #box(block: Block, cells: Cells, pos: Vec3, level: number, opacity: number, distance: number): Box {
    const [x, y] = [cells.x0, cells.y0].map((cell) => Math.floor(cell / 256 / 2 ** level)) as [number, number];
    const region = block.tensor < 0 ? null : this.atlas.find(block, level, x, y);
    const side = 256 * 2 ** (region?.level ?? level);
    const tile: [number, number] = [cells.x0 - (cells.x0 % side), cells.y0 - (cells.y0 % side)];
    return { ...cells, block, pos, opacity, ghost: false, region, tile, distance };
  }

  /** Of the boxes since `first` only the cells before `end` are there yet; the rest is a ghost. */
  #cut(first: number, axis: 0 | 1, end: number): void {
    const [low, high] = axis === 0 ? (["x0", "x1"] as const) : (["y0", "y1"] as const);
    for (const box of this.boxes.slice(first)) {
      if (box[high] <= end) continue;
      if (box[low] >= end) {
        box.ghost = true;
        continue;
      }
      const rest: Box = { ...box, ghost: true, pos: [...box.pos] };
      rest.pos[axis] += end - box[low];
      rest[low] = end;
      box[high] = end;
      this.boxes.push(rest);
    }
  }
}
