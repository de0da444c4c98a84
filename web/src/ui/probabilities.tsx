/** The next token's probabilities over the whole vocabulary, as bars. */

import { glowing, scene, t } from "../state.ts";
import { grouped, share } from "./format.ts";
import { pinPlace } from "./look.ts";
import { asking, candidates, logitPlace, textOf, type Candidate } from "./next.ts";
import type { Place } from "./cells.ts";

const placeOfLogit = (id: number): Place | null => {
  const shown = scene.peek();
  return shown && logitPlace(shown, asking.peek(), id);
};

export const Probabilities = ({ most = 50 }: { most?: number }) => {
  const all = candidates.value;
  if (!all) return <p class="quiet">{t("no_logits")}</p>;
  const shown = all.top.slice(0, most);
  const hidden = all.top.slice(most);
  const rest = all.rest + hidden.reduce((sum, { probability }) => sum + probability, 0);
  const others = all.others + hidden.length;
  return (
    <ol class="probabilities" aria-label={t("probabilities")}>
      {shown.map((candidate) => (
        <Bar key={candidate.id} candidate={candidate} />
      ))}
      {others > 0 && (
        <li class="rest">
          <span class="word">{t("other_tokens", { n: grouped(others) })}</span>
          <Track part={rest} was={null} />
          <span class="number">{share(rest)}</span>
        </li>
      )}
    </ol>
  );
};

const Bar = ({ candidate: { id, probability, was } }: { candidate: Candidate }) => {
  const place = placeOfLogit(id);
  return (
    <li onPointerEnter={() => (glowing.value = place ? [place] : [])} onPointerLeave={() => (glowing.value = [])}>
      <button type="button" class="word token" title={t("see_logit", { id })} onClick={() => place && pinPlace(place)}>
        {textOf(id)}
      </button>
      <Track part={probability} was={was} />
      <span class="number">{share(probability)}</span>
    </li>
  );
};

const Track = ({ part, was }: { part: number; was: number | null }) => (
  <span class="track" aria-hidden="true">
    <span class="share" style={{ width: `${part * 100}%` }} />
    {was !== null && <span class="was" style={{ left: `${was * 100}%` }} />}
  </span>
);
