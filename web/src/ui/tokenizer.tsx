/** The tokenizer at work on the visitor's text: its bytes, what merges with what, and the ids that the model reads. */

import { useSignal } from "@preact/signals";
import { t } from "../state.ts";
import type { TokenizedPiece } from "../types.ts";
import { pieceText, visible } from "./format.ts";

const SHOWN = 200; // pieces; a long text is cut for the eye only

export const Tokenizer = ({ pieces }: { pieces: TokenizedPiece[] }) => {
  const chosen = useSignal<number | null>(null);
  const ids = pieces.reduce((sum, piece) => sum + piece.ids.length, 0);
  const piece = chosen.value === null ? undefined : pieces[chosen.value];
  return (
    <div class="tokenizer">
      <ol class="pieces" aria-label={t("pieces")}>
        {pieces.slice(0, SHOWN).map((each, i) => (
          <li key={i}>
            <button
              type="button"
              aria-expanded={chosen.value === i}
              class={each.special ? "special" : ""}
              onClick={() => (chosen.value = chosen.value === i ? null : i)}
            >
              <span class="parts">
                {(each.merges.at(-1) ?? [each.bytes]).map((part, j) => (
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

/** Row by row: the bytes, and the pieces after each merge. */
const Merges = ({ piece }: { piece: TokenizedPiece }) => (
  <table class="merges">
    <caption>{t("how_made", { piece: visible(piece.text) })}</caption>
    <tbody>
      <tr>
        <th scope="row">{t("bytes")}</th>
        <td>
          {(piece.bytes.match(/../g) ?? []).map((byte, i) => (
            <code key={i}>{byte.toUpperCase()}</code>
          ))}
        </td>
      </tr>
      {piece.merges.map((parts, i) => (
        <tr key={i}>
          <th scope="row">{i === 0 ? t("begin") : t("merge_n", { n: i })}</th>
          <td>
            {parts.map((part, j) => (
              <span key={j} class="token">
                {pieceText(part)}
              </span>
            ))}
          </td>
        </tr>
      ))}
      <tr>
        <th scope="row">{t("ids")}</th>
        <td>
          {piece.ids.map((id, i) => (
            <code key={i}>{id}</code>
          ))}
        </td>
      </tr>
    </tbody>
  </table>
);
