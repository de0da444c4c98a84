/** The text of a step: axes in their colours, numbers that light up their cells, words that lead to blocks. */

import { glowing, lit } from "../state.ts";
import type { Segment } from "../chapters/template.ts";
import type { Cells, Chapter, ChapterStep } from "../types.ts";
import { Axis } from "./cell-name.tsx";
import { lookAtToken } from "./attention.tsx";
import { fit } from "./camera.ts";
import { visible } from "./format.ts";
import { InlineButton } from "./icons.tsx";
import { pinPlace } from "./look.ts";
import { segments } from "./walk.ts";

export const ChapterText = ({ told, step }: { told: Chapter; step: ChapterStep }) => (
  <p>
    {segments(told, step).map((segment, i) => (
      <Piece key={i} segment={segment} />
    ))}
  </p>
);

const Piece = ({ segment }: { segment: Segment }) => {
  switch (segment.kind) {
    case "text":
      return <>{segment.text}</>;
    case "dim":
      return <Axis letter={segment.axis} />;
    case "size":
      return <Axis letter={segment.axis}>{segment.text}</Axis>;
    case "value":
      return <Value text={segment.text} cells={segment.cells} />;
    case "term":
      return <Term text={segment.text} cells={segment.cells} />;
    case "token": {
      const { position, token } = segment;
      const text = visible(segment.text);
      return position === null || token === null ? (
        <span class="token">{text}</span>
      ) : (
        <>
          <InlineButton class="token" act={() => lookAtToken(position)}>
            {text}
          </InlineButton>
          <wbr />
        </>
      );
    }
  }
};

const Value = ({ text, cells }: { text: string; cells: Cells | null }) => {
  if (!cells) return <span class="value">{text}</span>;
  const place = { block: cells.block, x: cells.x0, y: cells.y0 };
  return (
    <InlineButton class="value" act={() => pinPlace(place)} glow={(on) => (glowing.value = on ? [place] : [])}>
      {text}
    </InlineButton>
  );
};

const Term = ({ text, cells }: { text: string; cells: Cells[] }) =>
  cells.length === 0 ? (
    <>{text}</>
  ) : (
    <InlineButton class="term" act={() => fit(cells)} glow={(on) => (lit.value = on ? cells : [])}>
      {text}
    </InlineButton>
  );
