/** From the logits of a position to the probabilities of the next token: the twin of inference/logits.py. */

import type { Sampling } from "../types.ts";

export const PLAIN: Sampling = { temperature: 1, top_k: null, top_p: null, seed: 0 };

/** The probability of every token of the vocabulary; those that top-k and top-p drop have 0. */
export const distribution = (logits: Float64Array, sampling: Sampling): Float64Array => {
  const highest = logits.reduce((a, b) => Math.max(a, b), -Infinity);
  if (sampling.temperature === 0) {
    const chosen = logits.indexOf(highest);
    return logits.map((_, id) => (id === chosen ? 1 : 0));
  }
  let kept: Float64Array = logits.map((logit) => (logit - highest) / sampling.temperature);
  if (sampling.top_k !== null && sampling.top_k > 0 && sampling.top_k < kept.length) {
    const least = kept.toSorted().at(-sampling.top_k) ?? -Infinity;
    kept = kept.map((logit) => (logit < least ? -Infinity : logit));
  }
  if (sampling.top_p !== null && sampling.top_p < 1) kept = keepMass(kept, sampling.top_p);
  return softmax(kept);
};

const softmax = (logits: Float64Array): Float64Array => {
  const highest = logits.reduce((a, b) => Math.max(a, b), -Infinity);
  const exponentials = logits.map((logit) => Math.exp(logit - highest));
  const total = exponentials.reduce((a, b) => a + b, 0);
  return exponentials.map((exponential) => exponential / total);
};

/** The smallest set of most likely tokens whose mass reaches p. */
const keepMass = (logits: Float64Array, p: number): Float64Array => {
  const probs = softmax(logits);
  const kept = new Float64Array(logits.length).fill(-Infinity);
  let mass = 0;
  for (const id of ranked(probs)) {
    if (mass >= p) break;
    mass += probs[id] ?? 0;
    kept[id] = logits[id] ?? 0;
  }
  return kept;
};

/** Token ids, the most likely first; equal ones in the order of their ids. */
export const ranked = (probs: Float64Array): number[] =>
  Array.from(probs.keys()).sort((a, b) => (probs[b] ?? 0) - (probs[a] ?? 0) || a - b);
