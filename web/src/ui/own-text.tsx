/** The visitor's own text: the tokenizer works while it is typed, and the model runs on it. */

import { signal, useSignal, useSignalEffect } from "@preact/signals";
import { useId } from "preact/hooks";
import { busy, given, problem, session, source, t } from "../state.ts";
import type { TokenizedPiece } from "../types.ts";
import { runText } from "./load.ts";
import { Tokenizer } from "./tokenizer.tsx";

const PAUSE = 120; // milliseconds without a key before the tokenizer is asked
const text = signal(""); // stays when the field goes, as it does where the page turns narrow

export const OwnText = () => {
  const id = useId();
  const pieces = useSignal<TokenizedPiece[]>([]);
  useSignalEffect(() => {
    const wanted = text.value;
    const timer = setTimeout(() => {
      if (wanted === "") pieces.value = [];
      else
        source
          .peek()
          ?.tokenize(wanted)
          .then(
            (found) => {
              if (text.peek() === wanted) pieces.value = found;
            },
            (error: Error) => (problem.value = error.message),
          );
    }, PAUSE);
    return () => clearTimeout(timer);
  });
  if (!session.value?.can.text)
    return session.value?.can.text === null ? null : (
      <p class="note">{t(session.value?.live ? "needs_tokenizer" : "needs_server")}</p>
    );
  const submit = (event: Event): void => {
    event.preventDefault();
    if (text.value !== "") void runText(text.value);
  };
  return (
    <form class="own-text" onSubmit={submit}>
      <label for={id}>{t("your_text")}</label>
      <div class="row">
        <input
          id={id}
          class="own-text-field"
          type="text"
          autoComplete="off"
          spellcheck={false}
          value={text.value}
          placeholder={given.value.map(({ text: part }) => part).join("")}
          onInput={(event) => (text.value = event.currentTarget.value)}
        />
        <button type="submit" class="primary" disabled={busy.value || text.value === ""}>
          {t("run")}
        </button>
      </div>
      {pieces.value.length > 0 && <Tokenizer pieces={pieces.value} />}
    </form>
  );
};
