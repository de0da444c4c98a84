/** Beside the cell that is pointed at: its value, its formula, its largest terms, and whether it recomputes. */

import type { ComponentChildren } from "preact";
import {
  canvasSize, engine, framePose, hover, hoverAnswer, inLang, narrow, pinned, pointer, scene, t, time, trace,
} from "../state.ts";
import type { CellRef, Cells, Explanation, Term } from "../types.ts";
import { briefly, CellIndex, CellName } from "./cell-name.tsx";
import { cellsOf, placeOf, samePlace } from "./cells.ts";
import { cellName, exact, short } from "./format.ts";
import { pin } from "./look.ts";
import { Formula } from "./math.tsx";
import { toldAnswer, toldCells, unrolling } from "./told.ts";

const MARGIN = 18; // css pixels between cell and pop-up
const TERMS = 3;
const WIDEST = "min(330px, 86vw)"; // as in app.css: a narrow page shows all of it

export const Popup = () => {
  const place = hover.value;
  if (place && !samePlace(place, pinned.value?.place ?? null)) {
    const block = scene.value?.blocks[place.block];
    return hoverAnswer.value ? (
      <Near cells={cellsOf(place)}>
        <Card answer={hoverAnswer.value} hint />
      </Near>
    ) : (
      block && (
        <Near cells={cellsOf(place)}>
          <p class="popup-name">{block.name}</p>
          {block.tensor < 0 && <p class="quiet">{t("shapes_only_cell")}</p>}
        </Near>
      )
    );
  }
  const told = toldCells.value;
  return told && toldAnswer.value && !pinned.value && unrolling.value === null ? (
    <Near cells={told}>
      <Card answer={toldAnswer.value} />
    </Near>
  ) : null;
};

/** Beside some cells, or beside the pointer if it is there, on the side that has room. */
const Near = ({ cells, children }: { cells: Cells; children: ComponentChildren }) => {
  const drawn = engine.value;
  if (!drawn) return null;
  void framePose.value;
  void time.value;
  const at = pointer.value ?? drawn.project(drawn.center(cells));
  const { width, height } = canvasSize.value;
  if (at.x < 0 || at.y < 0 || at.x > width || at.y > height) return null;
  const [toLeft, toTop] = [at.x > width * 0.55, at.y > height * 0.55];
  const style = {
    [toLeft ? "right" : "left"]: `max(4px, min(${(toLeft ? width - at.x : at.x) + MARGIN}px, 100% - ${WIDEST} - 4px))`,
    [toTop ? "bottom" : "top"]: `${(toTop ? height - at.y : at.y) + MARGIN}px`,
  };
  return (
    <div class="popup" style={style}>
      {children}
    </div>
  );
};

const Card = ({ answer, hint = false }: { answer: Explanation; hint?: boolean }) => {
  const { cell, check, terms, n_terms, dtype } = answer;
  const shown = terms.slice(0, TERMS);
  const inNumbers = answer.numbers !== answer.text && !/[\[\n]/.test(answer.numbers); // no name is left in it
  return (
    <>
      <p class="popup-name">
        <Called cell={cell} />
      </p>
      <p class="popup-value">
        <output>{short(cell.value)}</output>
        {check && (
          <span class={check.passed ? "passed" : "failed"} title={t(check.passed ? "check_passed" : "check_failed")}>
            {check.passed ? "✓" : "✗"}
          </span>
        )}
        <span class="quiet exact">{exact(cell.value, dtype)}</span>
      </p>
      {answer.text && <Formula mathml={answer.mathml} text={answer.text} />}
      {inNumbers && <p class="numbers">= {answer.numbers}</p>}
      {shown.length > 0 && !(inNumbers && n_terms === 1) && (
        <ul class="popup-terms">
          {shown.map((term) => (
            <li key={term.operands.map(cellName).join()}>
              <span class="number">{operandsOf(term)}</span>
              <span class="number">{short(term.value, 3)}</span>
            </li>
          ))}
          {n_terms > TERMS && <li class="quiet">{t("and_more_terms", { n: n_terms - TERMS })}</li>}
        </ul>
      )}
      {hint && (
        <button type="button" class="popup-hint" onClick={() => pin(cell)}>
          {t(narrow.value ? "take_apart" : "click_to_pin")}
        </button>
      )}
    </>
  );
};

/** What people call it: the label of its block, and where it stands in it. */
const Called = ({ cell }: { cell: CellRef }) => {
  const [shown, records] = [scene.value, trace.value];
  const place = shown && records && placeOf(shown, records, cell);
  const block = place && shown.blocks[place.block];
  const axes = records?.tensors[cell.tensor]?.axes ?? [];
  const label = block && block.step_of === null ? inLang(block.label) : "";
  return label === "" ? (
    <CellName cell={cell} />
  ) : (
    <>
      <b>{label}</b> <CellIndex index={cell.index} axes={axes} />
    </>
  );
};

/** Factors as their numbers; an operand that is the term itself by its name; any other by its name with its number. */
const operandsOf = ({ operands, product }: Term): string => {
  if (product && operands.length > 1) return operands.map(({ value }) => short(value, 3)).join(" · ");
  return operands.map(({ name, value }) => (product ? briefly(name) : `${briefly(name)} ${short(value, 3)}`)).join(", ");
};
