/** This model beside GPT-2, GPT-2 XL and GPT-3, every cell of the same size: shapes from their papers, no numbers. */

import { useSignal } from "@preact/signals";
import { scene, session, t } from "../state.ts";
import { grouped } from "./format.ts";

/** Layers of 12 C² cells: four matrices of attention as a square, beside it the two of the feed-forward network. */
interface Size {
  name: string;
  layers: number;
  width: number;
  vocabulary: number;
  parameters: number;
  own: boolean;
}

const PUBLISHED: Size[] = [
  // Radford et al. 2019; Brown et al. 2020, table 2.1
  { name: "GPT-2", layers: 12, width: 768, vocabulary: 50257, parameters: 124_439_808, own: false },
  { name: "GPT-2 XL", layers: 48, width: 1600, vocabulary: 50257, parameters: 1_557_611_200, own: false },
  { name: "GPT-3", layers: 96, width: 12288, vocabulary: 50257, parameters: 175_000_000_000, own: false },
];
const IN_A_COLUMN = 12; // layers, as the scene stacks them

const extent = ({ layers, width }: Size): { x: number; y: number } => ({
  x: 6 * width * Math.ceil(layers / IN_A_COLUMN),
  y: 2 * width * Math.min(layers, IN_A_COLUMN),
});

export const Scale = () => {
  const zoom = useSignal(0); // 0: GPT-3 fills the picture; 1: this model does
  const shown = scene.value;
  const model = session.value?.model;
  if (!shown || !model) return null;
  const own: Size = {
    name: model.name,
    layers: shown.sizes.L ?? 1,
    width: shown.sizes.C ?? 1,
    vocabulary: shown.sizes.V ?? 1,
    parameters: model.n_parameters,
    own: true,
  };
  const all = [own, ...PUBLISHED.filter(({ parameters }) => parameters !== own.parameters)];
  const [small, large] = [extent(own).x * 1.4, extent(PUBLISHED[2] ?? own).x * 1.12];
  const view = large * (small / large) ** zoom.value;
  let x = 0;
  return (
    <div class="scale-panel">
      <svg viewBox={`0 0 ${view} ${view * 0.6}`} role="img" aria-label={t("scale_picture")}>
        <pattern
          id="hatch"
          width={view / 60}
          height={view / 60}
          patternUnits="userSpaceOnUse"
          patternTransform="rotate(45)"
        >
          <rect width={view / 150} height={view / 60} />
        </pattern>
        {all.map((size) => {
          const at = x;
          x += extent(size).x * 1.06 + view * 0.004;
          return <Layers key={size.name} size={size} x={at} line={view / 900} />;
        })}
      </svg>
      <label>
        {t("zoom_to", { name: own.name })}
        <input
          type="range"
          min={0}
          max={1}
          step={0.01}
          value={zoom.value}
          onInput={(event) => (zoom.value = Number(event.currentTarget.value))}
        />
      </label>
      <table>
        <tbody>
          {all.map((size) => (
            <tr key={size.name}>
              <th scope="row">{size.name}</th>
              <td>{t("layers_of", { n: size.layers, width: grouped(size.width) })}</td>
              <td>{grouped(size.parameters)}</td>
            </tr>
          ))}
        </tbody>
      </table>
      <p class="quiet">{t("scale_hatched")}</p>
    </div>
  );
};

/** All layers of a model, column by column. */
const Layers = ({ size, x, line }: { size: Size; x: number; line: number }) => {
  const c = size.width;
  const squares = Array.from({ length: size.layers }, (_, i) => {
    const [left, top] = [x + 6 * c * Math.floor(i / IN_A_COLUMN), 2 * c * (i % IN_A_COLUMN)];
    const frame = `M${left} ${top}h${6 * c}v${2 * c}h${-6 * c}z`;
    const between = `M${left + c} ${top}v${2 * c}m${c} ${-2 * c}v${2 * c}M${left} ${top + c}h${6 * c}`;
    return frame + between;
  });
  return <path d={squares.join("")} class={size.own ? "own" : "hollow"} stroke-width={line} />;
};
