/** The scene as a tree to go through by keyboard or screen reader; whatever has the focus here glows in the scene. */

import { useSignal } from "@preact/signals";
import { useEffect, useRef } from "preact/hooks";
import { inLang, lit, pointedBlock, scene, t } from "../state.ts";
import type { Block, Cells } from "../types.ts";
import { fit } from "./camera.ts";
import { wholeBlock } from "./cells.ts";
import { pinPlace } from "./look.ts";
import { fold, rows, unfoldTo, type Row } from "./tree.ts";

const HEIGHT = 28; // css pixels of a row, as app.css has it
const AROUND = 8; // rows drawn above and below what is seen

const cellsIn = (row: Row): Cells[] => {
  if (row.block) return [wholeBlock(row.block)];
  const shown = scene.peek();
  const inside = (block: Block): boolean => {
    for (let at: number | null = block.group; at !== null; at = shown?.groups[at]?.parent ?? null)
      if (at === row.group?.id) return true;
    return false;
  };
  return shown?.blocks.filter((block) => block.step_of === null && inside(block)).map(wholeBlock) ?? [];
};

const enter = (row: Row): void => {
  if (row.block) {
    fit([wholeBlock(row.block)], "front");
    pinPlace({ block: row.block.id, x: 0, y: 0 });
  } else if (row.group) fit(row.group);
};

export const Outline = () => {
  const box = useRef<HTMLDivElement>(null);
  const top = useSignal(0);
  const height = useSignal(400);
  const active = useSignal("g0");
  const all = rows.value;
  const at = Math.max(
    0,
    all.findIndex(({ key }) => key === active.value),
  );
  const scrollTo = (index: number): void => {
    const list = box.current;
    if (!list) return;
    if (index * HEIGHT < list.scrollTop) list.scrollTop = index * HEIGHT;
    else if ((index + 1) * HEIGHT > list.scrollTop + list.clientHeight)
      list.scrollTop = (index + 1) * HEIGHT - list.clientHeight;
  };
  const moveTo = (index: number): void => {
    const row = all[Math.min(Math.max(index, 0), all.length - 1)];
    if (!row) return;
    active.value = row.key;
    lit.value = cellsIn(row);
    scrollTo(all.indexOf(row));
  };
  const pointed = pointedBlock.value;
  useEffect(() => {
    if (!pointed || document.activeElement === box.current) return;
    active.value = unfoldTo(pointed);
    scrollTo(rows.peek().findIndex(({ key }) => key === active.peek()));
  }, [pointed]);
  useEffect(() => {
    const list = box.current;
    if (!list) return;
    const watch = new ResizeObserver(() => (height.value = list.clientHeight));
    watch.observe(list);
    return () => watch.disconnect();
  }, []);
  const onKeyDown = (event: KeyboardEvent): void => {
    const row = all[at];
    if (!row || event.ctrlKey || event.metaKey || event.altKey) return;
    const keys: Record<string, () => void> = {
      ArrowDown: () => moveTo(at + 1),
      ArrowUp: () => moveTo(at - 1),
      Home: () => moveTo(0),
      End: () => moveTo(all.length - 1),
      PageDown: () => moveTo(at + 10),
      PageUp: () => moveTo(at - 10),
      ArrowRight: () => (row.open === false ? fold(row.key, true) : row.open && moveTo(at + 1)),
      ArrowLeft: () => (row.open ? fold(row.key, false) : moveTo(all.findIndex(({ key }) => key === row.parent))),
      Enter: () => enter(row),
    };
    const act = keys[event.key];
    if (!act) return;
    event.preventDefault();
    event.stopPropagation();
    act();
  };
  const first = Math.max(0, Math.floor(top.value / HEIGHT) - AROUND);
  const seen = all.slice(first, Math.ceil((top.value + height.value) / HEIGHT) + AROUND);
  const drawn = seen.includes(all[at] as Row) || !all[at] ? seen : [...seen, all[at]];
  return (
    <div
      class="outline"
      ref={box}
      role="tree"
      tabIndex={0}
      aria-label={t("outline")}
      aria-activedescendant={`row-${all[at]?.key}`}
      onKeyDown={onKeyDown}
      onScroll={(event) => (top.value = event.currentTarget.scrollTop)}
      onFocus={() => moveTo(at)}
      onBlur={() => (lit.value = [])}
    >
      <div class="outline-space" role="presentation" style={{ height: `${all.length * HEIGHT}px` }}>
        {drawn.map((row) => (
          <div
            key={row.key}
            id={`row-${row.key}`}
            role="treeitem"
            class="row"
            aria-level={row.level}
            aria-posinset={row.place}
            aria-setsize={row.siblings}
            aria-expanded={row.open ?? undefined}
            aria-selected={row === all[at]}
            style={{ top: `${all.indexOf(row) * HEIGHT}px`, paddingLeft: `${8 + 14 * (row.level - 1)}px` }}
            onPointerEnter={() => (lit.value = cellsIn(row))}
            onPointerLeave={() => (lit.value = [])}
            onClick={() => {
              moveTo(all.indexOf(row));
              if (row.open !== null && row.group) fold(row.key, !row.open);
              else enter(row);
            }}
            onDblClick={() => enter(row)}
          >
            <span class="twig" aria-hidden="true">
              {row.open === null ? "" : row.open ? "▾" : "▸"}
            </span>
            <span class="row-label">{inLang(row.label)}</span>
            {row.block && (
              <span class="quiet shape">
                {row.block.size[0]} × {row.block.size[1]}
              </span>
            )}
          </div>
        ))}
      </div>
    </div>
  );
};
