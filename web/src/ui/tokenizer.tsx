/** The tokenizer at work on a text: its pieces and the ids that the model reads, and how one of them comes about. */

import { useSignal, useSignalEffect } from "@preact/signals";
import { problem, run, source, t } from "../state.ts";
import type { TokenizedPiece } from "../types.ts";
import { pieceText } from "./format.ts";
import { Merges } from "./merges.tsx";

const SHOWN = 200; // pieces; a long text is cut for the eye only

export const Tokenizer = ({ pieces }: { pieces: TokenizedPiece[] }) => {
  const chosen = useSignal<number | "none" | null>(null); // null: nobody has chosen yet
  const ids = pieces.reduce((sum, piece) => sum + piece.ids.length, 0);
  const open = chosen.value ?? mostSteps(pieces);
  const piece = open === "none" ? undefined : pieces[open];
  return (
    <div class="tokenizer">
      <ol class="pieces" aria-label={t("pieces")}>
        {pieces.slice(0, SHOWN).map((each, i) => (
          <li key={i}>
            <button
              type="button"
              aria-expanded={open === i}
              class={each.special ? "special" : ""}
              onClick={() => (chosen.value = open === i ? "none" : i)}
            >
              <span class="parts">
                {(each.rows.at(-1) ?? [each.bytes]).map((part, j) => (
                  <span key={j} class="token">
                    {each.special ? each.text : pieceText(part)}
                  </span>
                ))}
              </span>
              <span class="ids">{each.ids.join(" ")}</span>
            </button>
          </li>
        ))}
        {pieces.length > SHOWN && <li class="quiet">…</li>}
      </ol>
      <p class="quiet">{t("tokens_counted", { n: ids })}</p>
      {piece && <Merges piece={piece} />}
    </div>
  );
};

/** The piece with the most steps, which a visitor sees before one has been chosen. */
const mostSteps = (pieces: TokenizedPiece[]): number =>
  pieces.reduce((most, piece, i) => (piece.steps.length > (pieces[most]?.steps.length ?? 0) ? i : most), 0);

/** The text of the run that is shown. */
export const RunPieces = () => {
  const pieces = useSignal<TokenizedPiece[]>([]);
  useSignalEffect(() => {
    const wanted = run.value;
    source.value?.pieces(wanted).then(
      (arrived) => {
        if (run.peek() === wanted) pieces.value = arrived;
      },
      (error: Error) => (problem.value = error.message),
    );
  });
  if (pieces.value.length === 0) return null;
  return (
    <section class="run-pieces">
      <p class="quiet">{t("text_that_runs")}</p>
      <Tokenizer key={run.value} pieces={pieces.value} />
    </section>
  );
};
