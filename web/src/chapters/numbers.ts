/**
 * The numbers that a chapter speaks of, fetched when first asked for and kept until the scene changes.
 *
 * Asking is synchronous: what is not there yet is undefined, and `arrived` is called once it is, so that text, arcs and
 * notes are written again.
 */

import type { Block, Cells, DataSource, Scene } from "../types.ts";

const TILE = 256; // cells along each side that are fetched at once

export class Numbers {
  readonly #tiles: (Float64Array | null)[][]; // by block; null: on its way, or not to be had

  constructor(
    private readonly source: DataSource,
    readonly scene: Scene,
    private readonly run: number,
    private readonly step: number,
    private readonly arrived: () => void,
  ) {
    this.#tiles = scene.blocks.map(() => []);
  }

  /** The number of a cell, or undefined until it has come. */
  at(block: number, x: number, y: number): number | undefined {
    const of = this.scene.blocks[block]!;
    const [column, row] = [Math.floor(x / TILE), Math.floor(y / TILE)];
    const index = row * Math.ceil(of.size[0] / TILE) + column;
    const numbers = this.#tiles[block]![index];
    if (numbers === undefined) void this.#fetch(of, index, column * TILE, row * TILE);
    return numbers?.[(y - row * TILE) * Math.min(TILE, of.size[0] - column * TILE) + x - column * TILE];
  }

  /** The numbers of cells, row by row, or undefined until all have come. */
  of({ block, x0, y0, x1, y1 }: Cells): number[] | undefined {
    const numbers: (number | undefined)[] = [];
    for (let y = y0; y < y1; y++) for (let x = x0; x < x1; x++) numbers.push(this.at(block, x, y));
    return numbers.every((number) => number !== undefined) ? numbers : undefined;
  }

  async #fetch(block: Block, index: number, x: number, y: number): Promise<void> {
    this.#tiles[block.id]![index] = null;
    if (block.tensor < 0) return;
    const [width, height] = [Math.min(TILE, block.size[0] - x), Math.min(TILE, block.size[1] - y)];
    this.#tiles[block.id]![index] = await this.source.numbers(this.run, this.step, block, x, y, width, height);
    this.arrived();
  }
}
