/**
 * The server that `glassformer view` runs. What fits into the page is fetched once and computed here, as in a
 * recording; of a model that does not fit (`lazy`), the server is asked for tiles, numbers and explanations.
 */
import type {
  Block, Chapter, DataSource, Explanation, RunInfo, Sampling, Scene, Session, StepInfo, StorageRecord, Tile, Token,
  TokenizedPiece, TraceRecords, Training, TrainingNews,
} from "../types.ts";
import { Once } from "./once.ts";
import { LoadedStep } from "./step.ts";

const KEPT = 12; // steps, of those last shown
const TILES_AT_ONCE = 32;
const KEPT_BLOBS = 8192; // storages: of a step there are some hundred, and weights are there once for all

export class LiveSource implements DataSource {
  readonly #scenes = new Once<Scene>(KEPT);
  readonly #traces = new Once<TraceRecords>(KEPT);
  readonly #steps = new Once<LoadedStep>(KEPT);
  readonly #bytes = new Once<Uint8Array>(KEPT_BLOBS);

  session(): Promise<Session> {
    return json("session");
  }

  scene(run: number, step: number): Promise<Scene> {
    const path = `${place(run, step)}/scene`;
    return this.#scenes.get(path, () => json(path));
  }

  trace(run: number, step: number): Promise<TraceRecords> {
    const path = `${place(run, step)}/trace`;
    return this.#traces.get(path, () => json(path));
  }

  async tile(run: number, step: number, block: Block, level: number, x: number, y: number): Promise<Tile> {
    const loaded = await this.#loaded(run, step);
    if (loaded !== null) return loaded.tile(block, level, x, y);
    return this.#tiles(place(run, step), [block.id, level, x, y]);
  }

  #batch: { path: string; wanted: number[][]; answer: Promise<Tile[]> } | null = null;

  /** Tiles that are asked for in one moment, as those of a frame are, come in one answer. */
  async #tiles(path: string, wanted: number[]): Promise<Tile> {
    if (this.#batch === null || this.#batch.path !== path || this.#batch.wanted.length >= TILES_AT_ONCE) {
      const asked: number[][] = [];
      const answer = new Promise(done => setTimeout(done)).then(() => {
        if (this.#batch?.wanted === asked) this.#batch = null;
        return fetchedTiles(path, asked);
      });
      this.#batch = { path, wanted: asked, answer };
    }
    const { wanted: all, answer } = this.#batch;
    const at = all.push(wanted) - 1;
    return (await answer)[at]!;
  }

  async numbers(
    run: number, step: number, block: Block, x: number, y: number, nx: number, ny: number,
  ): Promise<Float64Array> {
    const loaded = await this.#loaded(run, step);
    if (loaded !== null) return loaded.numbers(block, x, y, nx, ny);
    const query = `block=${block.id}&x=${x}&y=${y}&nx=${nx}&ny=${ny}`;
    return new Float64Array(await (await asked(`${place(run, step)}/numbers?${query}`)).arrayBuffer());
  }

  async explain(run: number, step: number, tensor: number, index: number[], folded = false): Promise<Explanation> {
    const loaded = await this.#loaded(run, step);
    if (loaded !== null) return loaded.explain(tensor, index, folded);
    return json(`${place(run, step)}/explain?tensor=${tensor}&index=${index.join(",")}&folded=${Number(folded)}`);
  }

  vocabulary(ids: number[]): Promise<Token[]> {
    return json(`tokens?ids=${ids.join(",")}`);
  }

  chapters(): Promise<Chapter[]> {
    return json("chapters");
  }

  pieces(run: number): Promise<TokenizedPiece[]> {
    return json(`runs/${run}/pieces`);
  }

  tokenize(text: string): Promise<TokenizedPiece[]> {
    return json("tokenize", { text });
  }

  run(input: { text: string } | { tokens: number[] }): Promise<RunInfo> {
    return json("runs", input);
  }

  next(run: number, sampling: Sampling): Promise<StepInfo> {
    return json(`runs/${run}/next`, sampling);
  }

  patch(run: number, step: number, tensor: number, index: number[], value: number): Promise<RunInfo> {
    return json(`${place(run, step)}/patch`, { tensor, index, value });
  }

  training(tell: (news: TrainingNews) => void): void {
    const events = new EventSource("/api/events");
    events.addEventListener("open", () => { // also when it opens again: what came meanwhile was not heard
      Promise.all([json<Training>("training"), json<Session>("session")]).then(([training, { runs }]) => {
        if (training.ended) events.close();
        tell({ kind: "so far", training, runs });
      }, () => {}); // gone again: the next connection asks anew
    });
    for (const kind of ["loss", "figures", "picture", "ended"] as const) {
      events.addEventListener(kind, (event: MessageEvent<string>) => tell({ kind, ...JSON.parse(event.data) }));
    }
    events.addEventListener("ended", () => events.close());
  }

  /** The step with its bytes; null where they are too many for the page. */
  async #loaded(run: number, step: number): Promise<LoadedStep | null> {
    const scene = await this.scene(run, step);
    if (scene.lazy) return null;
    return this.#steps.get(`${run}/${step}`, async () =>
      LoadedStep.load(scene, await this.trace(run, step), (storages) => this.#blobs(storages)));
  }

  /** The bytes of storages, those that are not here yet in one request: a step has hundreds, and most are small. */
  #blobs(storages: StorageRecord[]): Promise<Uint8Array[]> {
    const missing = new Map(storages.map(({ blob, nbytes }) => [blob, nbytes]));
    for (const { blob } of storages) if (this.#bytes.has(blob)) missing.delete(blob);
    const arrived = fetchedTogether(missing);
    return Promise.all(storages.map(({ blob }) =>
      this.#bytes.get(blob, async () => (await arrived).get(blob) ?? new Uint8Array())));
  }
}

const place = (run: number, step: number): string => `runs/${run}/steps/${step}`;

async function fetchedTiles(path: string, wanted: number[][]): Promise<Tile[]> {
  const bytes = await (await asked(`${path}/tiles?of=${wanted.join(",")}`)).arrayBuffer();
  const sizes = new Int32Array(bytes, 0, 2 * wanted.length);
  let at = sizes.byteLength;
  return wanted.map((_, i) => {
    const [width, height] = [sizes[2 * i]!, sizes[2 * i + 1]!];
    const [values, rms] = [0, 1].map(() => new Float32Array(bytes, (at += 4 * width * height) - 4 * width * height, width * height));
    return { width, height, values: values!, rms: rms! };
  });
}

async function fetchedTogether(sizes: Map<string, number>): Promise<Map<string, Uint8Array>> {
  const found = new Map<string, Uint8Array>();
  if (!sizes.size) return found;
  const bytes = new Uint8Array(await (await asked("blobs", { names: [...sizes.keys()] })).arrayBuffer());
  let at = 0;
  for (const [name, nbytes] of sizes) found.set(name, bytes.slice(at, (at += nbytes)));
  return found;
}

async function json<T>(path: string, content?: object): Promise<T> {
  return (await asked(path, content)).json() as Promise<T>;
}

/** The server's answer; what it refuses, it refuses with a sentence. */
async function asked(path: string, content?: object): Promise<Response> {
  const post = { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(content) };
  let answer: Response;
  try {
    answer = await fetch(`/api/${path}`, content === undefined ? {} : post);
  } catch {
    throw new Error("The server does not answer: is `glassformer view` still running?");
  }
  if (answer.ok) return answer;
  const reason = await answer.json().then((body: { error?: string }) => body.error, () => undefined);
  throw new Error(reason ?? `The server answered ${answer.status}.`);
}
