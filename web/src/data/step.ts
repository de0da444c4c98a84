/** One recorded pass with all its bytes in the page: tiles, numbers and explanations are computed here. */
import { explain } from "../rules/explain.ts";
import { LoadedTrace } from "../rules/trace.ts";
import type { Block, Explanation, Scene, Tile, TraceRecords } from "../types.ts";
import type { Blobs } from "./pack.ts";
import { numbers, tile } from "./window.ts";

export class LoadedStep {
  readonly scene: Scene;
  readonly records: TraceRecords;
  readonly #trace: LoadedTrace;
  readonly #steps: ReadonlySet<number>; // the storages of what stands behind named blocks
  readonly #bytes: Map<string, Uint8Array>;

  private constructor(scene: Scene, records: TraceRecords, bytes: Map<string, Uint8Array>) {
    this.scene = scene;
    this.records = records;
    this.#bytes = bytes;
    this.#steps = new Set(scene.blocks.filter(({ step_of }) => step_of !== null).map(({ storage }) => storage));
    this.#trace = new LoadedTrace(records, (blob) => this.#blob(blob));
  }

  /** The step, when all its bytes are there. */
  static async load(scene: Scene, records: TraceRecords, blobs: Blobs): Promise<LoadedStep> {
    const bytes = await blobs(records.storages);
    const known = records.storages.map(({ blob }, i): [string, Uint8Array] => [blob, bytes[i] ?? new Uint8Array()]);
    return new LoadedStep(scene, records, new Map(known));
  }

  tile(block: Block, level: number, x: number, y: number): Tile {
    return tile(this.#of(block), block, level, x, y);
  }

  numbers(block: Block, x: number, y: number, nx: number, ny: number): Float64Array {
    return numbers(this.#of(block), block, x, y, nx, ny);
  }

  explain(tensor: number, index: number[], folded = false): Explanation {
    return explain(this.#trace, tensor, index, folded ? this.#steps : undefined);
  }

  #of(block: Block): Uint8Array {
    const storage = this.records.storages[block.storage];
    if (storage === undefined) throw new Error(`${block.name} has no numbers: only its shape is known.`);
    return this.#blob(storage.blob);
  }

  #blob(name: string): Uint8Array {
    const bytes = this.#bytes.get(name);
    if (bytes === undefined) throw new Error(`There are no numbers named ${name}.`);
    return bytes;
  }
}
