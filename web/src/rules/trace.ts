/**
 * A trace at hand: its records, and the bytes of its storages as numbers. The twin of tracing/trace.py.
 *
 * A tensor is a window into a storage, so each of its cells leads back to the one operation that wrote its bytes.
 */
import type { CellRef, OperationRecord, TensorRecord, TraceRecords } from "../types.ts";
import { plain } from "./numbers.ts";
import { type NumberKind, Values, product, reach, scalar, together } from "./values.ts";

export class TraceError extends Error {}

/** Where a cell stands along an axis, or several cells. */
export type Entry = number | Values;

export interface Cell { tensor: number; index: number[] }

interface Dtype { bytes: number; kind: NumberKind; floating: boolean }

const floating = (bytes: number): Dtype => ({ bytes, kind: "float", floating: true });
const whole = (bytes: number): Dtype => ({ bytes, kind: "int", floating: false });
const DTYPES: Record<string, Dtype> = {
  float64: floating(8), float32: floating(4), float16: floating(2), bfloat16: floating(2),
  complex64: { bytes: 8, kind: "complex", floating: false },
  complex128: { bytes: 16, kind: "complex", floating: false },
  bool: { bytes: 1, kind: "bool", floating: false },
  int8: whole(1), int16: whole(2), int32: whole(4), int64: whole(8),
  uint8: whole(1), uint16: whole(2), uint32: whole(4), uint64: whole(8),
};

export function dtypeOf(name: string): Dtype {
  const found = DTYPES[name];
  if (found === undefined) throw new TraceError(`There is no number type ${name}.`);
  return found;
}

export class LoadedTrace {
  readonly #numbers = new Map<string, ArrayLike<number>>();
  readonly #named = new Map<number, number[]>(); // for each storage the tensors that people know, in their order

  constructor(readonly records: TraceRecords, private readonly bytes: (blob: string) => Uint8Array) {
    records.tensors.forEach((record, id) => {
      if (record.derived) return;
      const known = this.#named.get(record.storage);
      if (known === undefined) this.#named.set(record.storage, [id]);
      else known.push(id);
    });
  }

  tensor(id: number): TensorRecord {
    const found = this.records.tensors[id];
    if (found === undefined) throw new TraceError(`The trace has no tensor ${id}.`);
    return found;
  }

  // ---- values

  /** All numbers of a storage, read as this type; of complex ones first the real part, then the imaginary one. */
  numbers(storage: number, dtype: string): ArrayLike<number> {
    const record = this.records.storages[storage];
    if (record === undefined) throw new TraceError(`The trace has no storage ${storage}.`);
    const key = `${record.blob} ${dtype}`;
    let found = this.#numbers.get(key);
    if (found === undefined) this.#numbers.set(key, (found = decoded(this.bytes(record.blob), dtype)));
    return found;
  }

  /** The cells at an index; arrays in it pick several. Complex ones and fractions are in double precision. */
  values(tensor: number, index: readonly Entry[]): Values {
    const { storage, dtype } = this.tensor(tensor);
    const { shape, elements } = this.elements(tensor, index);
    const { kind } = dtypeOf(dtype);
    const numbers = this.numbers(storage, dtype);
    if (kind !== "complex") return new Values(kind, shape, elements.map((at) => numbers[at]!));
    return new Values(kind, shape, elements.map((at) => numbers[2 * at]!), elements.map((at) => numbers[2 * at + 1]!));
  }

  /** A cell's number: as JSON has it, see CellRef. */
  value(tensor: number, index: readonly number[]): number | string {
    return plain(this.values(tensor, index));
  }

  ref({ tensor, index }: Cell): CellRef {
    return { tensor, index, value: this.value(tensor, index), name: this.tensor(tensor).name };
  }

  /** Which elements of their storage the cells at an index are. */
  elements(tensor: number, index: readonly Entry[]): { shape: number[]; elements: Float64Array } {
    const { strides, offset, name, shape: sizes } = this.tensor(tensor);
    if (index.length !== sizes.length) throw new TraceError(`${name} has ${sizes.length} axes, not ${index.length}.`);
    const arrays = index.map((entry) => (typeof entry === "number" ? scalar(entry) : entry));
    const shape = together(arrays.map((entry) => entry.shape));
    const elements = new Float64Array(product(shape)).fill(offset);
    arrays.forEach((entry, axis) => {
      const from = reach(entry.shape, shape);
      const [stride, n] = [strides[axis]!, sizes[axis]!];
      for (let i = 0; i < elements.length; i++) {
        const at = entry.re[from(i)]!;
        if (!(Number.isInteger(at) && at >= 0 && at < n)) throw new TraceError(`${name} has no cell ${at} on its axis ${axis}.`);
        elements[i]! += at * stride;
      }
    });
    return { shape, elements };
  }

  // ---- where cells come from

  /** Where a tensor shows an element of its storage; null where it does not. */
  place(tensor: number, element: number): number[] | null {
    return placeOf(element, this.tensor(tensor));
  }

