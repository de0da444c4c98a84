/**
 * A block's numbers out of the bytes of its storage: as they are, or as texels that each stand for a patch of cells.
 *
 * A block is a window, so that cell (x, y) is the element offset + x·stride + y·stride of its storage, whatever the
 * tensor that it was cut from looks like.
 */
import { fromHalf } from "../rules/trace.ts";
import type { Block, Tile } from "../types.ts";

export const TILE = 256; // texels along a side, at most

type Element = (index: number) => number;

/** One element of a storage as a number: of a complex one its size, since a cell has one colour. */
export function elements(bytes: Uint8Array, dtype: string): Element {
  const { buffer, byteOffset, byteLength } = aligned(bytes);
  const at = <T>(make: new (buffer: ArrayBufferLike, offset: number, length: number) => T, size: number): T =>
    new make(buffer, byteOffset, Math.floor(byteLength / size));
  switch (dtype) {
    case "float32": return plain(at(Float32Array, 4));
    case "float64": return plain(at(Float64Array, 8));
    case "int8": return plain(at(Int8Array, 1));
    case "int16": return plain(at(Int16Array, 2));
    case "int32": return plain(at(Int32Array, 4));
    case "bool": case "uint8": return plain(at(Uint8Array, 1));
    case "uint16": return plain(at(Uint16Array, 2));
    case "uint32": return plain(at(Uint32Array, 4));
    case "int64": return large(at(BigInt64Array, 8));
    case "uint64": return large(at(BigUint64Array, 8));
    case "float16": return half(at(Uint16Array, 2));
    case "bfloat16": return brain(at(Uint16Array, 2));
    case "complex64": return sizes(at(Float32Array, 4));
    case "complex128": return sizes(at(Float64Array, 8));
  }
  throw new Error(`There are no numbers of type ${dtype}.`);
}

/** A window of a block's numbers, row by row; cells beyond its edge are left out by the caller. */
export function numbers(bytes: Uint8Array, block: Block, x: number, y: number, nx: number, ny: number): Float64Array {
  const element = elements(bytes, block.dtype);
  const found = new Float64Array(nx * ny);
  for (let row = 0; row < ny; row++) {
    for (let column = 0; column < nx; column++) {
      found[row * nx + column] = element(place(block, x + column, y + row));
    }
  }
  return found;
}

/** The texels from (x, y) on; on level n each has the mean, and the root of the mean square, of 2ⁿ × 2ⁿ cells. */
export function tile(bytes: Uint8Array, block: Block, level: number, x: number, y: number): Tile {
  const element = elements(bytes, block.dtype);
  const side = 2 ** level;
  const [nx, ny] = block.size;
  const width = Math.min(TILE, Math.ceil(nx / side) - x);
  const height = Math.min(TILE, Math.ceil(ny / side) - y);
  const values = new Float32Array(width * height);
  const rms = new Float32Array(width * height);
  for (let row = 0; row < height; row++) {
    for (let column = 0; column < width; column++) {
      const [x0, y0] = [(x + column) * side, (y + row) * side];
      const [x1, y1] = [Math.min(x0 + side, nx), Math.min(y0 + side, ny)];
      let sum = 0;
      let squares = 0;
      for (let cy = y0; cy < y1; cy++) {
        for (let cx = x0; cx < x1; cx++) {
          const value = element(place(block, cx, cy));
          sum += value;
          squares += value * value;
        }
      }
      const cells = (x1 - x0) * (y1 - y0);
      values[row * width + column] = sum / cells;
      rms[row * width + column] = Math.sqrt(squares / cells);
    }
  }
  return { width, height, values, rms };
}

const place = (block: Block, x: number, y: number): number => block.offset + x * block.strides[0] + y * block.strides[1];

/** Typed arrays begin at multiples of their element's size. */
const aligned = (bytes: Uint8Array): Uint8Array => (bytes.byteOffset % 8 === 0 ? bytes : bytes.slice());

const plain = (array: { readonly [index: number]: number }): Element => (index) => array[index] ?? NaN;
const large = (array: { readonly [index: number]: bigint }): Element => (index) => Number(array[index] ?? NaN);
const sizes = (array: { readonly [index: number]: number }): Element => (index) =>
  Math.hypot(array[2 * index] ?? NaN, array[2 * index + 1] ?? NaN);

function brain(array: Uint16Array): Element {
  const bits = new Uint32Array(1);
  const value = new Float32Array(bits.buffer);
  return (index) => {
    bits[0] = (array[index] ?? 0x7fc0) << 16;
    return value[0] ?? NaN;
  };
}

const half = (array: Uint16Array): Element => (index) => fromHalf(array[index] ?? 0x7e00);
