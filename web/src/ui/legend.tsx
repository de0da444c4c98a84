/** What the colours and glyphs of the scene mean; the engine draws with the same palette. */

import { computed, effect } from "@preact/signals";
import { useState } from "preact/hooks";
import { dimensionColor, PALETTES, ROLES, roleOf, type Role } from "../engine/palette.ts";
import { pointedBlock, scene, t, theme } from "../state.ts";
import { short } from "./format.ts";

const present = computed<Role[]>(() => {
  const found = new Set(scene.value?.blocks.map(roleOf));
  return ROLES.filter((role) => found.has(role));
});

/** The page's colours are the scene's. */
export const startColours = (): void => {
  effect(() => {
    const palette = PALETTES[theme.value];
    const style = document.documentElement.style;
    for (const role of ROLES) {
      for (const [part, colour] of Object.entries(palette.roles[role])) style.setProperty(`--${role}-${part}`, colour);
    }
    for (const [name, colour] of Object.entries(palette.glow)) style.setProperty(`--glow-${name}`, colour);
    for (const axis of "TSCDEFVHG") style.setProperty(`--axis-${axis}`, dimensionColor(axis, theme.value));
  });
};

/** A role's colours under the names that the style sheet has for any role's. */
const tone = (role: Role): Record<string, string> =>
  Object.fromEntries(["face", "plus", "minus"].map((part) => [`--${part}`, `var(--${role}-${part})`]));

/** One line of it, which unfolds; or all of it (`whole`). */
export const Legend = ({ whole = false }: { whole?: boolean }) => {
  const [isOpen, open] = useState(whole);
  const block = pointedBlock.value;
  const role = block ? roleOf(block) : "computed";
  const scale = block ? short(block.scale, 3) : t("largest");
  return (
    <section class="legend" aria-label={t("legend")}>
      <ul>
        {present.value.map((each) => (
          <li key={each}>
            <span class="swatch" style={tone(each)} />
            {t(`role_${each}`)}
          </li>
        ))}
      </ul>
      <p class="scale" style={tone(role)} title={t("scale_title")}>
        −{scale} <span class="ramp" aria-hidden="true" /> +{scale}
      </p>
      {!whole && (
        <button type="button" class="unfold" aria-expanded={isOpen} onClick={() => open(!isOpen)}>
          {t(isOpen ? "less" : "more")}
        </button>
      )}
      {isOpen && <Glyphs />}
    </section>
  );
};

const Glyphs = () => (
  <ul>
    <li>
      <span class="glyph disc" />
      {t("positive")}
    </li>
    <li>
      <span class="glyph ring" />
      {t("negative")}
    </li>
    <li>
      <span class="glyph">·</span>
      {t("masked")}
    </li>
    <li>
      <span class="glyph">▲▼</span>±∞
    </li>
    <li>
      <span class="glyph hatch" />
      NaN
    </li>
  </ul>
);
