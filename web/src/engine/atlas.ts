/**
 * The tiles on the graphics card: layers of 256 × 256 texels, each a number and its size, divided by the block's scale.
 *
 * A layer is cut into slots of one size, a power of two each way, so that small blocks share layers; when all layers are
 * full, the one used longest ago is emptied.
 */
import type { Block, DataSource, Scene, Tile } from "../types.ts";

const SIDE = 256;
const LAYERS = 160; // 40 MB of half floats
const LIMIT = 60000; // half floats end at 65504; a larger number is drawn full, and not as infinite

export interface Region { layer: number; x: number; y: number; width: number; height: number; level: number; odd: boolean }
// odd: some of it is infinite or not a number
interface Layer { w: number; h: number; keys: number[]; used: number } // of the regions in its slots

/** The level at which one texel is at least so many cells, one tile of which shows at least n cells. */
export const rootLevel = (block: Block): number => Math.max(0, Math.ceil(Math.log2(Math.max(...block.size) / SIDE)));

export class Atlas {
  readonly #texture: WebGLTexture;
  readonly #regions = new Map<number, Region>();
  readonly #layers: Layer[] = [];
  readonly #asked = new Set<number>();
  readonly #depth: number;
  readonly #waiting: number; // requests under way, at most
  #disposed = false;
  #frame = 0;
  onArrival: () => void = () => {};

  constructor(
    private readonly gl: WebGL2RenderingContext, private readonly source: DataSource, scene: Scene,
    private readonly run: number, private readonly step: number,
  ) {
    const cells = scene.blocks.reduce((sum, { size }) => sum + size[0] * size[1], 0);
    this.#waiting = scene.lazy ? 128 : Infinity;
    this.#depth = Math.min(LAYERS, 24 + Math.ceil(cells / SIDE / SIDE) * 2);
    this.#texture = gl.createTexture();
    this.bind();
    gl.texStorage3D(gl.TEXTURE_2D_ARRAY, 1, gl.RG16F, SIDE, SIDE, this.#depth);
    gl.texParameteri(gl.TEXTURE_2D_ARRAY, gl.TEXTURE_MIN_FILTER, gl.NEAREST);
    gl.texParameteri(gl.TEXTURE_2D_ARRAY, gl.TEXTURE_MAG_FILTER, gl.NEAREST);
  }

  get bytes(): number { return this.#depth * SIDE * SIDE * 4; }

  bind(): void {
    this.gl.activeTexture(this.gl.TEXTURE1);
    this.gl.bindTexture(this.gl.TEXTURE_2D_ARRAY, this.#texture);
  }

  begin(): void { this.#frame++; }

  /** `gone`: a lost context took the texture already. */
  dispose(gone = false): void {
    this.#disposed = true;
    if (!gone) this.gl.deleteTexture(this.#texture);
  }

  /** The tile if it is there; else it is asked for and the best one that covers its cells is given. */
  find(block: Block, level: number, x: number, y: number): Region | null {
    const exact = this.#use(key(block, level, x, y));
    if (exact !== null) return exact;
    this.#ask(block, level, x, y);
    const root = rootLevel(block);
    for (let up = level + 1; up <= 24; up++) {
      const found = this.#use(key(block, up, x >> (up - level), y >> (up - level)));
      if (found !== null) return found;
    }
    for (let down = level - 1; down >= root; down--) { // of a block of one tile a finer one will do
      const found = this.#use(key(block, down, 0, 0));
      if (found !== null) return found;
    }
    if (level < root) this.#ask(block, root, 0, 0);
    return null;
  }

  #use(k: number): Region | null {
    const region = this.#regions.get(k);
    if (region === undefined) return null;
    this.#layers[region.layer]!.used = this.#frame;
    return region;
  }

  #ask(block: Block, level: number, x: number, y: number): void {
    const k = key(block, level, x, y);
    if (this.#asked.size >= this.#waiting || this.#asked.has(k)) return;
    this.#asked.add(k);
    const done = (): void => {
      this.#asked.delete(k);
      if (!this.#disposed) this.onArrival();
    };
    Promise.resolve()
      .then(() => this.source.tile(this.run, this.step, block, level, x * SIDE, y * SIDE))
      .then((tile) => this.#disposed || this.#put(k, block, level, tile))
      .then(done, () => setTimeout(done, 3000)); // the server may come back, or there may be room again
  }

  #put(k: number, block: Block, level: number, { width, height, values, rms }: Tile): void {
    const slot = this.#room(k, width, height);
    if (slot === null) throw new Error("All the memory for tiles is on the screen.");
    const scale = block.scale > 0 ? 1 / block.scale : 0;
    const fit = (v: number): number => {
      const scaled = v * (Number.isFinite(v) ? scale : 1);
      return Number.isFinite(v) ? Math.max(-LIMIT, Math.min(LIMIT, scaled)) : v;
    };
    const data = new Float32Array(width * height * 2);
    let odd = false;
    for (let i = 0; i < width * height; i++) {
      odd ||= !Number.isFinite(values[i]!);
      data[2 * i] = fit(values[i]!);
      data[2 * i + 1] = fit(rms[i]!);
    }
    this.bind();
    const gl = this.gl;
    gl.texSubImage3D(gl.TEXTURE_2D_ARRAY, 0, slot.x, slot.y, slot.layer, width, height, 1, gl.RG, gl.FLOAT, data);
    this.#regions.set(k, { ...slot, width, height, level, odd });
  }

  #room(k: number, width: number, height: number): { layer: number; x: number; y: number } | null {
    const [w, h] = [ceilPower(width), ceilPower(height)];
    let layer = this.#layers.findIndex((it) => it.w === w && it.h === h && it.keys.length < (SIDE / w) * (SIDE / h));
    if (layer < 0 && this.#layers.length < this.#depth) layer = this.#layers.push({ w, h, keys: [], used: 0 }) - 1;
    if (layer < 0) {
      layer = this.#layers.reduce((best, it, i) => (it.used < this.#layers[best]!.used ? i : best), 0);
      if (this.#layers[layer]!.used >= this.#frame) return null; // all of it is on the screen
      for (const other of this.#layers[layer]!.keys) this.#regions.delete(other);
      this.#layers[layer] = { w, h, keys: [], used: 0 };
    }
    const it = this.#layers[layer]!;
    const slot = it.keys.push(k) - 1;
    it.used = this.#frame;
    return { layer, x: (slot % (SIDE / w)) * w, y: Math.floor(slot / (SIDE / w)) * h };
  }
}

const ceilPower = (n: number): number => Math.max(4, 2 ** Math.ceil(Math.log2(n)));
const key = (block: Block, level: number, x: number, y: number): number => ((block.id * 32 + level) * 2 ** 15 + y) * 2 ** 15 + x;
