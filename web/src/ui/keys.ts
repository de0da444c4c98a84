/** Every key of the page. What is typed into a field stays there; a tree or a dialog has its own keys. */

import {
  camera,
  engine,
  folded,
  glowing,
  gotoOpen,
  head,
  helpOpen,
  hover,
  opened,
  pinned,
  pinAnswer,
  playgroundOpen,
  position,
  narrow,
  scene,
  session,
  sheet,
  sourceAt,
  tab,
  trace,
} from "../state.ts";
import type { Block } from "../types.ts";
import { cycleHead } from "./attention.tsx";
import { bookmarks, fit, fitPointed, reveal } from "./camera.ts";
import { inOrder, wholeBlock, type Place } from "./cells.ts";
import { toggleLanguage } from "./header.tsx";
import { nextToken, stepBy } from "./load.ts";
import { cycleSources, pinPlace, pointAt, unpin, walkTo } from "./look.ts";
import { stopPlaying, togglePlay } from "./walk.ts";

const blockOf = (place: Place | null): Block | undefined => (place ? scene.peek()?.blocks[place.block] : undefined);
const current = (): Place | null => hover.peek() ?? pinned.peek()?.place ?? null;

const goTo = (place: Place): void => {
  pointAt(place);
  reveal(place);
};

/** One cell, or to the edge of the block; with nothing pointed at yet, the first token. */
const move = (dx: number, dy: number, toEdge: boolean): void => {
  const from = current();
  const block = blockOf(from);
  if (!from || !block) {
    const start = scene.peek()?.blocks.find(({ role }) => role === "tokens") ?? scene.peek()?.blocks[0];
    if (start) goTo({ block: start.id, x: 0, y: 0 });
    return;
  }
  const along = (at: number, by: number, size: number): number =>
    by === 0 ? at : toEdge ? (by < 0 ? 0 : size - 1) : Math.min(Math.max(at + by, 0), size - 1);
  goTo({ block: block.id, x: along(from.x, dx, block.size[0]), y: along(from.y, dy, block.size[1]) });
};

const toBlock = (block: Block | undefined): void => {
  if (!block) return;
  const from = current();
  goTo({ block: block.id, x: Math.min(from?.x ?? 0, block.size[0] - 1), y: Math.min(from?.y ?? 0, block.size[1] - 1) });
};

const alongDataflow = (by: 1 | -1): void => {
  const [shown, records] = [scene.peek(), trace.peek()];
  if (!shown || !records) return;
  const order = inOrder(shown, records);
  const at = order.findIndex(({ id }) => id === current()?.block);
  toBlock(order[at < 0 ? (by > 0 ? 0 : order.length - 1) : at + by]);
};

/** The same block of the layer above or below; with nothing pointed at, the layers themselves. */
const alongLayers = (by: 1 | -1): void => {
  const shown = scene.peek();
  const block = blockOf(current());
  if (!shown) return;
  const layer = (block?.layer ?? (by > 0 ? -1 : 0)) + by;
  const same =
    block &&
    shown.blocks.find((other) => other.layer === layer && other.role === block.role && other.head === block.head);
  if (same) toBlock(same);
  else {
    const group = shown.groups.find(({ role, index }) => role === "layer" && index === layer);
    if (group) fit(group);
  }
};

/** The next head; a cell of one head goes to the same cell of the other. */
const alongHeads = (by: 1 | -1): void => {
  cycleHead(by);
  const block = blockOf(current());
  if (block?.head == null || head.peek() === null) return;
  toBlock(
    scene
      .peek()
      ?.blocks.find((other) => other.head === head.peek() && other.role === block.role && other.layer === block.layer),
  );
};

const enter = (): void => {
  const source = pinAnswer.peek()?.sources[sourceAt.peek()];
  const place = hover.peek();
  if (source) walkTo(source);
  else if (place) pinPlace(place);
};

/** Esc takes back the last thing: what is pointed at, then what is pinned, then what plays or is chosen. */
const escape = (): void => {
  if (hover.peek()) pointAt(null);
  else if (pinned.peek()) unpin();
  else if (playgroundOpen.peek()) playgroundOpen.value = false;
  else {
    stopPlaying();
    head.value = null;
    position.value = null;
    opened.value = new Set();
    glowing.value = [];
  }
};

const zoom = (factor: number): void => {
  camera.value = { ...camera.peek(), distance: camera.peek().distance * factor };
};

const toTemperature = (): void => {
  playgroundOpen.value = true;
  if (narrow.peek()) {
    tab.value = "play";
    sheet.value = "full";
  }
  // as soon as it is there: a frame may take long, and the visitor may have gone to another field by then
  queueMicrotask(() => document.getElementById("temperature")?.focus());
};

const bookmark = (n: number): void => {
  const shown = scene.peek();
  const chosen = shown && bookmarks(shown)[n - 1];
  if (chosen) fit(chosen.what);
};

const KEYS: Record<string, () => void> = {
  " ": togglePlay,
  "[": () => alongDataflow(-1),
  "]": () => alongDataflow(1),
  PageUp: () => alongLayers(-1),
  PageDown: () => alongLayers(1),
  h: () => alongHeads(1),
  H: () => alongHeads(-1),
  Enter: enter,
  s: () => cycleSources(),
  S: () => cycleSources(true),
  Escape: escape,
  ",": () => stepBy(-1),
  ".": () => stepBy(1),
  n: () => {
    if (session.peek()?.can.generate) void nextToken();
  },
  t: toTemperature,
  f: fitPointed,
  g: () => {
    gotoOpen.value = true;
  },
  u: () => {
    folded.value = !folded.peek();
  },
  l: toggleLanguage,
  "?": () => {
    helpOpen.value = true;
  },
  "+": () => zoom(0.8),
  "=": () => zoom(0.8),
  "-": () => zoom(1.25),
};

const ARROWS: Record<string, [number, number]> = {
  ArrowLeft: [-1, 0],
  ArrowRight: [1, 0],
  ArrowUp: [0, -1],
  ArrowDown: [0, 1],
};

const FIELD = "input, select, textarea, [contenteditable]";
const OWN_KEYS = "button, a, [role=button], [role=tree]"; // Space and Enter are theirs

export const startKeys = (): void =>
  document.addEventListener("keydown", (event) => {
    const { key, target } = event;
    if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented || event.isComposing) return;
    if (!(target instanceof Element) || target.closest("dialog")) return;
    if (target.closest(FIELD)) {
      if (key === "Escape" && target instanceof HTMLElement) target.blur();
      return;
    }
    const arrow = ARROWS[key];
    const inScene = target.id === "scene" || target === document.body;
    if (arrow && inScene) move(...arrow, event.shiftKey);
    else if ((key === " " || key === "Enter") && target.closest(OWN_KEYS)) return;
    else if (/^[1-9]$/.test(key)) bookmark(Number(key));
    else if ((key === "PageUp" || key === "PageDown") && !inScene)
      return; // scrolls what has the focus
    else {
      const act = KEYS[key] ?? KEYS[key.toLowerCase()];
      if (!act) return;
      act();
    }
    event.preventDefault();
  });

/** For tests, and for whoever wants to see a whole block at once. */
export const showBlock = (id: number): void => {
  const block = scene.peek()?.blocks[id];
  if (block && engine.peek()) fit([wholeBlock(block)], "front");
};
