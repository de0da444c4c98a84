/**
 * A number's arithmetic between two things that have names: what stands between them is folded in, so that a score is
 * q · k / √D and no copy under a mask. The twin of viewer/folding.py, which says more.
 */
import type { OperationRecord } from "../types.ts";
import { Apply, type Formula, Operand } from "./formula.ts";
import { type LoadedTrace, TraceError } from "./trace.ts";

const MOST = 16; // steps in one formula
const WIDE = ["float32", "float64"];

export interface Derived { formula: Formula; operation: OperationRecord }
export type Derive = (trace: LoadedTrace, cell: { tensor: number; index: number[] }, operation: OperationRecord) => Formula;

/** The formula over named operands; null where it would be long. `derive` gives that of one operation. */
export function folded(found: Derived, steps: ReadonlySet<number>, derive: Derive): Derived | null {
  const step = (operand: Operand): Derived | null => {
    const { trace, tensor, index } = operand;
    const record = trace.tensor(tensor);
    const single = index.every((place) => typeof place === "number");
    if (!steps.has(record.storage) || !WIDE.includes(record.dtype) || !single) return null;
    const origin = trace.origin({ tensor, index: index as number[] });
    const written = origin && trace.tensor(origin.tensor);
    if (written?.kind !== "computed" || written.dtype !== record.dtype) return null;
    const operation = trace.records.operations[written.made_by!]!;
    try {
      return { formula: derive(trace, origin!, operation), operation };
    } catch {
      return null; // there is no rule for it
    }
  };
  let { formula, operation } = found;
  for (;;) { // a mask has left the number as it was
    const copied = formula instanceof Apply && formula.name === "chosen" ? formula.parts[0] : undefined;
    const before = copied instanceof Operand ? step(copied) : null;
    if (before === null) break;
    ({ formula, operation } = before);
  }
  let left = MOST;
  const done = new Map<Formula, Formula>(); // a part with a letter stays one part
  const fold = (part: Formula): Formula => {
    const known = done.get(part) ?? rebuilt(part);
    done.set(part, known);
    return known;
  };
  const rebuilt = (part: Formula): Formula => {
    if (part instanceof Operand) {
      const before = step(part);
      if (before === null) return part;
      if (--left < 0) throw new TraceError("too many steps");
      return fold(before.formula);
    }
    if (!(part instanceof Apply) || part.name === "chosen") return part; // what it was chosen by would be lost
    const parts = part.parts.map(fold);
    if (parts.every((each, i) => each === part.parts[i])) return part; // sums may have the same part inside
    const whole = new Apply(part.name, parts);
    whole.label = part.label;
    return whole;
  };
  try {
    return { formula: fold(formula), operation };
  } catch {
    return null;
  }
}
