/** Opens the source of the numbers, puts the page up, and goes to where the address says. */

import "./panels.css";
import "./app.css"; // last: the narrow page overrules the panels
import { render } from "preact";
import { batch } from "@preact/signals";
import { openSource } from "./data/index.ts";
import * as rules from "./rules/index.ts";
import * as state from "./state.ts";
import { App } from "./ui/app.tsx";
import { fit } from "./ui/camera.ts";
import { startKeys } from "./ui/keys.ts";
import { startColours } from "./ui/legend.tsx";
import { startLearning } from "./ui/learning.ts";
import { show, startComparing } from "./ui/load.ts";
import { pin, startLooking } from "./ui/look.ts";
import { startLearningTokens, startPredicting } from "./ui/next.ts";
import { stage, startAttention, startPulse } from "./ui/overlay.ts";
import { readLink, startLinking } from "./ui/permalink.ts";
import { startTelling } from "./ui/told.ts";
import { goTo, here, keepCameraOnce, startWalking, walk } from "./ui/walk.ts";

const link = readLink();

const started = async (): Promise<void> => {
  startColours();
  startKeys();
  const page = document.getElementById("page");
  if (page) render(<App />, page);
  const source = await openSource();
  const [session, chapters] = await Promise.all([source.session(), source.chapters()]);
  batch(() => ([state.source.value, state.session.value, state.chapters.value] = [source, session, chapters]));
  document.title = `${session.model.name} · glassformer`;
  const start = [
    startLooking,
    startPredicting,
    startLearningTokens,
    startLearning,
    startAttention,
    startPulse,
    startComparing,
    startTelling,
    startWalking,
  ];
  for (const begin of start) begin();
  const run = session.runs.find(({ id }) => id === link.run) ?? session.runs[0];
  const step = run?.steps.find((info) => info.step === link.step) ?? run?.steps[0];
  if (run && step) await show(run.id, step.step);
  arrive();
  startLinking();
};

/** To the place that the link names; without one, to where the walk begins, or of shapes alone to the whole of them. */
const arrive = (): void => {
  if (link.camera) keepCameraOnce();
  const first = state.session.value?.model.shapes_only ? undefined : walk.value[0];
  const told = walk.value.find(({ id }) => id === link.chapter) ?? first;
  if (told) goTo(told.id, told.id === link.chapter ? link.at : 0);
  if (link.camera) state.camera.value = link.camera;
  else if (!here.value) fit(null, "angle", undefined, 0);
  if (link.cell) pin(link.cell);
};

const ready = started().catch((error: unknown) => {
  state.loading.value = null;
  state.problem.value = error instanceof Error ? error.message : String(error);
});

declare global {
  interface Window {
    glassformer: {
      state: typeof state;
      rules: typeof rules;
      readonly engine: unknown;
      readonly stage: unknown;
      readonly source: unknown;
      ready: Promise<void>;
    };
  }
}

window.glassformer = {
  state,
  rules,
  ready,
  get engine() {
    return state.engine.peek();
  },
  get stage() {
    return stage.peek();
  },
  get source() {
    return state.source.peek();
  },
};
