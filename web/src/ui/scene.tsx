/** The canvas: makes the engine, draws when something has changed, and lets the pointer move and point. */

import { useEffect, useRef } from "preact/hooks";
import { effect } from "@preact/signals";
import { Controls } from "../engine/controls.ts";
import { Engine } from "../engine/index.ts";
import {
  camera,
  canvasSize,
  engine,
  framePose,
  head,
  lang,
  loading,
  problem,
  run,
  scene,
  sceneLost,
  session,
  source,
  step,
  t,
  theme,
} from "../state.ts";
import { flyTo, land } from "./camera.ts";
import { pinPlace, pointAt } from "./look.ts";
import { stage } from "./overlay.ts";

/** Draw once per frame at most, and only if something has changed. */
const drawn = (made: Engine, canvas: HTMLCanvasElement): (() => void) => {
  let frame = 0;
  const draw = (): void => {
    frame = 0;
    const now = stage.peek();
    if (!now || made.lost) return;
    made.draw(now, camera.peek());
    framePose.value = camera.peek();
  };
  const wanted = (): void => {
    if (frame === 0) frame = requestAnimationFrame(draw);
  };
  made.onNeedsFrame = wanted;
  const stops = [
    effect(() => {
      void stage.value;
      void camera.value;
      wanted();
    }),
    effect(() => {
      made.setLanguage(lang.value);
      wanted();
    }),
    effect(() => {
      made.setTheme(theme.value);
      wanted();
    }),
    effect(() => {
      made.setHead(head.value);
      wanted();
    }),
  ];
  const resized = (): void => {
    canvasSize.value = { width: canvas.clientWidth, height: canvas.clientHeight };
    made.resize();
    draw(); // at once: a canvas that was resized is empty
  };
  const watch = new ResizeObserver(resized);
  watch.observe(canvas);
  let density: MediaQueryList | undefined; // tells of another screen or zoom at which the canvas has the same size
  const denser = (): void => {
    density = matchMedia(`(resolution: ${devicePixelRatio}dppx)`);
    density.addEventListener("change", redone, { once: true });
  };
  const redone = (): void => {
    resized();
    denser();
  };
  denser();
  return () => {
    stops.forEach((stop) => stop());
    watch.disconnect();
    density?.removeEventListener("change", redone);
    cancelAnimationFrame(frame);
  };
};

/** What the controls say of the pointer: the camera it drags, the cell it is over, the cell it clicks. */
const controlled = (made: Engine, canvas: HTMLCanvasElement): (() => void) => {
  const controls = new Controls(canvas, made, camera.peek());
  let frame = 0;
  controls.onChange = (pose) => {
    land();
    camera.value = pose;
  };
  controls.onFly = (pose) => flyTo(pose);
  controls.onHover = (at) => {
    cancelAnimationFrame(frame);
    if (at) frame = requestAnimationFrame(() => pointAt(made.pick(at.x, at.y), at));
    else pointAt(null);
  };
  controls.onPin = (at) => {
    const place = made.pick(at.x, at.y);
    if (place) pinPlace(place);
  };
  const stop = effect(() => {
    controls.pose = camera.value;
  });
  return () => {
    stop();
    cancelAnimationFrame(frame);
    controls.dispose();
  };
};

export const SceneCanvas = () => {
  const canvas = useRef<HTMLCanvasElement>(null);
  const ready = source.value !== null;
  useEffect(() => {
    const from = source.peek();
    if (!canvas.current || !from) return;
    let made: Engine;
    try {
      made = new Engine(canvas.current, from);
    } catch (error) {
      if (canvas.current.getContext("webgl2")) problem.value = String(error); // a driver that cannot compile our shaders
      else sceneLost.value = "unsupported";
      return;
    }
    made.onLost = () => (sceneLost.value = "lost");
    made.onRestored = () => {
      sceneLost.value = null;
    };
    const shown = scene.peek();
    if (shown) made.setScene(shown, run.peek(), step.peek());
    engine.value = made;
    const stops = [drawn(made, canvas.current), controlled(made, canvas.current)];
    return () => {
      stops.forEach((stop) => stop());
      engine.value = null;
      made.dispose();
    };
  }, [ready]);
  return (
    <div class="scene">
      <canvas
        ref={canvas}
        id="scene"
        tabIndex={0}
        role="application"
        aria-label={t("scene_label", { name: session.value?.model.name ?? "" })}
        aria-describedby="scene-help"
      />
      <p id="scene-help" class="unseen">
        {t("scene_help")}
      </p>
      {loading.value && (
        <p class="loading" role="status">
          <span class="spinner" />
          {t(loading.value)}
        </p>
      )}
      {sceneLost.value && (
        <p class="lost" role="alert">
          {t(sceneLost.value === "lost" ? "context_lost" : "no_webgl")}
        </p>
      )}
    </div>
  );
};
