/** A training that is being watched: what the server tells of it, and the newest picture shown while it comes. */

import { batch } from "@preact/signals";
import { following, run, runInfo, session, source, step, training } from "../state.ts";
import type { StepInfo, TrainingNews } from "../types.ts";
import { show } from "./load.ts";

const MOST_LOSSES = 8192; // of more, every other is left out

const withPicture = (info: StepInfo): void => {
  const now = session.peek();
  if (!now) return;
  const runs = now.runs.map(each => each.id !== info.run ? each
    : { ...each, steps: [...each.steps.filter(old => old.step !== info.step), info] });
  session.value = { ...now, runs };
};

const hear = (news: TrainingNews): void => {
  if (news.kind === "so far") {
    const now = session.peek();
    batch(() => {
      if (now) session.value = { ...now, runs: news.runs };
      training.value = news.training;
    });
    return;
  }
  const known = training.peek();
  if (!known) return;
  if (news.kind === "loss") {
    const losses = known.losses.length < MOST_LOSSES ? known.losses : known.losses.filter((_, i) => i % 2 === 0);
    training.value = { ...known, steps: news.steps, losses: [...losses, [news.step, news.loss]] };
  } else if (news.kind === "figures") training.value = { ...known, figures: news.figures };
  else if (news.kind === "ended") training.value = { ...known, ended: true };
  else {
    const pictures = [...known.pictures];
    pictures[news.info.step] = news.at;
    batch(() => {
      withPicture(news.info);
      training.value = { ...known, pictures };
    });
    if (following.peek()) void show(news.info.run, news.info.step);
  }
};

export const startLearning = (): void => {
  const from = source.peek();
  if (!session.peek()?.can.train || !from?.training) return;
  from.training(hear);
};

/** The training step of the picture that is shown. */
export const pictured = (): number | null => training.value?.pictures[step.value] ?? null;

export const follow = (on: boolean): void => {
  following.value = on;
  const last = runInfo.peek()?.steps.at(-1);
  if (on && last) void show(run.peek(), last.step);
};
