/** The panel of a training: the loss as it falls, where the shown picture stands in it, weights or their gradients. */

import { following, gradients, runInfo, run, t, training } from "../state.ts";
import type { Training } from "../types.ts";
import { grouped, short } from "./format.ts";
import { follow, pictured } from "./learning.ts";
import { show } from "./load.ts";

const [WIDTH, HEIGHT] = [280, 96];

export const Learning = () => {
  const now = training.value;
  if (!now) return null;
  const last = now.losses.at(-1);
  const at = pictured();
  return (
    <section class="learning">
      <h2>{t("training")}</h2>
      <p class="quiet" role="status">
        {now.ended ? t("training_ended") : t("training_step", { n: grouped(last?.[0] ?? 0), of: grouped(now.steps) })}
        {last && <> · {t("loss")} <b class="number">{short(last[1])}</b></>}
        {Object.entries(now.figures ?? {}).map(([name, value]) => <span key={name}> · {name} <b class="number">{short(value)}</b></span>)}
      </p>
      <Curve losses={now.losses} steps={now.steps} at={at} pictures={now.pictures} />
      <div class="row">
        <button type="button" aria-pressed={!gradients.value} onClick={() => gradients.value = false}>{t("show_weights")}</button>
        <button type="button" aria-pressed={gradients.value} onClick={() => gradients.value = true}>{t("show_gradients")}</button>
        <label><input type="checkbox" checked={following.value} onChange={event => follow(event.currentTarget.checked)} /> {t("follow_training")}</label>
      </div>
    </section>
  );
};

/** Clicking shows the picture that was taken nearest to there. */
interface CurveProps { losses: Training["losses"]; steps: number; at: number | null; pictures: number[] }

const Curve = ({ losses: all, steps, at, pictures }: CurveProps) => {
  const losses = all.filter((entry): entry is [number, number] => typeof entry[1] === "number");
  const most = Math.max(...losses.map(([, loss]) => loss), 1e-9);
  const x = (step: number): number => WIDTH * step / Math.max(steps, 1);
  const y = (loss: number): number => HEIGHT * (1 - loss / most);
  const points = losses.map(([step, loss]) => `${x(step).toFixed(1)},${y(loss).toFixed(1)}`);
  const goTo = (event: MouseEvent & { currentTarget: SVGSVGElement }): void => {
    const box = event.currentTarget.getBoundingClientRect();
    const step = steps * (event.clientX - box.left) / box.width;
    const nearest = pictures.reduce((best, each, i) => Math.abs(each - step) < Math.abs((pictures[best] ?? 0) - step) ? i : best, 0);
    following.value = false;
    const info = runInfo.peek()?.steps[nearest];
    if (info) void show(run.peek(), info.step);
  };
  return (
    <svg class="loss-curve" viewBox={`-2 -4 ${WIDTH + 4} ${HEIGHT + 8}`} role="img" onClick={goTo}
      aria-label={t("loss_curve", { n: short(losses[0]?.[1] ?? 0), to: short(losses.at(-1)?.[1] ?? 0) })}>
      <line class="axis" x1="0" y1={HEIGHT} x2={WIDTH} y2={HEIGHT} />
      <polyline class="loss" points={points.join(" ")} />
      {at !== null && <line class="now" x1={x(at)} y1="0" x2={x(at)} y2={HEIGHT} />}
      <text class="axis-label" x="0" y="8">{short(most, 3)}</text>
    </svg>
  );
};
