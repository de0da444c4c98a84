/** Temperature, top-k, top-p and seed: what they do to the bars is seen at once. */

import { sampling, session, t } from "../state.ts";
import type { Sampling } from "../types.ts";
import { IconButton } from "./icons.tsx";
import { PLAIN } from "./sampling.ts";

const set = (part: Partial<Sampling>): void => {
  sampling.value = { ...sampling.peek(), ...part };
};
const orNull = (text: string): number | null => (text.trim() === "" ? null : Number(text));

export const SamplingControls = () => {
  const { temperature, top_k, top_p, seed } = sampling.value;
  return (
    <div class="sampling">
      <label class="wide">
        <span>
          {t("temperature")} <output>{temperature.toFixed(2)}</output>
        </span>
        <input
          id="temperature"
          type="range"
          min={0}
          max={3}
          step={0.05}
          value={temperature}
          onInput={(event) => set({ temperature: Number(event.currentTarget.value) })}
        />
      </label>
      <label>
        <span>top-k</span>
        <input
          type="number"
          min={1}
          step={1}
          placeholder={t("all")}
          value={top_k ?? ""}
          onInput={(event) => set({ top_k: orNull(event.currentTarget.value) })}
        />
      </label>
      <label>
        <span>top-p</span>
        <input
          type="number"
          min={0.01}
          max={1}
          step={0.01}
          placeholder="1"
          value={top_p ?? ""}
          onInput={(event) => {
            const p = orNull(event.currentTarget.value);
            if (p === null || (p > 0 && p <= 1)) set({ top_p: p });
          }}
        />
      </label>
      {session.value?.can.generate && (
        <label>
          <span>{t("seed")}</span>
          <input
            type="number"
            min={0}
            step={1}
            value={seed}
            onInput={(event) => set({ seed: Math.max(0, Number(event.currentTarget.value)) })}
          />
        </label>
      )}
      <IconButton icon="reset" label={t("reset_sampling")} onClick={() => (sampling.value = PLAIN)} />
    </div>
  );
};
