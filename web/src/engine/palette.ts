/**
 * The colours of the scene, for both themes; the legend of the page reads the same table.
 *
 * A role has a face (its paper, which is also zero), a colour for positive and one for negative numbers, and an ink for
 * edges and words. Hues follow Okabe and Ito; two roles differ by a ΔE of at least 20 in normal, protan, deutan and tritan
 * vision. The sign is drawn as a disc (+) or a ring (−) as well, so that no meaning rests on hue alone.
 */
import type { Arrow, Block, Glow } from "../types.ts";

export type Theme = "light" | "dark";
export type Role = "weight" | "computed" | "statistic" | "input" | "gradient" | "constant";
export interface Tone { face: string; plus: string; minus: string; ink: string }
export interface Palette {
  paper: string; // behind everything
  ink: string; // words
  muted: string; // words of less weight
  halo: string; // around words that lie on cells
  roles: Record<Role, Tone>;
  glow: Record<Glow["color"], string>;
  arrow: Record<Arrow["kind"], string>;
  stream: string;
}

export const ROLES: Role[] = ["weight", "computed", "statistic", "input", "gradient", "constant"];

export const PALETTES: Record<Theme, Palette> = {
  light: {
    paper: "#f8f8f5", ink: "#1c2530", muted: "#5d6875", halo: "#fdfdfb",
    roles: {
      weight: { face: "#e4edf7", plus: "#0b509c", minus: "#d55e00", ink: "#2a5d8f" },
      computed: { face: "#e2f2ec", plus: "#04a663", minus: "#d55e00", ink: "#1f6e58" },
      statistic: { face: "#fbf1d9", plus: "#edab48", minus: "#6a51a3", ink: "#8a6100" },
      input: { face: "#eceaf3", plus: "#b5a8dd", minus: "#c0631a", ink: "#56517a" },
      gradient: { face: "#f8e7f1", plus: "#b15187", minus: "#5b7d00", ink: "#93366f" },
      constant: { face: "#eeeeec", plus: "#3d3d3e", minus: "#c0631a", ink: "#5a5f66" },
    },
    glow: { focus: "#d1006c", source: "#e68a00", token: "#7a3fc4" },
    arrow: { data: "#1f8a6a", weight: "#3b78b5", residual: "#1f8a6a" },
    stream: "#1fa57e",
  },
  dark: {
    paper: "#0e1217", ink: "#e9edf2", muted: "#9aa6b2", halo: "#0e1217",
    roles: {
      weight: { face: "#17293d", plus: "#80b2fb", minus: "#ff9046", ink: "#8cc6f2" },
      computed: { face: "#12312a", plus: "#34e4ac", minus: "#ff9046", ink: "#7fdcbd" },
      statistic: { face: "#362b10", plus: "#fcc74a", minus: "#b39cf0", ink: "#efcf7d" },
      input: { face: "#27253a", plus: "#d7d1f3", minus: "#ffa264", ink: "#c2bdee" },
      gradient: { face: "#391f31", plus: "#d75db8", minus: "#a9cc4a", ink: "#f2a9d6" },
      constant: { face: "#24282d", plus: "#787878", minus: "#ffa264", ink: "#b8bfc7" },
    },
    glow: { focus: "#ff5fae", source: "#ffc04d", token: "#bd93ff" },
    arrow: { data: "#37b58f", weight: "#4f93cf", residual: "#37b58f" },
    stream: "#2fbf95",
  },
};

/** An axis has one colour wherever its letter stands. */
const DIMENSIONS: Record<string, [light: string, dark: string]> = {
  T: ["#0f7f8c", "#5fd0dc"], S: ["#31688e", "#8ab8e0"], C: ["#b8247a", "#f58ac4"], D: ["#a1508c", "#e3a1d3"],
  E: ["#a1508c", "#e3a1d3"], F: ["#b4490f", "#ffab7a"], V: ["#6d3fa0", "#c3a1f0"], H: ["#4d7a1c", "#b3d97f"],
};
export const dimensionColor = (axis: string, theme: Theme): string => {
  const pair = DIMENSIONS[axis.toUpperCase()];
  return pair === undefined ? PALETTES[theme].muted : pair[theme === "light" ? 0 : 1];
};

const STATISTICS = new Set(["mean", "mean_square", "variance", "highest", "total"]);
export const roleOf = (block: Block): Role => {
  if (block.kind === "weight" || block.kind === "gradient" || block.kind === "input") return block.kind;
  if (block.kind === "buffer" || block.kind === "constant") return "constant";
  return STATISTICS.has(block.role) ? "statistic" : "computed";
};

const known = new Map<string, [number, number, number]>();
export const rgb = (css: string): [number, number, number] => {
  const found = known.get(css);
  if (found !== undefined) return found;
  const n = parseInt(css.slice(1), 16);
  const color: [number, number, number] = [(n >> 16) / 255, ((n >> 8) & 255) / 255, (n & 255) / 255];
  known.set(css, color);
  return color;
};