  /** The same cells where people know them: in the newest tensor with a name of its own that shows them all. */
  home(tensor: number, index: readonly Entry[]): { tensor: number; index: readonly Entry[] } {
    const record = this.tensor(tensor);
    if (record.derived) {
      const { shape, elements } = this.elements(tensor, index);
      for (const known of (this.#named.get(record.storage) ?? []).toReversed()) {
        const other = this.tensor(known);
        if (known >= tensor || other.dtype !== record.dtype) continue;
        const places = placesOf(elements, other);
        if (places === null) continue;
        const single = shape.length === 0;
        return { tensor: known, index: places.map((axis) => (single ? axis[0]! : new Values("int", shape, axis))) };
      }
    }
    return { tensor, index };
  }

  /**
   * The cell of an operation's result that these bytes were written as; null for what came from outside.
   * An element of a complex result that is read as a pair of real numbers leads to the whole complex number.
   */
  origin({ tensor, index }: Cell): Cell | null {
    const record = this.tensor(tensor);
    const at = this.elements(tensor, index).elements[0]! * dtypeOf(record.dtype).bytes;
    for (let version: number | null = record.storage; version !== null; ) {
      const storage: TraceRecords["storages"][number] = this.records.storages[version]!;
      if (storage.written_by === null) return null;
      for (const output of this.records.operations[storage.written_by]!.outputs) {
        const written = this.tensor(output);
        if (written.storage !== version) continue;
        const place = placeOf(Math.floor(at / dtypeOf(written.dtype).bytes), written);
        if (place !== null) return { tensor: output, index: place };
      }
      version = storage.previous;
    }
    return null;
  }
}

/** Where a tensor shows an element of its storage; null where it does not. */
export function placeOf(element: number, record: TensorRecord): number[] | null {
  const places = placesOf(Float64Array.of(element), record);
  return places && places.map((axis) => axis[0]!);
}

/** The same for several elements: an index for each axis; null where it does not show them all. */
function placesOf(elements: Float64Array, { offset, shape, strides }: TensorRecord): Float64Array[] | null {
  const rest = elements.map((element) => element - offset);
  const index = shape.map(() => new Float64Array(rest.length));
  const axes = shape.map((_, axis) => axis).filter((axis) => shape[axis]! > 1 && strides[axis]! > 0);
  for (const axis of axes.sort((a, b) => strides[b]! - strides[a]!)) {
    const stride = strides[axis]!;
    for (let i = 0; i < rest.length; i++) {
      const place = Math.floor(rest[i]! / stride);
      if (!(place >= 0 && place < shape[axis]!)) return null;
      index[axis]![i] = place;
      rest[i]! -= place * stride;
    }
  }
  return rest.every((left) => left === 0) && !shape.includes(0) ? index : null;
}

/** The i-th of the cells that an index with arrays picks. */
export const placeIn = (index: readonly Entry[], shape: readonly number[], i: number): number[] =>
  index.map((entry) => (typeof entry === "number" ? entry : entry.re[reach(entry.shape, shape)(i)]!));

/** The name without its overload, and without the underscore of the form in place. */
export function baseOf({ name }: OperationRecord): string {
  const base = name.split(".")[0]!;
  return base.startsWith("__") ? base : base.replace(/_+$/, "");
}

// ---- bytes as numbers

function decoded(bytes: Uint8Array, dtype: string): ArrayLike<number> {
  const size = dtypeOf(dtype).bytes;
  const n = Math.floor(bytes.byteLength / size);
  const aligned = bytes.byteOffset % size === 0 ? bytes : bytes.slice();
  const of = [aligned.buffer, aligned.byteOffset, n] as const;
  switch (dtype) {
    case "float64": return new Float64Array(...of);
    case "float32": return new Float32Array(...of);
    case "complex128": return new Float64Array(of[0], of[1], 2 * n);
    case "complex64": return new Float32Array(of[0], of[1], 2 * n);
    case "float16": return Float32Array.from(new Uint16Array(...of), fromHalf);
    case "bfloat16": return new Float32Array(Uint32Array.from(new Uint16Array(...of), (bits) => bits << 16).buffer);
    case "int8": return new Int8Array(...of);
    case "int16": return new Int16Array(...of);
    case "int32": return new Int32Array(...of);
    case "int64": return Float64Array.from(new BigInt64Array(...of) as unknown as ArrayLike<bigint>, Number);
    case "uint16": return new Uint16Array(...of);
    case "uint32": return new Uint32Array(...of);
    case "uint64": return Float64Array.from(new BigUint64Array(...of) as unknown as ArrayLike<bigint>, Number);
    default: return new Uint8Array(...of); // uint8 and bool
  }
}

/** Half precision: sign, five bits of exponent, ten of fraction. */
export function fromHalf(bits: number): number {
  const sign = bits & 0x8000 ? -1 : 1;
  const exponent = (bits >> 10) & 31;
  const fraction = (bits & 1023) / 1024;
  if (exponent === 31) return fraction ? NaN : sign * Infinity;
  return sign * (exponent ? 2 ** (exponent - 15) * (1 + fraction) : 2 ** -14 * fraction);
}
