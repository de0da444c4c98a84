/** Which head is looked at, and what a position looks at through it: the tokens, as dark as the weights are large. */

import { head, heads, position, scene, t, tokens } from "../state.ts";
import { share, tokenText } from "./format.ts";
import { asking } from "./next.ts";
import { attention, layerChosen, lookedAt } from "./overlay.ts";
import { pinPlace } from "./look.ts";

export const chooseHead = (to: number | null): void => {
  head.value = to;
};

const FEW = 16; // heads that get a button each

export const HeadSelector = () => {
  const layers = (scene.value?.groups ?? []).filter((group) => group.role === "layer").length;
  const layer = attention.value?.layer ?? layerChosen.value ?? 0;
  const all = Array.from({ length: heads.value }, (_, i) => i);
  return (
    <div class="head-selector">
      {layers > 1 && (
        <label>
          {t("layer")}{" "}
          <select value={layer} onChange={(event) => (layerChosen.value = Number(event.currentTarget.value))}>
            {Array.from({ length: layers }, (_, i) => (
              <option key={i} value={i}>
                {i}
              </option>
            ))}
          </select>
        </label>
      )}
      {all.length <= FEW ? (
        <div class="heads" role="group" aria-label={t("head")}>
          <span>{t("head")}</span>
          {all.map((i) => (
            <button
              key={i}
              type="button"
              aria-pressed={head.value === i}
              onClick={() => chooseHead(head.value === i ? null : i)}
            >
              {i}
            </button>
          ))}
        </div>
      ) : (
        <label>
          {t("head")}{" "}
          <select
            value={head.value ?? ""}
            onChange={(event) =>
              chooseHead(event.currentTarget.value === "" ? null : Number(event.currentTarget.value))
            }
          >
            <option value="">{t("no_head")}</option>
            {all.map((i) => (
              <option key={i} value={i}>
                {i}
              </option>
            ))}
          </select>
        </label>
      )}
      <kbd>H</kbd>
    </div>
  );
};

export const AttentionRow = () => {
  const seen = attention.value;
  if (!seen) return <p class="quiet">{t("no_attention")}</p>;
  const t0 = Math.min(asking.value, seen.block.size[0] - 1);
  const weights = lookedAt(seen, t0);
  return (
    <ol class="attention" aria-label={t("attention_of", { layer: seen.layer, head: seen.head })}>
      {tokens.value.map((token, s) => {
        const weight = weights[s] ?? 0;
        const future = s > t0 && weight === 0;
        return (
          <li key={s} class={s === t0 ? "asking" : future ? "future" : ""}>
            <button
              type="button"
              title={future ? t("is_masked") : `${share(weight)}`}
              style={{ "--share": `${Math.round(weight * 100)}%` }}
              onClick={() => pinPlace({ block: seen.block.id, x: t0, y: s })}
            >
              <span class="token">{tokenText(token)}</span>
              <span class="weight">{future ? "·" : Math.round(weight * 100)}</span>
            </button>
          </li>
        );
      })}
      <li class="unit quiet">%</li>
    </ol>
  );
};

/** H and Shift+H: no head, then each in turn. */
export const cycleHead = (by: 1 | -1): void => {
  const n = heads.peek() + 1;
  const next = (((head.peek() ?? -1) + 1 + by + n) % n) - 1;
  chooseHead(next < 0 ? null : next);
};

/** Look at a token: its column glows, and what is said of the next token is said of the one after it. */
export const lookAtToken = (at: number): void => {
  position.value = position.peek() === at ? null : at;
};
