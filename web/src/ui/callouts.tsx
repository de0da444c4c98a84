/** From afar, where the text goes in and what comes out, since the cells themselves are too small to say so. */

import { framePose, canvasSize, engine, scene, t, tokens } from "../state.ts";
import type { ComponentChildren } from "preact";
import type { Block } from "../types.ts";
import { wholeBlock } from "./cells.ts";
import { share, tokenText } from "./format.ts";
import { candidates, textOf } from "./next.ts";
import { stage } from "./overlay.ts";

const LEGIBLE = 90; // css pixels of a block's width from which on its own words are read
const SHOWN = 12; // tokens

export const Callouts = () => {
  const shown = scene.value;
  const entry = shown?.blocks.find(({ role }) => role === "tokens");
  const exit = shown?.logits == null ? undefined : shown.blocks[shown.logits];
  const all = tokens.value;
  const best = candidates.value?.top[0];
  return (
    <>
      {entry && all.length > 0 && (
        <Callout block={entry} words={t("text_enters")}>
          {all.length > SHOWN && "…"}
          {all.slice(-SHOWN).map((token, i) => (
            <span key={i} class="token">
              {tokenText(token)}
            </span>
          ))}
        </Callout>
      )}
      {exit && best && (
        <Callout block={exit} words={t("what_next")}>
          <span class="token">{textOf(best.id)}</span> {share(best.probability)}
        </Callout>
      )}
    </>
  );
};

/** To the right of a block, where the picture is empty; gone once the block itself is legible. */
const Callout = ({ block, words, children }: { block: Block; words: string; children: ComponentChildren }) => {
  const drawn = engine.value;
  void framePose.value;
  const dimmed = (stage.value?.opacity.get(block.id) ?? 1) < 0.5; // a chapter looks elsewhere
  if (!drawn || dimmed) return null;
  const [width, height] = [canvasSize.value.width, canvasSize.value.height];
  const cells = wholeBlock(block);
  const ends = [
    drawn.project(drawn.center({ ...cells, x1: 1 })),
    drawn.project(drawn.center({ ...cells, x0: cells.x1 - 1 })),
  ];
  const [left, right] = [Math.min(...ends.map(({ x }) => x)), Math.max(...ends.map(({ x }) => x))];
  const y = ends.reduce((sum, end) => sum + end.y, 0) / 2;
  const inside = ends.every((end) => end.visible) && right < width - 160 && left > 0 && y > 0 && y < height;
  if (!inside || right - left > LEGIBLE) return null;
  return (
    <div class="callout" aria-hidden="true" style={{ left: `${right + 4}px`, top: `${y}px` }}>
      <p>
        <span class="quiet">{words}</span>
        <br />
        {children}
      </p>
    </div>
  );
};
