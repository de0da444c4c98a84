/** The strip below the scene: the text as tokens, the recorded steps, what comes next, and the visitor's own text. */

import { useEffect, useRef } from "preact/hooks";
import {
  busy,
  compared,
  given,
  inLang,
  isFull,
  narrow,
  playgroundOpen,
  position,
  run,
  runInfo,
  scene,
  session,
  step,
  steps,
  t,
  tokens,
} from "../state.ts";
import { lookAtToken } from "./attention.tsx";
import { share, tokenText } from "./format.ts";
import { IconButton } from "./icons.tsx";
import { compareWith, nextToken, show, stepBy } from "./load.ts";
import { candidates, textOf } from "./next.ts";
import { OwnText } from "./own-text.tsx";
import { Probabilities } from "./probabilities.tsx";
import { SamplingControls } from "./sampling-controls.tsx";

export const Playground = () => {
  const open = playgroundOpen.value || narrow.value;
  return (
    <section class={open ? "playground open" : "playground"} aria-label={t("playground")}>
      <div class="strip">
        <div class="text-row">
          {given.value !== tokens.value && (
            <p class="tokens quiet" tabIndex={0}>
              {given.value.map((token) => (
                <span class="token">{tokenText(token)}</span>
              ))}
              →
            </p>
          )}
          <TokenRow />
          <Prediction />
          <Ended />
        </div>
        <div class="control-row">
          {(steps.value.length > 1 || session.value?.can.generate) && <Steps />}
          {!narrow.value && (
            <button type="button" class="unfold" aria-expanded={open} onClick={() => (playgroundOpen.value = !open)}>
              {t(open ? "close_playground" : "open_playground")} <kbd>T</kbd>
            </button>
          )}
        </div>
      </div>
      {open && (
        <div class="playground-body">
          <div class="column">
            <OwnText />
            <Runs />
          </div>
          <div class="column">
            <h2>{t("what_next")}</h2>
            <SamplingControls />
            <div class="scroll" tabIndex={0} role="region" aria-label={t("probabilities")}>
              <Probabilities />
            </div>
          </div>
        </div>
      )}
    </section>
  );
};

/** The text as the model reads it; its end is in view. */
const TokenRow = () => {
  const row = useRef<HTMLOListElement>(null);
  const all = tokens.value;
  const written = runInfo.value?.n_prompt ?? all.length;
  useEffect(() => row.current?.scrollTo({ left: row.current.scrollWidth }), [all]);
  return (
    <ol class="tokens" ref={row} aria-label={t("tokens_read")}>
      {all.map((token, i) => (
        <li key={i}>
          <button
            type="button"
            class={i < written ? "token" : "token written"}
            aria-pressed={position.value === i}
            title={t(i < written ? "token_title" : "written_title", { n: i, id: token.id })}
            onClick={() => lookAtToken(i)}
          >
            {tokenText(token)}
          </button>
        </li>
      ))}
    </ol>
  );
};

const Prediction = () => {
  const best = candidates.value?.top[0];
  return best ? (
    <p class="prediction">
      <span aria-hidden="true">→</span>
      <button type="button" class="token" title={t("predicted")} onClick={() => (playgroundOpen.value = true)}>
        {textOf(best.id)} <span class="number">{share(best.probability)}</span>
      </button>
    </p>
  ) : null;
};

/** The end of a text that fills the model: of a task with an answer, the answer. */
const Ended = () => {
  const best = candidates.value?.top[0];
  if (!isFull.value || !best || steps.value.at(-1)?.step !== step.value) return null;
  const n = runInfo.value?.n_prompt ?? 0;
  const written = tokens.value.slice(n).map(tokenText);
  const isAnswer = scene.value?.model.about?.input.length === n; // a prompt of the length that the task has
  return (
    <p class="ended" role="status">
      {isAnswer
        ? t("answer_whole", { text: [...written, textOf(best.id)].join("") })
        : t("context_full", { n: tokens.value.length })}
    </p>
  );
};

const Steps = () => {
  const list = steps.value;
  const at = list.findIndex((info) => info.step === step.value);
  const live = session.value?.can.generate ?? false;
  return (
    <div class="step-buttons" role="group" aria-label={t("steps")}>
      <IconButton icon="left" label={t("step_back")} keys="," disabled={at <= 0} onClick={() => stepBy(-1)} />
      {list.length > 1 && (
        <input
          type="range"
          aria-label={t("history")}
          min={0}
          max={list.length - 1}
          value={Math.max(0, at)}
          aria-valuetext={t("step_of", { n: at + 1, of: list.length })}
          onInput={(event) => {
            const to = list[Number(event.currentTarget.value)];
            if (to) void show(run.value, to.step);
          }}
        />
      )}
      <IconButton
        icon="right"
        label={t("step_forward")}
        keys="."
        disabled={at >= list.length - 1}
        onClick={() => stepBy(1)}
      />
      {live && (
        <button type="button" class="primary" disabled={busy.value || isFull.value} onClick={() => void nextToken()}>
          {t("next_token")} <kbd>N</kbd>
        </button>
      )}
    </div>
  );
};

/** The runs so far, and which of them the shown one is compared with. */
const Runs = () => {
  const runs = session.value?.runs ?? [];
  if (runs.length < 2) return null;
  const change = (value: string): void => void compareWith(value === "" ? null : Number(value));
  return (
    <div class="runs">
      <label>
        {t("run_shown")}{" "}
        <select
          value={run.value}
          onChange={(event) => {
            const info = runs.find(({ id }) => id === Number(event.currentTarget.value));
            if (info) void show(info.id, info.steps.at(-1)?.step ?? 0);
          }}
        >
          {runs.map((info) => (
            <option key={info.id} value={info.id}>
              {info.id} · {inLang(info.label)}
            </option>
          ))}
        </select>
      </label>
      <label>
        {t("compare_with")}{" "}
        <select value={compared.value?.run ?? ""} onChange={(event) => change(event.currentTarget.value)}>
          <option value="">{t("no_run")}</option>
          {runs
            .filter(({ id }) => id !== run.value)
            .map((info) => (
              <option key={info.id} value={info.id}>
                {info.id} · {inLang(info.label)}
              </option>
            ))}
        </select>
      </label>
    </div>
  );
};
