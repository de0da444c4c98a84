// Builds the page into the Python package: one script, one style sheet, the same bytes every time.
import { build } from "esbuild";
import { mkdir, readFile, writeFile } from "node:fs/promises";

/** Shaders lose the indentation and the comments that they are read with. */
const shaders = {
  name: "shaders",
  setup: ({ onLoad }) => onLoad({ filter: /shaders\.ts$/ }, async ({ path }) => ({
    contents: (await readFile(path, "utf8")).replace(/^ +/gm, "").replace(/ +\/\/.*$|^\/\/.*\n/gm, ""),
    loader: "ts",
  })),
};

/** The licences of the packages that were bundled, for they ask to be in every copy: of the page, and of its exports. */
async function licences({ inputs }) {
  const folders = new Set(Object.keys(inputs).map((path) => /^node_modules\/(@[^/]+\/)?[^/]+/.exec(path)?.[0]));
  const holders = new Map(); // by the text of the licence, which several packages share word for word
  for (const folder of [...folders].filter(Boolean).sort()) {
    const text = (await readFile(`${folder}/LICENSE`, "utf8")).trim();
    const terms = text.replace(/^Copyright .*\n/m, "");
    const holder = `${folder.replace("node_modules/", "")}: ${/^Copyright .*/m.exec(text)?.[0]}`;
    holders.set(terms, [...holders.get(terms) ?? [], holder]);
  }
  return [...holders].map(([terms, names]) => `<!--\n${names.join("\n")}\n\n${terms}\n-->\n`).join("");
}

const out = new URL("../src/glassformer/viewer/web/", import.meta.url).pathname;
await mkdir(out, { recursive: true });
const { metafile } = await build({
  entryPoints: { app: "src/main.tsx" },
  bundle: true,
  minify: true,
  charset: "utf8",
  format: "iife",
  target: "es2022",
  jsx: "automatic",
  jsxImportSource: "preact",
  legalComments: "none",
  metafile: true,
  plugins: [shaders],
  outdir: out,
});
const page = await readFile("index.html", "utf8");
await writeFile(`${out}index.html`, `${page}${await licences(metafile)}`);
