/**
 * Selectors name cells of a scene by what they are, never by where: `@layer[L].head[h].q{t=last,d=0..3}`.
 *
 * All words but the last name groups by their role; groups in between may be left out. The last names blocks by their
 * role, or else groups, which stand for all their blocks but steps; with an index, a word that both have means the
 * group. An index is a number, `first`, `mid`, `last`, `*` (as if there were none) or a variable of the chapter. Braces
 * cut along axes, by the letters of docs/notation.md in lower case; `last` is the last of the text, the vocabulary and
 * so on, also in a table that is longer, and `id` is the id of the token at the variable t. `!` in front means all
 * other blocks. Where heads share keys and values, a head without its own has those of the nearest head before it.
 *
 * src/glassformer/viewer/selectors.py is the same in Python; both pass tests/viewer/selectors.json.
 */

import type { Block, Cells, Group, Scene } from "../types.ts";

export type Vars = Record<string, number | string>;

interface Word { role: string; index: string }
interface Range { axis: string; from: string; to: string }
interface Selector { negated: boolean; words: Word[]; ranges: Range[] }

const SELECTOR = /^(!?)@([a-z_]+(?:\[[^\]]+\])?(?:\.[a-z_]+(?:\[[^\]]+\])?)*)(?:\{([^{}]+)\})?$/;

const answers = new WeakMap<Scene, Map<string, Cells[]>>(); // a stage asks the same in every frame

/** Blocks, or cells in them, in the order of the scene. */
export function select(scene: Scene, selector: string, vars: Vars): Cells[] {
  const known = answers.get(scene) ?? new Map<string, Cells[]>();
  answers.set(scene, known);
  const question = `${selector} ${JSON.stringify(vars)}`;
  const found = known.get(question) ?? find(scene, selector, { ...vars, id: idAt(scene, vars) });
  known.set(question, found);
  return found;
}

function find(scene: Scene, selector: string, vars: Vars): Cells[] {
  const { negated, words, ranges } = parse(selector);
  const found = blocksOf(scene, words, vars).flatMap((block) => cut(scene, block, ranges, vars) ?? []);
  if (!negated) return found;
  const excluded = new Set(found.map((cells) => cells.block));
  return scene.blocks.filter((block) => !excluded.has(block.id)).map(whole);
}

export const whole = (block: Block): Cells =>
  ({ block: block.id, x0: 0, y0: 0, x1: block.size[0], y1: block.size[1] });

/** The groups that a selector names, if it names groups: heads to stack, layers to split. */
export function selectGroups(scene: Scene, selector: string, vars: Vars): Group[] {
  const { words } = parse(selector);
  const last = words.at(-1)!;
  if (!namesGroups(scene, last)) return [];
  const within = groupsWithin(scene, words, vars);
  return scene.groups.filter((group) => group.role === last.role && within.has(group.id));
}

/** What an index stands for among `count` things: null for all of them. */
export function resolve(index: string | number, count: number, vars: Vars): number | null {
  if (typeof index === "number" || /^\d+$/.test(index)) return Number(index);
  if (index === "*") return null;
  if (index === "first") return 0;
  if (index === "mid") return Math.floor(count / 2);
  if (index === "last") return count - 1;
  const variable = vars[index];
  if (variable === undefined || variable === index) throw new Error(`${index} is not a variable of this chapter.`);
  return resolve(variable, count, vars);
}

/** The id of the token at position t: the place of its vector in the embedding table. */
const idAt = (scene: Scene, vars: Vars): number =>
  scene.tokens[resolve(vars.t ?? "last", scene.tokens.length, vars) ?? 0]?.id ?? 0;

function parse(selector: string): Selector {
  const [, negation, path, braces] = SELECTOR.exec(selector.trim()) ?? [];
  if (path === undefined) throw new Error(`${selector} is not a selector such as @layer[0].q{t=last}.`);
  const words = path.split(".").map((word) => {
    const [role, index] = word.split(/[[\]]/);
    return { role: role!, index: index ?? "*" };
  });
  const ranges = (braces?.split(",") ?? []).map((part) => {
    const [axis, range] = part.split("=").map((side) => side.trim());
    const [from, to] = (range ?? "").split("..");
    return { axis: axis!, from: from!, to: to ?? from! };
  });
  return { negated: negation === "!", words, ranges };
}

