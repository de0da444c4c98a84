/** What the model says next: the distribution at the position that is looked at, from the recorded logits. */

import { computed, effect, signal } from "@preact/signals";
import { compared, position, run, sampling, scene, session, source, step, tokens } from "../state.ts";
import type { Block, DataSource, Scene, Token } from "../types.ts";
import { tokenText } from "./format.ts";
import type { Place } from "./cells.ts";
import { distribution, ranked } from "./sampling.ts";

export const logits = signal<Float64Array | null>(null);
export const logitsBefore = signal<Float64Array | null>(null); // of the run that this one is compared with

export const asking = computed(() => position.value ?? Math.max(0, tokens.value.length - 1));

/** The windows that the logits are shown in: one block, or of a large vocabulary several, in the order of the ids. */
const logitBlocks = (shown: Scene): Block[] => {
  const first = shown.logits === null ? undefined : shown.blocks[shown.logits];
  if (!first || first.tensor < 0) return [];
  return shown.blocks
    .filter((block) => block.tensor === first.tensor && block.role === first.role)
    .sort((a, b) => a.offset - b.offset);
};

const along = (block: Block): 0 | 1 => (block.axes[0] === "V" ? 0 : 1); // the axis of the vocabulary
const column = (block: Block, at: number): number => Math.min(at, block.size[along(block) === 0 ? 1 : 0] - 1);

/** The cell of a token's logit; the last position may be all that is recorded. */
export const logitPlace = (shown: Scene, at: number, id: number): Place | null => {
  let rest = id;
  for (const block of logitBlocks(shown)) {
    const length = block.size[along(block)];
    if (rest < length) {
      return along(block) === 0
        ? { block: block.id, x: rest, y: column(block, at) }
        : { block: block.id, x: column(block, at), y: rest };
    }
    rest -= length;
  }
  return null;
};

const read = async (from: DataSource, shown: Scene, r: number, n: number, at: number): Promise<Float64Array | null> => {
  const parts = await Promise.all(
    logitBlocks(shown).map((block) =>
      along(block) === 0
        ? from.numbers(r, n, block, 0, column(block, at), block.size[0], 1)
        : from.numbers(r, n, block, column(block, at), 0, 1, block.size[1]),
    ),
  );
  return parts.length > 0 ? Float64Array.from(parts.flatMap((part) => [...part])) : null;
};

export const startPredicting = (): void => {
  effect(() => {
    const [from, shown, at] = [source.value, scene.value, asking.value];
    let current = true;
    const numbers = from && shown ? read(from, shown, run.peek(), step.peek(), at) : Promise.resolve(null);
    numbers.then(
      (values) => {
        if (current) logits.value = values;
      },
      () => {
        if (current) logits.value = null;
      },
    );
    return () => {
      current = false;
    };
  });
  effect(() => {
    const [from, other, at] = [source.value, compared.value, asking.value];
    let current = true;
    logitsBefore.value = null;
    if (from && other) {
      void from
        .scene(other.run, other.step)
        .then((shown) => read(from, shown, other.run, other.step, at))
        .then(
          (values) => {
            if (current) logitsBefore.value = values;
          },
          () => undefined,
        );
    }
    return () => {
      current = false;
    };
  });
};

/** A token of the vocabulary with its probability; `was` in the other run. */
export interface Candidate {
  id: number;
  probability: number;
  was: number | null;
}

const SHOWN = 50;

/** The most likely tokens, and what is left for all others. */
export const candidates = computed<{ top: Candidate[]; others: number; rest: number } | null>(() => {
  if (!logits.value) return null;
  const probs = distribution(logits.value, sampling.value);
  const before = logitsBefore.value && distribution(logitsBefore.value, sampling.value);
  const top = ranked(probs)
    .slice(0, SHOWN)
    .map((id) => ({ id, probability: probs[id] ?? 0, was: before ? (before[id] ?? 0) : null }));
  const rest = Math.max(0, 1 - top.reduce((sum, { probability }) => sum + probability, 0));
  return { top, others: probs.length - top.length, rest: probs.length > top.length ? rest : 0 };
});

// ---- the texts of tokens, by id: from the texts at hand, and from the source where it has the vocabulary

const ofTokens = signal<ReadonlyMap<number, Token>>(new Map());
const ofClasses = signal<ReadonlyMap<number, Token>>(new Map());
const asked = new Set<number>();

/** Whether the logits are those of a text's classes, whose ids are not those of its tokens. */
export const tellsClasses = computed(() => (scene.value ? logitBlocks(scene.value)[0]?.role === "class_logits" : false));
const texts = computed(() => (tellsClasses.value ? ofClasses : ofTokens));

const learn = (found: Token[], known = ofTokens): void => {
  const unknown = found.filter(({ id }) => !known.peek().has(id));
  if (unknown.length > 0)
    known.value = new Map([...known.peek(), ...unknown.map((token) => [token.id, token] as const)]);
};

export const startLearningTokens = (): void => {
  effect(() => learn(tokens.value));
  effect(() => learn(session.value?.runs.flatMap((info) => info.steps.flatMap((one) => one.tokens)) ?? []));
  effect(() => {
    const known = texts.value;
    const ids = candidates.value?.top.map(({ id }) => id).filter((id) => !known.value.has(id) && !asked.has(id)) ?? [];
    if (ids.length === 0) return;
    ids.forEach((id) => asked.add(id));
    source.value?.vocabulary?.(ids).then((found) => learn(found, known), () => undefined);
  });
};

/** A token's text, or a class's name; "#464" where the model has no tokenizer. */
export const textOf = (id: number): string => {
  const token = texts.value.value.get(id);
  return token ? tokenText(token) : `#${id}`;
};
