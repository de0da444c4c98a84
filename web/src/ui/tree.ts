/** The scene as a tree of groups and blocks: the rows that the outline shows. */

import { computed, signal } from "@preact/signals";
import { scene } from "../state.ts";
import type { Block, Group, Scene, Text } from "../types.ts";

export interface Row {
  key: string; // "g3" or "b17"
  group: Group | null;
  block: Block | null;
  label: Text;
  level: number; // from 1
  open: boolean | null; // null: nothing to open
  place: number; // among its siblings, from 1
  siblings: number;
  parent: string | null;
}

export const unfolded = signal<ReadonlySet<string>>(new Set(["g0"]));

interface Child {
  group: Group | null;
  block: Block | null;
  y: number;
}

/** From the top down; layers and heads, which may stand beside each other, by their numbers. */
const childrenOf = (shown: Scene): Map<string, Child[]> => {
  const table = new Map<string, Child[]>();
  const tops = new Map<string, number>();
  const add = (key: string, child: Child): void => {
    const list = table.get(key);
    if (list) list.push(child);
    else table.set(key, [child]);
  };
  for (const { parent, role, min } of shown.groups)
    tops.set(`${parent} ${role}`, Math.min(min[1], tops.get(`${parent} ${role}`) ?? Infinity));
  for (const group of shown.groups) {
    const y =
      group.index === null ? group.min[1] : (tops.get(`${group.parent} ${group.role}`) ?? 0) + group.index * 1e-6;
    add(group.parent === null ? "" : `g${group.parent}`, { group, block: null, y });
  }
  for (const block of shown.blocks) {
    add(block.step_of === null ? `g${block.group}` : `b${block.step_of}`, { group: null, block, y: block.pos[1] });
  }
  for (const list of table.values()) list.sort((a, b) => a.y - b.y);
  return table;
};

const tree = computed(() => scene.value && childrenOf(scene.value));

/** The rows that are unfolded, from the top of the model down. */
export const rows = computed<Row[]>(() => {
  const table = tree.value;
  const found: Row[] = [];
  const visit = (key: string, level: number): void => {
    const children = table?.get(key) ?? [];
    children.forEach(({ group, block }, i) => {
      const own = group ? `g${group.id}` : `b${block?.id}`;
      const label = group?.label ?? block?.label ?? { en: "", zh: "" };
      const open = table?.has(own) ? unfolded.value.has(own) : null;
      found.push({
        key: own,
        group,
        block,
        label,
        level,
        open,
        place: i + 1,
        siblings: children.length,
        parent: key || null,
      });
      if (open) visit(own, level + 1);
    });
  };
  visit("", 1);
  return found;
});

export const fold = (key: string, open: boolean): void => {
  unfolded.value = new Set(open ? [...unfolded.peek(), key] : [...unfolded.peek()].filter((other) => other !== key));
};

/** Unfold all that a block lies in, so that its row can be shown. */
export const unfoldTo = (block: Block): string => {
  const shown = scene.peek();
  const above: string[] = block.step_of === null ? [] : [`b${block.step_of}`];
  for (let at: number | null = block.group; at !== null && shown; at = shown.groups[at]?.parent ?? null)
    above.push(`g${at}`);
  unfolded.value = new Set([...unfolded.peek(), ...above]);
  return `b${block.id}`;
};
