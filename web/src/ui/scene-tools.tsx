/** Buttons over the scene for what keys and gestures do: the whole model, closer, further, around. */

import { camera, t } from "../state.ts";
import type { CameraPose } from "../types.ts";
import { fit, flyTo } from "./camera.ts";
import { IconButton } from "./icons.tsx";

const change = (part: (pose: CameraPose) => Partial<CameraPose>): void =>
  flyTo({ ...camera.peek(), ...part(camera.peek()) }, 0.25);

export const SceneTools = () => (
  <div class="scene-tools" role="group" aria-label={t("view")}>
    <IconButton icon="fit" label={t("whole_model")} keys="1" onClick={() => fit(null)} />
    <button
      type="button"
      class="icon-button"
      aria-label={t("closer")}
      title={`${t("closer")} (+)`}
      onClick={() => change(({ distance }) => ({ distance: distance * 0.7 }))}
    >
      +
    </button>
    <button
      type="button"
      class="icon-button"
      aria-label={t("further")}
      title={`${t("further")} (−)`}
      onClick={() => change(({ distance }) => ({ distance: distance / 0.7 }))}
    >
      −
    </button>
    <button
      type="button"
      class="icon-button"
      aria-label={t("turn_left")}
      title={t("turn_left")}
      onClick={() => change(({ azimuth }) => ({ azimuth: azimuth - 20 }))}
    >
      ↶
    </button>
    <button
      type="button"
      class="icon-button"
      aria-label={t("turn_right")}
      title={t("turn_right")}
      onClick={() => change(({ azimuth }) => ({ azimuth: azimuth + 20 }))}
    >
      ↷
    </button>
  </div>
);
