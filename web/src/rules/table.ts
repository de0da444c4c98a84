/**
 * How a cell of each operation's result follows from cells of its operands: one short rule an operation, in the files
 * that Python has too (tracing/rules/). A rule is a function of a `Step` and the index of a cell; it gives a `Formula`
 * over recorded operands. An operation without a rule leaves its cells unexplained.
 */
import type { Argument, OperationRecord, TensorRecord } from "../types.ts";
import { Constant, type Formula, Operand } from "./formula.ts";
import { type Entry, type LoadedTrace, baseOf } from "./trace.ts";
import { Values, grid, scalar } from "./values.ts";

export type Index = readonly number[];
export type Rule = (step: Step, index: Index) => Formula;

const RULES = new Map<string, Rule>();

/** Declare the rule of some operations, by the names that ATen gives them. */
export function rule(names: readonly string[], made: Rule): void {
  for (const name of names) RULES.set(name, made);
}

export const ruleOf = (operation: OperationRecord): Rule | undefined => RULES.get(baseOf(operation));

/** An operation with its operands at hand; `output` says which of its results is asked about. */
export class Step {
  readonly base: string;

  constructor(readonly trace: LoadedTrace, readonly operation: OperationRecord, readonly output: number) {
    this.base = baseOf(operation);
  }

  get result(): TensorRecord {
    return this.trace.tensor(this.operation.outputs[this.output]!);
  }

  /** Whether an argument is given. */
  has(name: string): boolean {
    return (this.operation.arguments[name] ?? null) !== null;
  }

  get(name: string): Argument {
    return this.operation.arguments[name] ?? null;
  }

  /** An argument that is a number, or what stands for it where it is left out. */
  number(name: string, otherwise?: number): number {
    const found = constantOf(this.get(name)).number?.re[0] ?? otherwise;
    if (found === undefined) throw new Error(`${name} is no number`);
    return found;
  }

  flag(name: string, otherwise = false): boolean {
    return Boolean(this.get(name) ?? otherwise);
  }

  /** An argument that is a list of numbers, or one number for all. */
  list(name: string, otherwise: number[] = []): number[] {
    const given = this.get(name);
    if (given === null || (Array.isArray(given) && given.length === 0)) return otherwise;
    return (Array.isArray(given) ? given : [given]).map(Number);
  }

  /** The id of an argument that is a tensor. */
  tensor(name: string): number {
    const found = refOf(this.get(name));
    if (found === null) throw new Error(`${name} is no tensor`);
    return found;
  }

  record(name: string): TensorRecord {
    return this.trace.tensor(this.tensor(name));
  }

  shape(name: string): readonly number[] {
    return this.record(name).shape;
  }

  /** The argument's cells at this very index; arrays in it pick several. */
  at(name: string, index: readonly Entry[]): Formula {
    const ref = refOf(this.get(name));
    return ref === null ? constantOf(this.get(name)) : new Operand(this.trace, ref, index);
  }

  /** The argument's cell that meets a cell of the result: axes of length 1 are repeated, missing ones too. */
  broadcast(name: string, index: readonly Entry[]): Formula {
    const ref = refOf(this.get(name));
    return ref === null ? constantOf(this.get(name)) : this.at(name, broadcast(index, this.trace.tensor(ref).shape));
  }

  /** Axes given as a number, a list or not at all, which means all, counted from 0. */
  dims(name = "dim"): number[] {
    const n = this.shape("self").length;
    return this.list(name, [...this.shape("self").keys()]).map((axis) => (n ? (axis + n) % n : 0));
  }

  /** The one axis of an operation along an axis. */
  dim(): number {
    return this.dims()[0] ?? 0;
  }

  /** All cells of an argument along some axes, flattened; on the other axes they stand at `index`. */
  along(name: string, index: readonly Entry[], dims: readonly number[]): Formula {
    const shape = this.shape(name);
    const places = [...index];
    grid(dims.map((axis) => shape[axis]!)).forEach((entries, k) => (places[dims[k]!] = entries));
    return this.at(name, places);
  }

  /** The index into the operand from that into the result of a reduction, with 0 where it is reduced. */
  reduced(index: Index, dims: readonly number[]): number[] {
    const shape = this.shape("self");
    if (index.length === shape.length) return index.map((i, axis) => (dims.includes(axis) ? 0 : i)); // keepdim
    const rest = [...index];
    return shape.map((_, axis) => (dims.includes(axis) ? 0 : rest.shift()!));
  }
}

/** An index into the result, as one into an operand that was broadcast to it. */
export function broadcast(index: readonly Entry[], shape: readonly number[]): Entry[] {
  return index.slice(index.length - shape.length).map((entry, axis) => (shape[axis] === 1 ? 0 : entry));
}

/** The tensor that an argument is, if it is one. */
export const refOf = (argument: Argument): number | null =>
  argument !== null && typeof argument === "object" && "tensor" in argument ? argument.tensor : null;

const WORDS = { inf: Infinity, "-inf": -Infinity, nan: NaN };

/** An argument that is a number, or none; JSON has no infinities and no complex numbers, so they are objects. */
export function constantOf(argument: Argument): Constant {
  if (typeof argument === "number") return new Constant(argument);
  if (typeof argument === "boolean") return new Constant(scalar(Number(argument), "bool"));
  if (argument !== null && typeof argument === "object" && "float" in argument) {
    return new Constant(WORDS[argument.float]);
  }
  if (argument !== null && typeof argument === "object" && "complex" in argument) {
    const [re, im] = argument.complex.map((part) => constantOf(part).value.re) as [Float64Array, Float64Array];
    return new Constant(new Values("complex", [], re, im));
  }
  return new Constant(null);
}
