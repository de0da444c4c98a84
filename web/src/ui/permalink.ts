/** What is looked at, in the address: a link shows the same to whoever opens it. */

import { effect } from "@preact/signals";
import { camera, chapter, chapterStep, lang, pinned, prefersDark, run, session, step, theme } from "../state.ts";
import type { CameraPose, Vec3 } from "../types.ts";
import type { Ref } from "./cells.ts";

export interface Link {
  run: number | null;
  step: number | null;
  chapter: string | null;
  at: number;
  camera: CameraPose | null;
  cell: Ref | null;
}

const numbers = (text: string | null, count: number): number[] | null => {
  const found = text?.split(",").map(Number) ?? [];
  return found.length === count && found.every(Number.isFinite) ? found : null;
};

const whole = (text: string | null): number | null => (text !== null && /^\d{1,9}$/.test(text) ? Number(text) : null);

/** Read the address; language and theme are taken over at once. */
export const readLink = (): Link => {
  const hash = new URLSearchParams(location.hash.slice(1));
  const language = hash.get("lang") ?? (navigator.language.toLowerCase().startsWith("zh") ? "zh" : "en");
  lang.value = language === "zh" ? "zh" : "en";
  const wanted = hash.get("theme");
  theme.value = wanted === "dark" || wanted === "light" ? wanted : prefersDark.peek() ? "dark" : "light";
  const pose = numbers(hash.get("camera"), 6);
  const [tensor, index] = (hash.get("cell") ?? "").split(":");
  const axes = index === undefined || index === "" ? [] : index.split(",").map(Number);
  const at = whole(tensor ?? null);
  return {
    run: whole(hash.get("run")),
    step: whole(hash.get("step")),
    chapter: hash.get("chapter"),
    at: whole(hash.get("at")) ?? 0,
    camera: pose && {
      center: pose.slice(0, 3) as Vec3,
      azimuth: pose[3] ?? 0,
      elevation: pose[4] ?? 0,
      distance: Math.max(1e-3, pose[5] ?? 1),
    },
    cell: at !== null && axes.every((i) => Number.isInteger(i) && i >= 0) ? { tensor: at, index: axes } : null,
  };
};

const written = (): string => {
  const { center, azimuth, elevation, distance } = camera.value;
  const cell = pinned.value;
  const parts: [string, string | null][] = [
    ["model", session.value?.model.name ?? null],
    ["run", String(run.value)],
    ["step", String(step.value)],
    ["chapter", chapter.value],
    ["at", chapter.value === null ? null : String(chapterStep.value)],
    ["camera", [...center, azimuth, elevation, distance].map((n) => Number(n.toFixed(2))).join(",")],
    ["cell", cell && `${cell.tensor}:${cell.index.join(",")}`],
    ["lang", lang.value],
    ["theme", theme.value],
  ];
  return parts
    .flatMap(([name, value]) =>
      value === null ? [] : [`${name}=${encodeURIComponent(value).replaceAll("%2C", ",").replaceAll("%3A", ":")}`],
    )
    .join("&");
};

const WAIT = 400; // milliseconds of rest, since browsers count how often an address changes

export const startLinking = (): void => {
  if (location.protocol === "about:") return; // a notebook's frame has no address
  let timer = 0;
  effect(() => {
    const hash = written();
    clearTimeout(timer);
    timer = window.setTimeout(() => history.replaceState(history.state, "", `#${hash}`), WAIT);
  });
};
