/** The left panel: the walkthrough's contents, the text of the chapter, and the buttons that go through it. */

import { useEffect, useRef } from "preact/hooks";
import { chapterStep, contentsOpen, inLang, leftOpen, narrow, playing, stillness, t, time, visited } from "../state.ts";
import type { Chapter, Panel } from "../types.ts";
import { CachePolicies } from "./cache.tsx";
import { ChapterText } from "./chapter-text.tsx";
import { Icon, IconButton } from "./icons.tsx";
import { OwnText } from "./own-text.tsx";
import { Probabilities } from "./probabilities.tsx";
import { SamplingControls } from "./sampling-controls.tsx";
import { Scale } from "./scale.tsx";
import { RunPieces } from "./tokenizer.tsx";
import { goBack, goNext, goTo, here, togglePlay, walk } from "./walk.ts";

export const Chapters = () => (
  <div class="walk">
    <ChapterHead />
    {contentsOpen.value || !here.value ? <Contents /> : <Steps told={here.value} />}
    {walk.value.length > 0 && <Transport />}
  </div>
);

const ChapterHead = () => {
  const told = here.value;
  return (
    <div class="chapter-head">
      <button
        type="button"
        class="chapter-title"
        aria-expanded={contentsOpen.value}
        onClick={() => (contentsOpen.value = !contentsOpen.value)}
      >
        <Icon name="list" />
        <span>
          {told ? (
            <>
              <span class="chapter-number">{numberOf(told)}</span>
              {inLang(told.title)}
            </>
          ) : (
            t("contents")
          )}
        </span>
      </button>
      {!narrow.value && <IconButton icon="left" label={t("hide_panel")} onClick={() => (leftOpen.value = false)} />}
    </div>
  );
};

const numberOf = (told: Chapter): number => walk.value.indexOf(told) + 1;

const seen = (told: Chapter): number => told.steps.filter((_, i) => visited.value.has(`${told.id}/${i}`)).length;

const Contents = () => (
  <nav class="contents" aria-label={t("contents")}>
    <ol>
      {walk.value.map((told, i) => (
        <li key={told.id}>
          <button
            type="button"
            aria-current={told === here.value ? "true" : undefined}
            onClick={() => {
              contentsOpen.value = false;
              goTo(told.id);
            }}
          >
            <span class="chapter-number">{i + 1}</span>
            <span class="chapter-name">{inLang(told.title)}</span>
            <progress
              max={told.steps.length}
              value={seen(told)}
              aria-label={t("progress", { n: seen(told), of: told.steps.length })}
            />
          </button>
        </li>
      ))}
    </ol>
    {walk.value.length === 0 && <p class="quiet">{t("no_chapters")}</p>}
  </nav>
);

/** All steps of the chapter; the one that is shown stands out and is scrolled to. */
const Steps = ({ told }: { told: Chapter }) => {
  const list = useRef<HTMLOListElement>(null);
  const at = chapterStep.value;
  useEffect(() => {
    const box = list.current;
    const item = box?.children[at];
    if (!box || !(item instanceof HTMLElement)) return;
    box.scrollTo({ top: item.offsetTop - 16, behavior: stillness.peek() ? "instant" : "smooth" });
  }, [told.id, at]);
  return (
    <ol class="story" ref={list} tabIndex={0} aria-label={inLang(told.title)}>
      {told.steps.map((step, i) => (
        <li key={i} aria-current={i === at ? "step" : undefined}>
          <button
            type="button"
            class="step-number"
            aria-label={t("go_to_step", { n: i + 1 })}
            onClick={() => goTo(told.id, i)}
          >
            {i + 1}
          </button>
          <div>
            <ChapterText told={told} step={step} />
            {i === at && step.panel && <StepPanel panel={step.panel} />}
          </div>
        </li>
      ))}
    </ol>
  );
};

/** What a step lets the visitor play with. */
const StepPanel = ({ panel }: { panel: Panel }) => (
  <div class="step-panel">
    {panel === "tokenizer" ? (
      <>
        <RunPieces />
        <OwnText />
      </>
    ) : panel === "scale" ? (
      <Scale />
    ) : panel === "cache" ? (
      <CachePolicies />
    ) : (
      <>
        <SamplingControls />
        <Probabilities most={8} />
      </>
    )}
  </div>
);

const Transport = () => {
  const told = here.value;
  const done = (i: number): number =>
    i < chapterStep.value ? 1 : i === chapterStep.value ? Math.max(0.08, time.value) : 0;
  return (
    <div class="transport" role="group" aria-label={t("walkthrough")}>
      {told && (
        <div class="segments">
          {told.steps.map((_, i) => (
            <button key={i} type="button" tabIndex={-1} aria-hidden="true" onClick={() => goTo(told.id, i)}>
              <span
                style={{
                  width: `${100 * done(i)}%`,
                }}
              />
            </button>
          ))}
        </div>
      )}
      <div class="transport-buttons">
        <IconButton icon="back" label={t("back")} onClick={goBack} />
        <button type="button" class="primary play" aria-pressed={playing.value} onClick={togglePlay}>
          <Icon name={playing.value ? "pause" : "play"} /> {t(playing.value ? "pause" : told ? "play" : "begin_walk")}
        </button>
        <IconButton icon="next" label={t("next")} onClick={goNext} />
      </div>
      <p class="quiet press-space">
        {t("press_space_before")} <kbd>{t("space_key")}</kbd> {t("press_space_after")}
      </p>
    </div>
  );
};
