/** What the inspector shows while no number is pinned: what comes next, what attention looked at, how to begin. */

import { compared, head, heads, lang, position, scene, session, t, tokens } from "../state.ts";
import { AttentionRow, HeadSelector } from "./attention.tsx";
import { Changed } from "./edit.tsx";
import { tokenText } from "./format.ts";
import { Learning } from "./learning.tsx";
import { asking, tellsClasses } from "./next.ts";
import { Probabilities } from "./probabilities.tsx";

export const Overview = () => {
  const { shapes_only: hollow } = session.value?.model ?? {};
  const at = tokens.value[asking.value];
  return (
    <div class="inspector overview">
      <Learning />
      {scene.value?.logits != null && !hollow && (
        <section>
          <h2>{t("what_next")}</h2>
          {at && (
            <p class="quiet">
              {position.value === null || tellsClasses.value
                ? t("after_text")
                : t("after_token", { token: tokenText(at), n: asking.value })}
            </p>
          )}
          <Probabilities most={8} />
        </section>
      )}
      {compared.value && (
        <section>
          <h2>{t("compared")}</h2>
          <Changed />
        </section>
      )}
      {heads.value > 0 && !hollow && (
        <section>
          <h2>{t("what_attended")}</h2>
          <HeadSelector />
          {head.value === null ? <p class="quiet">{t("choose_head")}</p> : <AttentionRow />}
        </section>
      )}
      <section>
        <h2>{t("look_inside")}</h2>
        <ul class="hints" lang={lang.value}>
          <li>{t(hollow ? "hint_shapes" : "hint_point")}</li>
          <li>{t("hint_move")}</li>
          <li>
            {t("hint_keys")} <kbd>?</kbd>
          </li>
        </ul>
      </section>
    </div>
  );
};
