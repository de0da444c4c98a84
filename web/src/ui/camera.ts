/** Where the visitor looks from: flights to what matters, cut short where motion is unwelcome. */

import type { Key } from "../i18n.ts";
import { camera, canvasSize, engine, pointedBlock, scene, stillness } from "../state.ts";
import { between } from "../engine/path.ts";
import type { CameraPose, Cells, Group, Scene } from "../types.ts";
import { cellsOf, wholeBlock, type Place } from "./cells.ts";

export type From = "front" | "left" | "right" | "above" | "angle";

let flight = 0;

/** End a flight where it is: the visitor has taken the camera. */
export const land = (): void => cancelAnimationFrame(flight);

export const flyTo = (goal: CameraPose, seconds = 0.9): void => {
  land();
  if (stillness.peek() || seconds === 0) {
    camera.value = goal;
    return;
  }
  const start = camera.peek();
  let begun: number | null = null;
  const move = (now: number): void => {
    begun ??= now;
    const t = Math.min(1, (now - begun) / (seconds * 1000));
    camera.value = between(start, goal, t * t * (3 - 2 * t));
    if (t < 1) flight = requestAnimationFrame(move);
  };
  flight = requestAnimationFrame(move);
};

export const fit = (what: Cells[] | Group | null, from?: From, margin?: number, seconds?: number): void => {
  const drawn = engine.peek();
  if (drawn && scene.peek()) flyTo(drawn.fit(what, from, margin), seconds);
};

/** The block of what is pointed at, or the whole model. */
export const fitPointed = (): void => {
  const block = pointedBlock.peek();
  fit(block ? [wholeBlock(block)] : null, block ? "front" : undefined);
};

/** Fly to a cell only if it cannot be seen from here; the distance keeps its block legible. */
export const reveal = (place: Place): void => {
  const drawn = engine.peek();
  const block = scene.peek()?.blocks[place.block];
  if (!drawn || !block) return;
  const cells = cellsOf(place);
  const { x, y, visible } = drawn.project(drawn.center(cells));
  const { width, height } = canvasSize.peek();
  const inside = visible && x > 24 && y > 24 && x < width - 24 && y < height - 24;
  if (!inside) flyTo({ ...camera.peek(), center: drawn.center(cells) }, 0.5);
};

/** What the keys 1 to 9 show: the places that every model of this kind has, from the text to the answer. */
export const bookmarks = (shown: Scene): { name: Key; what: Cells[] | Group | null }[] => {
  const group = (role: string, index?: number): Group | undefined =>
    shown.groups.find((g) => g.role === role && (index === undefined || g.index === index));
  const inside = (parent: Group | undefined, role: string): Group | undefined =>
    shown.groups.find((g) => g.role === role && g.parent === parent?.id);
  const layers = shown.groups.filter((g) => g.role === "layer");
  const [first, last] = [layers[0], layers.at(-1)];
  const logits = shown.logits === null ? undefined : shown.blocks[shown.logits];
  const places: [Key, Cells[] | Group | null | undefined][] = [
    ["model", null],
    ["embedding", group("embedding")],
    ["first_layer", first],
    ["attention", inside(first, "attention")],
    ["head", group("head", 0)],
    ["mlp", inside(first, "mlp")],
    ["last_layer", last === first ? undefined : last],
    ["output", group("output")],
    ["logits", logits && [wholeBlock(logits)]],
  ];
  return places.flatMap(([name, what]) => (what === undefined ? [] : [{ name, what }]));
};