function blocksOf(scene: Scene, words: Word[], vars: Vars): Block[] {
  const last = words.at(-1)!;
  if (namesGroups(scene, last)) {
    const within = groupsWithin(scene, words, vars);
    return scene.blocks.filter((block) => block.step_of === null && within.has(block.group));
  }
  const ofRole = scene.blocks.filter((block) => block.role === last.role);
  for (let groups: Word[] | null = words.slice(0, -1); groups !== null; groups = headBefore(scene, groups, vars)) {
    const within = groupsWithin(scene, groups, vars);
    const named = ofRole.filter((block) => within.has(block.group));
    if (named.length > 0) return last.index === "*" ? named : nth(named, last.index, vars);
    if (ofRole.length === 0) break;
  }
  return [];
}

/** The same words with the head before the one that they name. */
function headBefore(scene: Scene, words: Word[], vars: Vars): Word[] | null {
  const place = words.findIndex((word) => word.role === "head");
  const count = scene.sizes.H ?? 0;
  const head = place < 0 ? null : resolve(words[place]!.index, count, vars);
  return head && head < count ? words.with(place, { role: "head", index: `${head - 1}` }) : null;
}

const namesGroups = (scene: Scene, word: Word): boolean => scene.groups.some((group) => group.role === word.role) &&
  (word.index !== "*" || !scene.blocks.some((block) => block.role === word.role));

/** Of blocks of one role, those that are the index-th of their group. */
function nth(blocks: Block[], index: string, vars: Vars): Block[] {
  const siblings = new Map<number, Block[]>();
  for (const block of blocks) siblings.set(block.group, [...siblings.get(block.group) ?? [], block]);
  return blocks.filter((block) => {
    const all = siblings.get(block.group)!;
    return all.indexOf(block) === resolve(index, all.length, vars);
  });
}

/** The groups that lie in groups of all these words, the last word the innermost, or are such groups. */
function groupsWithin(scene: Scene, words: Word[], vars: Vars): Set<number> {
  const siblings = new Map<string, number[]>();
  const family = (group: Group): string => `${group.parent} ${group.role}`;
  for (const group of scene.groups) siblings.set(family(group), [...siblings.get(family(group)) ?? [], group.id]);
  const met: number[] = []; // how many of the words each group and those around it answer
  for (const group of scene.groups) { // parents come before their children
    const before = group.parent === null ? 0 : met[group.parent]!;
    const word = words[before];
    met.push(word && matches(group, word, siblings.get(family(group))!, vars) ? before + 1 : before);
  }
  return new Set(scene.groups.filter((group) => met[group.id] === words.length).map((group) => group.id));
}

function matches(group: Group, word: Word, siblings: number[], vars: Vars): boolean {
  if (group.role !== word.role) return false;
  const index = resolve(word.index, siblings.length, vars);
  return index === null || index === (group.index ?? siblings.indexOf(group.id));
}

/** The cells of a block within ranges; null where it lacks an axis or has no such cells. */
function cut(scene: Scene, block: Block, ranges: Range[], vars: Vars): Cells | null {
  const cells = whole(block);
  for (const { axis, from, to } of ranges) {
    const letter = axis.toUpperCase();
    const side = block.axes.indexOf(letter);
    if (side < 0) return null;
    const [size, start] = [block.size[side]!, block.start?.[side] ?? 0];
    const length = scene.sizes[letter] ?? size;
    const low = Math.max((resolve(from, length, vars) ?? 0) - start, 0);
    const high = Math.min((resolve(to, length, vars) ?? start + size - 1) - start + 1, size);
    if (low >= high) return null;
    if (side === 0) [cells.x0, cells.x1] = [low, high];
    else [cells.y0, cells.y1] = [low, high];
  }
  return cells;
}
