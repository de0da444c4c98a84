/** What the page knows and shows, as signals, and what follows from them. Functions that change them are in ui/. */

import { computed, effect, signal } from "@preact/signals";
import { say, type Key, type Lang } from "./i18n.ts";
import type { Engine } from "./engine/index.ts";
import type {
  Block,
  CameraPose,
  Cells,
  Chapter,
  DataSource,
  Explanation,
  RunInfo,
  Sampling,
  Scene,
  Session,
  StepInfo,
  Text,
  Token,
  TraceRecords,
  Training,
} from "./types.ts";
import { PLAIN } from "./ui/sampling.ts";
import type { Place, Ref } from "./ui/cells.ts";

// ---- what is looked at

export const source = signal<DataSource | null>(null);
export const engine = signal<Engine | null>(null); // null where there is no WebGL2
export const session = signal<Session | null>(null);
export const run = signal(0);
export const step = signal(0);
export const scene = signal<Scene | null>(null);
export const trace = signal<TraceRecords | null>(null);
export const chapters = signal<Chapter[]>([]);

export const loading = signal<Key | null>("opening"); // what is under way, in words
export const problem = signal<string | null>(null); // one sentence; the visitor closes it
export const sceneLost = signal<"unsupported" | "lost" | null>(null);

// ---- pointing

export const hover = signal<Place | null>(null); // under the mouse, or where the arrow keys have gone
export const pointer = signal<{ x: number; y: number } | null>(null); // where its pop-up goes; null: beside the cell
export const hoverAnswer = signal<Explanation | null>(null);

export interface Pin extends Ref {
  place: Place | null;
  name: string;
} // without a place: a number the scene lacks
export const trail = signal<{ pins: Pin[]; at: number }>({ pins: [], at: -1 });
export const pinned = computed<Pin | null>(() => trail.value.pins[trail.value.at] ?? null);
export const pinAnswer = signal<Explanation | null>(null);
export const folded = signal(true); // formulas over what has a name, not by the last operation alone
export const sourceAt = signal(-1); // which source the S key has reached
export const opened = signal<ReadonlySet<number>>(new Set()); // blocks whose steps are shown
export const glowing = signal<Place[]>([]); // cells that a number or a word elsewhere on the page stands for
export const lit = signal<Cells[]>([]); // the same for whole blocks
export const position = signal<number | null>(null); // the token that is looked at; null: the last
export const head = signal<number | null>(null);

// ---- the walk

export const chapter = signal<string | null>(null);
export const chapterStep = signal(0);
export const time = signal(0); // 0 to 1 within the step
export const playing = signal(false);
export const visited = signal<ReadonlySet<string>>(new Set()); // "chapter/step"

// ---- a training that is being watched

export const training = signal<Training | null>(null);
export const gradients = signal(false); // shown instead of the weights
export const following = signal(true); // the newest picture is shown as it comes

// ---- the playground

export const sampling = signal<Sampling>(PLAIN);
export const compared = signal<{ run: number; step: number; changed: number[] } | null>(null);
export const before = signal<number | string | null>(null); // what the pinned number was in that run
export const busy = signal(false); // the server computes

// ---- the page

export const lang = signal<Lang>("en");
export const theme = signal<"light" | "dark">("light");
export const camera = signal<CameraPose>({ center: [0, 0, 0], azimuth: 0, elevation: 0, distance: 100 });
export const framePose = signal<CameraPose | null>(null); // the camera of the last frame: what stands beside cells follows it
export const canvasSize = signal({ width: 0, height: 0 }); // css pixels
export const leftOpen = signal(true);
export const rightOpen = signal(false); // from when something is pinned: until then the scene has the room
export const playgroundOpen = signal(false);
export const contentsOpen = signal(false);
export const helpOpen = signal(false);
export const gotoOpen = signal(false);
export const sheet = signal<"peek" | "half" | "full">("half"); // the bottom sheet of narrow pages
export type Tab = "walk" | "cell" | "outline" | "play";
export const tab = signal<Tab>("walk");
export const announced = signal(""); // read out by screen readers

const matches = (query: string) => {
  const list = matchMedia(query);
  const now = signal(list.matches);
  list.addEventListener("change", () => (now.value = list.matches));
  return now;
};
export const narrow = matches("(max-width: 800px)");
export const stillness = matches("(prefers-reduced-motion: reduce)");
export const prefersDark = matches("(prefers-color-scheme: dark)");

// ---- what follows

export const t = (key: Key, values?: Record<string, string | number>): string => say(lang.value, key, values);
export const inLang = (text: Text): string => text[lang.value] || text.en;

export const runInfo = computed<RunInfo | null>(() => session.value?.runs.find(({ id }) => id === run.value) ?? null);
export const steps = computed<StepInfo[]>(() => runInfo.value?.steps ?? []);
export const tokens = computed<Token[]>(() => scene.value?.tokens ?? []);
/** Whether the model has read as many tokens as it can. */
export const isFull = computed(() => tokens.value.length >= Number(scene.value?.model.config.context_length ?? Infinity));
export const given = computed(() => (scene.value?.source.length ? scene.value.source : tokens.value)); // what was typed
export const heads = computed(
  () => scene.value?.blocks.reduce((most, block) => Math.max(most, (block.head ?? -1) + 1), 0) ?? 0,
);
export const pointedBlock = computed<Block | null>(() => {
  const place = hover.value ?? pinned.value?.place;
  return place ? (scene.value?.blocks[place.block] ?? null) : null;
});

effect(() => {
  document.documentElement.lang = lang.value === "zh" ? "zh-Hans" : "en";
  document.documentElement.dataset.theme = theme.value;
});
