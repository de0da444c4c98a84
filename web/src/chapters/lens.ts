/**
 * What the model takes to come next: its own guess, and the logit lens, the guess that it would make if it stopped
 * after some layer (nostalgebraist 2020, "interpreting GPT: the logit lens").
 *
 * For the lens, the residual stream of that layer goes through the final norm and lm_head, as the last one's does. This
 * is arithmetic on loaded numbers, done here in float64; models whose lm_head is too large for the page have no lens.
 * What the model does beside these two, so does the lens: it scales what the head reads, divides logits or caps them.
 */

import type { Block, Scene } from "../types.ts";
import type { Numbers } from "./numbers.ts";
import { select, whole } from "./selectors.ts";

export interface Guess { id: number; probability: number }

const MAX_CELLS = 1e6; // of lm_head
const known = new WeakMap<Numbers, Map<string, Guess>>(); // a guess is made once, not in every frame

/** The most likely next token, by the logits of the last position; undefined until they have come. */
export const prediction = (numbers: Numbers): Guess | undefined => remember(numbers, "prediction", () => {
  const parts = select(numbers.scene, "@logits", {}).map((cells) => numbers.of({ ...cells, x0: cells.x1 - 1 }));
  return parts.length > 0 && parts.every((part) => part !== undefined) ? mostLikely(parts.flat()) : undefined;
});

/** The same, read off the stream behind a layer; -1 is before the first. */
export const lens = (numbers: Numbers, layer: number): Guess | undefined => remember(numbers, `${layer}`, () => {
  const { scene } = numbers;
  const stream = streamAfter(scene, layer);
  if (!hasLens(scene) || stream === undefined) return undefined;
  const last = stream.size[0] - 1;
  const x = numbers.of({ ...whole(stream), x0: last });
  const features = x && normalise(numbers, x);
  const logits = headsOf(scene).map((head) => features && logitsOf(numbers, head, features));
  if (!logits.every((part) => part !== undefined)) return undefined;
  const { config } = scene.model;
  const [scaling, cap] = [Number(config.logits_scaling ?? 1), Number(config.logit_softcap ?? 0)];
  const scale = (scene.blocks.some(({ role }) => role === "scaled") ? Math.sqrt(stream.size[1]) : 1) * scaling;
  const scaled = logits.flat().map((one) => one / scale);
  return mostLikely(cap > 0 ? scaled.map((one) => cap * Math.tanh(one / cap)) : scaled);
});

export const hasLens = (scene: Scene): boolean => !scene.lazy && headsOf(scene).length > 0 &&
  finalNorm(scene).length > 0 && headsOf(scene).reduce((sum, { size }) => sum + size[0] * size[1], 0) <= MAX_CELLS;

/** The block of the residual stream behind a layer: the last of it that is not behind a later one. */
export const streamAfter = (scene: Scene, layer: number): Block | undefined =>
  scene.stream.map((id) => scene.blocks[id]!).filter((block) => (block.layer ?? -1) <= layer).at(-1);

const headsOf = (scene: Scene): Block[] => scene.blocks.filter((block) => block.role === "lm_head");

const finalNorm = (scene: Scene): Block[] =>
  scene.blocks.filter((block) => block.layer === null && scene.groups[block.group]!.role === "norm");

function remember(numbers: Numbers, name: string, guess: () => Guess | undefined): Guess | undefined {
  const guesses = known.get(numbers) ?? new Map<string, Guess>();
  known.set(numbers, guesses);
  const found = guesses.get(name) ?? guess();
  if (found !== undefined) guesses.set(name, found);
  return found;
}

/** The token with the highest logit, and its share of the softmax. */
function mostLikely(logits: number[]): Guess {
  const highest = logits.reduce((a, b) => Math.max(a, b));
  const total = logits.reduce((sum, logit) => sum + Math.exp(logit - highest), 0);
  return { id: logits.indexOf(highest), probability: 1 / total };
}

/** LayerNorm where the model's own last norm subtracts a mean, else RMSNorm. */
function normalise(numbers: Numbers, x: number[]): number[] | undefined {
  const blocks = finalNorm(numbers.scene);
  const column = (role: string): number[] | undefined | null => {
    const block = blocks.find((one) => one.role === role);
    return block === undefined ? null : numbers.of(whole(block));
  };
  const [weight, bias] = [column("norm_weight"), column("norm_bias")];
  if (weight === undefined || bias === undefined) return undefined;
  const average = (of: number[]): number => of.reduce((sum, one) => sum + one, 0) / of.length;
  const mean = blocks.some((block) => block.role === "mean") ? average(x) : 0;
  const centred = x.map((one) => one - mean);
  const eps = Number(numbers.scene.model.config.norm_eps ?? 1e-5);
  const spread = Math.sqrt(average(centred.map((one) => one * one)) + eps);
  return centred.map((one, c) => one / spread * (weight?.[c] ?? 1) + (bias?.[c] ?? 0));
}

/** The features' dot product with each token's vector in (a panel of) lm_head. */
function logitsOf(numbers: Numbers, head: Block, features: number[]): number[] | undefined {
  const weights = numbers.of(whole(head));
  const [width, height] = head.size;
  const tokensAlongX = head.axes[0] === "V"; // else they run along y
  return weights && Array.from({ length: tokensAlongX ? width : height }, (_, v) =>
    features.reduce((sum, one, c) => sum + one * weights[tokensAlongX ? c * width + v : v * width + c]!, 0));
}
