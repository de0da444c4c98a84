/** A recording in the page, with no server behind it: nothing new can be computed, but everything can be looked at. */
import type {
  Block, Chapter, DataSource, Explanation, RunInfo, Scene, Session, StepInfo, Tile, Token, TokenizedPiece, TraceRecords,
} from "../types.ts";
import type { Blobs, Pack } from "./pack.ts";
import { Once } from "./once.ts";
import { LoadedStep } from "./step.ts";

const NO_SERVER = "This page is a recording: start `glassformer view` to run the model yourself.";

export class LocalSource implements DataSource {
  readonly #pack: Pack;
  readonly #blobs: Blobs;
  readonly #steps = new Once<LoadedStep>();

  constructor(pack: Pack, blobs: Blobs) {
    this.#pack = pack;
    this.#blobs = blobs;
  }

  async session(): Promise<Session> {
    return this.#pack.session;
  }

  async scene(run: number, step: number): Promise<Scene> {
    return this.#recorded(run, step).scene;
  }

  async trace(run: number, step: number): Promise<TraceRecords> {
    return this.#recorded(run, step).trace;
  }

  async tile(run: number, step: number, block: Block, level: number, x: number, y: number): Promise<Tile> {
    return (await this.#loaded(run, step)).tile(block, level, x, y);
  }

  async numbers(
    run: number, step: number, block: Block, x: number, y: number, nx: number, ny: number,
  ): Promise<Float64Array> {
    return (await this.#loaded(run, step)).numbers(block, x, y, nx, ny);
  }

  async explain(run: number, step: number, tensor: number, index: number[], folded = false): Promise<Explanation> {
    return (await this.#loaded(run, step)).explain(tensor, index, folded);
  }

  async vocabulary(ids: number[]): Promise<Token[]> {
    return ids.flatMap((id) => this.#pack.tokens[id] ?? []);
  }

  async chapters(): Promise<Chapter[]> {
    return this.#pack.chapters;
  }

  async pieces(run: number): Promise<TokenizedPiece[]> {
    return this.#pack.pieces[run] ?? [];
  }

  async tokenize(): Promise<TokenizedPiece[]> {
    throw new Error(NO_SERVER);
  }

  async run(): Promise<RunInfo> {
    throw new Error(NO_SERVER);
  }

  async next(): Promise<StepInfo> {
    throw new Error(NO_SERVER);
  }

  async patch(): Promise<RunInfo> {
    throw new Error(NO_SERVER);
  }

  #recorded(run: number, step: number): Pack["steps"][number] {
    const found = this.#pack.steps.find((one) => one.run === run && one.step === step);
    if (found === undefined) throw new Error(`This recording has no step ${step} of run ${run}.`);
    return found;
  }

  #loaded(run: number, step: number): Promise<LoadedStep> {
    const { scene, trace } = this.#recorded(run, step);
    return this.#steps.get(`${run}/${step}`, () => LoadedStep.load(scene, trace, this.#blobs));
  }
}
