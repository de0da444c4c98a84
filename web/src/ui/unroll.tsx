/** A sum laid out as its terms, one bar each, which then slide together into the number: a dot product unrolled. */

import { framePose, canvasSize, engine, hover, pinned, t } from "../state.ts";
import { CellName } from "./cell-name.tsx";
import { short } from "./format.ts";
import { toldAnswer, toldCells, unrolling } from "./told.ts";

const SHOWN = 12; // terms as bars; the others are summed into one
const LAID = 0.55; // of the time, for laying out; the rest is for adding up

export const Unroll = () => {
  const answer = toldAnswer.value;
  const at = unrolling.value;
  if (
    at === null ||
    !answer ||
    !toldCells.value ||
    pinned.value ||
    hover.value ||
    answer.terms.length === 0 ||
    !engine.value
  )
    return null;
  const values = answer.terms.map(({ value }) => Number(value));
  const shown = answer.terms.slice(0, SHOWN);
  const largest = Math.max(...values.map(Math.abs), Number.MIN_VALUE);
  const count = Math.ceil(Math.min(1, at / LAID) * shown.length);
  const cell = engine.value.project(engine.value.center(toldCells.value));
  const { width, height } = canvasSize.value; // it lies in the corner away from its cell
  void framePose.value;
  const corner = { [cell.x > width / 2 ? "left" : "right"]: "12px", [cell.y > height / 2 ? "top" : "bottom"]: "12px" };
  const added = Math.max(0, Math.min(1, (at - LAID) / (1 - LAID)));
  const upTo = at < LAID ? 0 : Math.ceil(added * shown.length);
  const rest = Number(answer.cell.value) - shown.reduce((sum, { value }) => sum + Number(value), 0);
  const sum = added >= 1 ? Number(answer.cell.value) : values.slice(0, upTo).reduce((a, b) => a + b, 0);
  return (
    <div class="unroll" style={corner} role="img" aria-label={`${answer.text} = ${short(answer.cell.value)}`}>
      <p class="popup-name">
        <CellName cell={answer.cell} brief /> <span class="quiet">{t("terms", { n: answer.n_terms })}</span>
      </p>
      <ol>
        {shown.map(({ operands, value, product }, i) => (
          <li key={i} data-on={i < count} data-added={i < upTo}>
            <span class="factors">{operands.map((operand) => short(operand.value, 2)).join(product ? " · " : ", ")}</span>
            <span class="track">
              <span
                class="bar"
                data-sign={Number(value) < 0 ? "−" : "+"}
                style={{ width: `${(50 * Math.abs(Number(value))) / largest}%` }}
              />
            </span>
            <span class="number">{short(value, 3)}</span>
          </li>
        ))}
      </ol>
      {answer.n_terms > SHOWN && (
        <p class="quiet">{t("all_others", { n: answer.n_terms - SHOWN, sum: short(rest, 3) })}</p>
      )}
      <p class="total">
        Σ <output>{short(sum)}</output>
      </p>
    </div>
  );
};
