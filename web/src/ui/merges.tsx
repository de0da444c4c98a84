/** How a piece of text becomes tokens: the tree of its merges, to be gone through one by one, and all rows of symbols. */

import { useSignal } from "@preact/signals";
import { t } from "../state.ts";
import type { Key } from "../i18n.ts";
import type { PieceStep, TokenizedPiece } from "../types.ts";
import { grouped, pieceText, short, visible } from "./format.ts";
import { IconButton } from "./icons.tsx";
import { lineOf, mergeTrees, type Branch } from "./merge-tree.ts";

const GUTTER = 44; // px, where the ranks stand
const METHODS: Record<TokenizedPiece["method"], Key> = {
  merges: "by_merges",
  "longest match": "by_longest",
  "best path": "by_path",
  "look-up": "by_look_up",
};

export const Merges = ({ piece }: { piece: TokenizedPiece }) => (
  <div class="made">
    <p class="quiet">{t("how_made", { piece: visible(piece.text) })}</p>
    {!piece.special && <p>{t(METHODS[piece.method])}</p>}
    {piece.method === "merges" && piece.steps.length > 0 && <Tree key={piece.bytes} piece={piece} />}
    <Rows piece={piece} />
  </div>
);

const Tree = ({ piece }: { piece: TokenizedPiece }) => {
  const { branches, width, height } = mergeTrees(piece);
  const of = piece.steps.length;
  const at = useSignal(of);
  return (
    <figure class="merge-tree">
      <figcaption>
        <IconButton icon="left" label={t("merge_back")} disabled={at.value === 0} onClick={() => at.value--} />
        <IconButton icon="right" label={t("merge_on")} disabled={at.value === of} onClick={() => at.value++} />
        <span role="status">{told(piece, at.value)}</span>
      </figcaption>
      <div class="tree-window" tabIndex={0}>
        <svg
          role="img"
          aria-label={t("merge_tree", { piece: visible(piece.text) })}
          width={GUTTER + width}
          height={height}
        >
          {piece.steps.map(({ rank }, i) => (
            <text key={i} data-step={i + 1} class={`rank${i < at.value ? "" : " later"}`} x={0} y={lineOf(i + 1)}>
              {rank === null ? "" : grouped(rank)}
            </text>
          ))}
          <text class="rank" x={0} y={lineOf(0)}>
            {t("rank_head")}
          </text>
          <g class="trees" transform={`translate(${GUTTER} 0)`}>
            {branches.map((branch, i) => (
              <Twig key={i} branch={branch} until={at.value} token />
            ))}
          </g>
        </svg>
      </div>
    </figure>
  );
};

/** A symbol, under it in the document what it was merged of: the page's tree is the tree of merges. */
const Twig = ({ branch, until, token = false }: { branch: Branch; until: number; token?: boolean }) => {
  const later = branch.step > until ? "later" : "";
  return (
    <g data-step={branch.step}>
      {branch.parts.map((part, i) => (
        <path
          key={i}
          class={later}
          d={`M${part.x} ${part.y + 8}V${branch.y - 16}L${branch.x} ${branch.y - 9}`}
        />
      ))}
      <text class={`${later}${token ? " whole" : ""}`} x={branch.x} y={branch.y}>
        {branch.text}
      </text>
      {branch.parts.map((part, i) => (
        <Twig key={i} branch={part} until={until} />
      ))}
    </g>
  );
};

const told = (piece: TokenizedPiece, step: number): string => {
  const last = piece.steps[step - 1];
  if (!last) return t("merge_none");
  const [before, after] = [piece.rows[step - 1] ?? [], piece.rows[step] ?? []];
  if (last.rank === null) return t("whole_token");
  const [left, right] = before.slice(last.at, last.at + 2).map(pieceText);
  const joined = pieceText(after[last.at] ?? "");
  const values = { n: step, of: piece.steps.length, rank: grouped(last.rank) };
  return t("merge_told", { ...values, left: left ?? "", right: right ?? "", joined });
};

/** Row by row: the bytes, and the symbols after each step, of which the new one stands out. */
const Rows = ({ piece }: { piece: TokenizedPiece }) => (
  <table class="merges">
    <tbody>
      <tr>
        <th scope="row">{t("bytes")}</th>
        <td>
          {(piece.bytes.match(/../g) ?? []).map((byte, i) => (
            <code key={i}>{byte.toUpperCase()}</code>
          ))}
        </td>
      </tr>
      {piece.rows.map((symbols, i) => (
        <tr key={i}>
          <th scope="row">{i === 0 ? t("begin") : rowName(piece, i)}</th>
          <td>
            {symbols.map((symbol, j) => (
              <span key={j} class={`token${piece.steps[i - 1]?.at === j ? " new" : ""}`}>
                {pieceText(symbol)}
              </span>
            ))}
            {i > 0 && <span class="quiet">{worth(piece.steps[i - 1])}</span>}
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

const rowName = (piece: TokenizedPiece, n: number): string => t(piece.method === "merges" ? "merge_n" : "cut_n", { n });

const worth = (step: PieceStep | undefined): string => {
  if (!step) return "";
  const rank = step.rank === null ? [] : [t("rank", { n: grouped(step.rank) })];
  const score = step.score === null ? [] : [t("score", { n: short(step.score) })];
  return [...rank, ...score].join(" · ");
};
