/** The terms of a sum, the largest first, each with a bar; every operand leads back to where it was computed. */

import { useSignal } from "@preact/signals";
import { scene, t, trace, glowing } from "../state.ts";
import type { CellRef, Explanation } from "../types.ts";
import { CellName } from "./cell-name.tsx";
import { placeOf } from "./cells.ts";
import { cellName, grouped, short } from "./format.ts";
import { walkTo } from "./look.ts";

const FIRST = 12;

export const Terms = ({ answer }: { answer: Explanation }) => {
  const all = useSignal(false);
  const { terms, n_terms } = answer;
  if (terms.length === 0) return null;
  const shown = all.value ? terms : terms.slice(0, FIRST);
  const size = (value: number | string): number => (typeof value === "number" ? Math.abs(value) : 0);
  const largest = Math.max(...terms.map(({ value }) => size(value)), Number.MIN_VALUE);
  return (
    <section>
      <h3>{t(n_terms === 1 ? "one_term" : "terms", { n: grouped(n_terms) })}</h3>
      <table class="terms">
        <caption class="unseen">{t("terms_caption")}</caption>
        <thead class="unseen">
          <tr>
            <th>{t("operands")}</th>
            <th>{t("term")}</th>
          </tr>
        </thead>
        <tbody>
          {shown.map(({ operands, value, product }) => (
            <tr
              key={operands.map(cellName).join()}
              onPointerEnter={() => glow(operands)}
              onPointerLeave={() => (glowing.value = [])}
            >
              <td class="operands">
                {operands.map((cell, i) => (
                  <>
                    {i > 0 && <span class="times">{product ? " · " : ", "}</span>}
                    <Operand cell={cell} />
                  </>
                ))}
              </td>
              <td class="term-value">
                <span
                  class="bar"
                  data-sign={Number(value) < 0 ? "−" : "+"}
                  style={{ width: `${(100 * size(value)) / largest}%` }}
                />
                <span class="number">{short(value)}</span>
              </td>
            </tr>
          ))}
        </tbody>
      </table>
      {terms.length > FIRST && (
        <button type="button" class="link more" aria-expanded={all.value} onClick={() => (all.value = !all.value)}>
          {all.value ? t("show_fewer") : t("show_all", { n: terms.length })}
        </button>
      )}
      {all.value && n_terms > terms.length && (
        <p class="quiet">{t("largest_of", { shown: terms.length, n: grouped(n_terms) })}</p>
      )}
    </section>
  );
};

const glow = (cells: CellRef[]): void => {
  const [shown, records] = [scene.peek(), trace.peek()];
  glowing.value = shown && records ? cells.flatMap((cell) => placeOf(shown, records, cell) ?? []) : [];
};

const Operand = ({ cell }: { cell: CellRef }) => (
  <button type="button" class="operand" title={cellName(cell)} onClick={() => walkTo(cell)}>
    <CellName cell={cell} brief /> <span class="number">{short(cell.value)}</span>
  </button>
);
