/** The panel that takes one number apart: formula, terms, check, the line of code, and the way back to the token. */

import { useSignal } from "@preact/signals";
import { before, opened, pinAnswer, pinned, problem, scene, session, t, trace, trail } from "../state.ts";
import type { Explanation } from "../types.ts";
import { fit } from "./camera.ts";
import { CellName } from "./cell-name.tsx";
import { wholeBlock } from "./cells.ts";
import { EditNumber } from "./edit.tsx";
import { cellName, exact, short } from "./format.ts";
import { Icon, IconButton } from "./icons.tsx";
import { pin, unpin, walkTo, walkTrail } from "./look.ts";
import { Formula } from "./math.tsx";
import { Overview } from "./overview.tsx";
import { SourceLines } from "./source-lines.tsx";
import { Terms } from "./terms.tsx";

export const Inspector = () => {
  const cell = pinned.value;
  if (!cell) return <Overview />;
  const answer = pinAnswer.value;
  return (
    <div class="inspector">
      <Trail />
      <h2 class="cell-title">
        <CellName cell={cell} />
      </h2>
      {answer ? <Answer answer={answer} /> : <p class="quiet">{t("computing")}</p>}
    </div>
  );
};

/** The way walked so far: from the number first pinned towards the token. */
const Trail = () => {
  const { pins, at } = trail.value;
  return (
    <nav class="trail" aria-label={t("trail")}>
      <IconButton icon="left" label={t("trail_back")} disabled={at <= 0} onClick={() => walkTrail(at - 1)} />
      <IconButton
        icon="right"
        label={t("trail_forward")}
        disabled={at >= pins.length - 1}
        onClick={() => walkTrail(at + 1)}
      />
      <ol>
        {pins.map((step, i) => (
          <li key={i}>
            <button
              type="button"
              class="link"
              aria-current={i === at ? "location" : undefined}
              onClick={() => walkTrail(i)}
            >
              <CellName cell={step} brief />
            </button>
          </li>
        ))}
      </ol>
      <IconButton icon="close" label={t("unpin")} keys="Esc" onClick={unpin} />
    </nav>
  );
};

const Answer = ({ answer }: { answer: Explanation }) => {
  const { cell, dtype, kind } = answer;
  return (
    <>
      <p class="cell-value">
        <output>{short(cell.value, 6)}</output>
        <span class="quiet exact">
          {exact(cell.value, dtype)} · {dtype} · {t(`kind_${kind}`)}
        </span>
      </p>
      <Before answer={answer} />
      {answer.computed && (
        <p class="quiet">
          {t("same_number_as")} <CellButton cell={answer.computed} />
        </p>
      )}
      {answer.text && <Formula mathml={answer.mathml} text={answer.text} scrolls />}
      {answer.numbers !== answer.text && <p class="numbers">{answer.numbers}</p>}
      <Check answer={answer} />
      <Terms answer={answer} />
      {answer.n_terms === 0 && answer.sources.length > 0 && <Sources answer={answer} />}
      {answer.kind === "input" && <p class="note">{t("arrived_at_token")}</p>}
      {(answer.kind === "weight" || answer.kind === "buffer") && <p class="note">{t("arrived_at_weight")}</p>}
      {answer.source && <SourceLines source={answer.source} operation={answer.operation} />}
      <Actions answer={answer} />
    </>
  );
};

export const CellButton = ({ cell }: { cell: Explanation["cell"] }) => (
  <button type="button" class="link" onClick={() => walkTo(cell)}>
    <CellName cell={cell} brief />
  </button>
);

export const Check = ({ answer: { check } }: { answer: Explanation }) =>
  check && (
    <p class={check.passed ? "check passed" : "check failed"}>
      <span aria-hidden="true">{check.passed ? "✓ " : "✗ "}</span>
      {t(check.passed ? "check_passed" : "check_failed")}{" "}
      <span class="quiet">
        Δ {short(check.difference, 2)} ≤ {short(check.bound, 2)}
      </span>
    </p>
  );

/** What the number was in the run that this one is compared with. */
const Before = ({ answer }: { answer: Explanation }) => {
  const was = before.value;
  const { value } = answer.cell;
  return was === null ? null : (
    <p class="before">
      {t("before_change")} <b>{short(was, 6)}</b>
      {typeof was === "number" && typeof value === "number" && (
        <span class="quiet">
          {" "}
          ({value >= was ? "+" : ""}
          {short(value - was)})
        </span>
      )}
    </p>
  );
};

/** Where a number was copied from, for operations that compute nothing. */
const Sources = ({ answer }: { answer: Explanation }) => (
  <section>
    <h3>{t("comes_from")}</h3>
    <ul class="sources">
      {answer.sources.slice(0, 12).map((cell) => (
        <li key={cellName(cell)}>
          <CellButton cell={cell} /> <span class="number">{short(cell.value)}</span>
        </li>
      ))}
    </ul>
    {answer.n_sources > 12 && <p class="quiet">{t("and_more", { n: answer.n_sources - 12 })}</p>}
  </section>
);

const Actions = ({ answer }: { answer: Explanation }) => {
  const place = pinned.value?.place;
  const block = place ? scene.value?.blocks[place.block] : undefined;
  const steps = block ? (scene.value?.blocks.filter(({ step_of }) => step_of === block.id) ?? []) : [];
  const open = block !== undefined && opened.value.has(block.id);
  const toggle = (): void => {
    if (!block) return;
    const others = [...opened.value].filter((id) => id !== block.id);
    opened.value = new Set(open ? others : [...others, block.id]);
    if (!open) fit([wholeBlock(block), ...steps.map(wholeBlock)], "angle");
  };
  return (
    <section class="actions">
      {answer.numpy && <CopyButton text={answer.numpy} label={t("copy_numpy")} />}
      {answer.latex && <CopyButton text={answer.latex} label={t("copy_latex")} />}
      {block && (
        <button type="button" onClick={() => fit([wholeBlock(block)], "front")}>
          <Icon name="fit" /> {t("show_block")}
        </button>
      )}
      {steps.length > 0 && (
        <button type="button" aria-expanded={open} onClick={toggle}>
          <Icon name="layers" /> {t(open ? "fold_steps" : "unfold_steps", { n: steps.length })}
        </button>
      )}
      {open && (
        <ul class="steps">
          {steps.map((step) => (
            <li key={step.id}>
              <button type="button" class="link" onClick={() => pinBlock(step.id)}>
                {step.name}
              </button>
            </li>
          ))}
        </ul>
      )}
      {session.value?.can.patch && typeof answer.cell.value === "number" && <EditNumber answer={answer} />}
    </section>
  );
};

const pinBlock = (id: number): void => {
  const block = scene.peek()?.blocks[id];
  const shape = trace.peek()?.tensors[block?.tensor ?? -1]?.shape;
  if (block && shape) pin({ tensor: block.tensor, index: shape.map(() => 0) }, true);
};

const CopyButton = ({ text, label }: { text: string; label: string }) => {
  const done = useSignal(false);
  const copy = async (): Promise<void> => {
    try {
      await navigator.clipboard.writeText(text);
      done.value = true;
      setTimeout(() => (done.value = false), 1500);
    } catch {
      problem.value = text; // no clipboard, as in a file opened from disk: show it to be copied by hand
    }
  };
  return (
    <button type="button" onClick={() => void copy()}>
      {done.value ? `✓ ${t("copied")}` : label}
    </button>
  );
};
