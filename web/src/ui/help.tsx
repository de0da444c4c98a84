/** The help sheet: every key, the mouse, and touch. */

import { useLayoutEffect, useRef } from "preact/hooks";
import type { Key } from "../i18n.ts";
import { helpOpen, scene, t } from "../state.ts";
import { bookmarks } from "./camera.ts";
import { IconButton } from "./icons.tsx";
import { Legend } from "./legend.tsx";

const KEYS: [keys: string[], does: Key][] = [
  [["Space"], "key_space"],
  [["Tab"], "key_tab"],
  [["←", "↑", "→", "↓"], "key_arrows"],
  [["Shift", "←↑→↓"], "key_shift_arrows"],
  [["Enter"], "key_enter"],
  [["S"], "key_s"],
  [["Esc"], "key_esc"],
  [["[", "]"], "key_brackets"],
  [["PgUp", "PgDn"], "key_page"],
  [["H", "Shift H"], "key_h"],
  [[",", "."], "key_steps"],
  [["N"], "key_n"],
  [["T"], "key_t"],
  [["U"], "key_u"],
  [["F"], "key_f"],
  [["G"], "key_g"],
  [["1", "…", "9"], "key_numbers"],
  [["+", "−"], "key_zoom"],
  [["L"], "key_l"],
  [["?"], "key_help"],
];

export const Help = () => {
  const dialog = useRef<HTMLDialogElement>(null);
  const open = helpOpen.value;
  useLayoutEffect(() => {
    // before any other key is pressed
    if (open) dialog.current?.showModal();
    else dialog.current?.close();
  }, [open]);
  return (
    <dialog ref={dialog} class="help" aria-labelledby="help-title" onClose={() => (helpOpen.value = false)}>
      <div class="row">
        <h2 id="help-title">{t("help")}</h2>
        <IconButton icon="close" label={t("close")} onClick={() => (helpOpen.value = false)} />
      </div>
      {open && (
        <div class="help-columns">
          <section>
            <h3>{t("keyboard")}</h3>
            <dl>
              {KEYS.map(([keys, does]) => (
                <div key={does}>
                  <dt>
                    {keys.map((key) => (
                      <kbd key={key}>{key}</kbd>
                    ))}
                  </dt>
                  <dd>{t(does)}</dd>
                </div>
              ))}
            </dl>
          </section>
          <section>
            <h3>{t("mouse")}</h3>
            <p>{t("mouse_help")}</p>
            <h3>{t("touch")}</h3>
            <p>{t("touch_help")}</p>
            <h3>{t("bookmarks")}</h3>
            <ol class="bookmarks">
              {scene.value && bookmarks(scene.value).map(({ name }) => <li key={name}>{t(name)}</li>)}
            </ol>
            <h3>{t("legend")}</h3>
            <Legend whole />
            <h3>{t("the_check")}</h3>
            <p>{t("the_check_help")}</p>
          </section>
        </div>
      )}
    </dialog>
  );
};
