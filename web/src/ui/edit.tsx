/** "Change this number": runs the model again from there, and lays the new run beside the old. */

import { useSignal } from "@preact/signals";
import { busy, compared, run, scene, session, t } from "../state.ts";
import type { Explanation } from "../types.ts";
import { changeNumber, show } from "./load.ts";
import { step } from "../state.ts";

export const EditNumber = ({ answer }: { answer: Explanation }) => {
  const text = useSignal<string | null>(null);
  const now = String(answer.cell.value);
  const value = Number(text.value ?? now);
  const valid = (text.value ?? now).trim() !== "" && Number.isFinite(value);
  const submit = (event: Event): void => {
    event.preventDefault();
    if (valid) void changeNumber(answer.cell, value).then(() => (text.value = null));
  };
  return (
    <form class="edit" onSubmit={submit}>
      <label for="edit-number">{t("change_number")}</label>
      <div class="row">
        <input
          id="edit-number"
          type="text"
          inputMode="decimal"
          value={text.value ?? now}
          aria-invalid={!valid}
          onInput={(event) => (text.value = event.currentTarget.value)}
        />
        <button type="button" aria-label={t("set_zero")} title={t("set_zero")} onClick={() => (text.value = "0")}>
          0
        </button>
        <button type="submit" class="primary" disabled={!valid || busy.value || text.value === null}>
          {t("run_again")}
        </button>
      </div>
      <Changed />
    </form>
  );
};

/** How far the change has reached. */
export const Changed = () => {
  const other = compared.value;
  const shown = scene.value;
  if (!other || !shown) return null;
  const main = shown.blocks.filter(({ step_of }) => step_of === null);
  const changed = main.filter(({ id }) => other.changed.includes(id));
  const label = session.value?.runs.find(({ id }) => id === other.run)?.id ?? other.run;
  return (
    <p class="changed" role="status">
      {t("changed_blocks", { n: changed.length, of: main.length, run: label })}{" "}
      <button
        type="button"
        class="link"
        onClick={() => void show(other.run, step.peek())}
        disabled={run.value === other.run}
      >
        {t("back_to_run", { run: label })}
      </button>
    </p>
  );
};
