/** Go to: a box to type into, and what it finds. */

import { useSignal } from "@preact/signals";
import { useLayoutEffect, useRef } from "preact/hooks";
import { gotoOpen, inLang, scene, t, trace } from "../state.ts";
import { fit, reveal } from "./camera.ts";
import { wholeBlock } from "./cells.ts";
import { find, type Found } from "./find.ts";
import { IconButton } from "./icons.tsx";
import { pinPlace } from "./look.ts";

const go = ({ block, place }: Found): void => {
  gotoOpen.value = false;
  fit([wholeBlock(block)], "front");
  if (place) reveal(place);
  pinPlace(place ?? { block: block.id, x: 0, y: 0 });
};

export const GoTo = () => {
  const dialog = useRef<HTMLDialogElement>(null);
  const text = useSignal("");
  const at = useSignal(0);
  const open = gotoOpen.value;
  useLayoutEffect(() => {
    // before any other key is pressed
    if (open) dialog.current?.showModal();
    else dialog.current?.close();
  }, [open]);
  const found = open && scene.value ? find(scene.value, trace.value, text.value) : [];
  const onKeyDown = (event: KeyboardEvent): void => {
    if (event.key === "ArrowDown" || event.key === "ArrowUp") {
      event.preventDefault();
      at.value = Math.min(Math.max(at.value + (event.key === "ArrowDown" ? 1 : -1), 0), Math.max(0, found.length - 1));
    } else if (event.key === "Enter") {
      const chosen = found[at.value];
      if (chosen) go(chosen);
    }
  };
  return (
    <dialog ref={dialog} class="goto" aria-label={t("go_to")} onClose={() => (gotoOpen.value = false)}>
      <div class="row">
        <input
          type="text"
          role="combobox"
          aria-label={t("go_to")}
          aria-expanded={found.length > 0}
          aria-controls="found"
          autoComplete="off"
          aria-activedescendant={found.length > 0 ? `found-${at.value}` : undefined}
          placeholder={t("go_to_example")}
          value={text.value}
          onInput={(event) => {
            text.value = event.currentTarget.value;
            at.value = 0;
          }}
          onKeyDown={onKeyDown}
        />
        <IconButton icon="close" label={t("close")} onClick={() => (gotoOpen.value = false)} />
      </div>
      <ul id="found" role="listbox" aria-label={t("found")}>
        {found.map((each, i) => (
          <li
            key={each.block.id}
            id={`found-${i}`}
            role="option"
            aria-selected={i === at.value}
            onClick={() => go(each)}
          >
            <span>
              {inLang(each.block.label)}
              {each.place && ` (${each.place.x}, ${each.place.y})`}
            </span>
            <code class="quiet">{each.block.name}</code>
          </li>
        ))}
      </ul>
      {text.value !== "" && found.length === 0 && <p class="quiet">{t("nothing_found")}</p>}
    </dialog>
  );
};
