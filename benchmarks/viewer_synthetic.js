// Many boxes of random numbers in a grid, drawn by the page's own engine on a canvas of its own.
([boxes, side]) => {
  const canvas = document.createElement("canvas");
  canvas.style.cssText = "position: fixed; inset: 0; width: 1280px; height: 720px; z-index: 99";
  document.body.append(canvas);
  const columns = Math.ceil(Math.sqrt(boxes * 1.8));
  const noise = Float32Array.from({ length: 65536 }, (_, i) => Math.sin(i * 12.9898) * 2 % 1);
  const source = {
    tile: async (run, step, block, level) => {
      const n = Math.max(1, side >> level);
      return { width: n, height: n, values: noise.slice(0, n * n), rms: noise.slice(0, n * n).map(Math.abs) };
    },
    numbers: async (run, step, block, x, y, nx, ny) => Float64Array.from({ length: nx * ny }, (_, i) => noise[i % 65536]),
  };
  const blocks = Array.from({ length: boxes }, (_, id) => ({
    id, group: 0, name: `b${id}`, role: "weight", kind: "weight", label: { en: "", zh: "" }, tensor: id, storage: id,
    dtype: "float32", offset: 0, strides: [1, side], size: [side, side], axes: ["", ""], layer: null, head: null,
    pos: [id % columns * (side + 20), Math.floor(id / columns) * (side + 20), 0], step_of: null, scale: 1,
  }));
  const max = [columns * (side + 20), Math.ceil(boxes / columns) * (side + 20), 1];
  const group = { id: 0, parent: null, path: "", role: "model", index: null, label: { en: "", zh: "" }, min: [0, 0, 0], max };
  const model = { name: "", class: "", n_parameters: 0, config: {}, random: true, shapes_only: false };
  const engine = new glassformer.engine.constructor(canvas, source);
  engine.setScene({
    format: "glassformer-scene", version: 1, model, lazy: false, tokens: [], sizes: {}, groups: [group], blocks, arrows: [],
    stream: [], logits: null,
  }, 0, 0);
  const pose = engine.fit(null, "front", 0.02);
  const draw = (azimuth) => engine.draw(window.state_stage(), { ...pose, azimuth });
  engine.onNeedsFrame = () => requestAnimationFrame(() => draw(0));
  draw(0);
  const gl = canvas.getContext("webgl2");
  window.synthetic = async (frames) => {
    engine.onNeedsFrame = () => {};
    const js = [], pixel = new Uint8Array(4), begun = performance.now();
    for (let i = 0; i < frames; i++) {
      draw(0.4 * i);
      js.push(engine.stats().cpuMs);
      gl.readPixels(0, 0, 1, 1, gl.RGBA, gl.UNSIGNED_BYTE, pixel);
      await new Promise(requestAnimationFrame);
    }
    js.sort((a, b) => a - b);
    const { boxes, drawCalls, tileBytes } = engine.stats();
    const fps = 1000 * frames / (performance.now() - begun);
    if (frames > 4) { engine.dispose(); canvas.remove(); }
    return { javascript_ms: js[js.length >> 1], boxes, drawCalls, tileBytes, fps };
  };
}
