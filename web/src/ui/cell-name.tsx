/** A number's name with its index, each index in the colour of its axis: scores[B 0, H 1, T 5, S 2]. */

import { computed } from "@preact/signals";
import { trace } from "../state.ts";
import type { CellRef } from "../types.ts";

export const Axis = ({ letter, children }: { letter: string; children?: string | number }) => (
  <span class="axis" style={letter && { color: `var(--axis-${letter.toUpperCase()})` }}>
    {children ?? letter}
  </span>
);

const modules = computed(
  () =>
    trace.value?.modules
      .map(({ path }) => path)
      .filter(Boolean)
      .sort((a, b) => b.length - a.length) ?? [],
);

/** A name without its module's path; what every module has, such as its weight, keeps the module's own name. */
export const briefly = (name: string): string => {
  const path = modules.value.find((module) => name.startsWith(`${module}.`));
  if (path === undefined) return name;
  const own = name.slice(path.length + 1);
  return /^(weight|bias|output)\b/.test(own) ? `${path.split(".").at(-1)}.${own}` : own;
};

export const CellName = ({ cell, brief = false }: { cell: Omit<CellRef, "value">; brief?: boolean }) => {
  const axes = trace.value?.tensors[cell.tensor]?.axes ?? [];
  const name = brief ? briefly(cell.name) : cell.name;
  return (
    <span class="cell-name">
      {brief
        ? name
        : name.split(/(?<=\.)/).map((part, i) => (
            <>
              {i > 0 && <wbr />}
              {part}
            </>
          ))}
      <CellIndex index={cell.index} axes={axes} brief={brief} />
    </span>
  );
};

/** [B 0, H 1, T 5, S 2], each index in the colour of its axis. */
export const CellIndex = ({ index, axes, brief = false }: { index: number[]; axes: string[]; brief?: boolean }) =>
  index.length === 0 ? null : (
    <span class="index">
      [
      {index.map((at, i) => (
        <>
          {i > 0 && ","}
          <Axis letter={axes[i] ?? ""}>{brief || !axes[i] ? at : `${axes[i]} ${at}`}</Axis>
        </>
      ))}
      ]
    </span>
  );
