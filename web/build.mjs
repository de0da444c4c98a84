// Builds the page into the Python package: one script, one style sheet, the same bytes every time.
import { build } from "esbuild";
import { copyFile, mkdir, readFile } from "node:fs/promises";

/** Shaders lose the indentation and the comments that they are read with. */
const shaders = {
  name: "shaders",
  setup: ({ onLoad }) => onLoad({ filter: /shaders\.ts$/ }, async ({ path }) => ({
    contents: (await readFile(path, "utf8")).replace(/^ +/gm, "").replace(/ +\/\/.*$|^\/\/.*\n/gm, ""),
    loader: "ts",
  })),
};

const out = new URL("../src/glassformer/viewer/web/", import.meta.url).pathname;
await mkdir(out, { recursive: true });
await build({
  entryPoints: { app: "src/main.tsx" },
  bundle: true,
  minify: true,
  charset: "utf8",
  format: "iife",
  target: "es2022",
  jsx: "automatic",
  jsxImportSource: "preact",
  legalComments: "none",
  plugins: [shaders],
  outdir: out,
});
await copyFile("index.html", `${out}index.html`);
