/** The page's few pictograms, drawn as strokes in the colour of the text, and the buttons that are made of them. */

import type { ComponentChildren } from "preact";

const PATHS = {
  play: "M7 5v14l12-7z",
  pause: "M8 5v14M16 5v14",
  next: "M6 5l9 7-9 7zM18 5v14",
  back: "M18 5l-9 7 9 7zM6 5v14",
  left: "M15 5l-7 7 7 7",
  right: "M9 5l7 7-7 7",
  down: "M5 9l7 7 7-7",
  up: "M5 15l7-7 7 7",
  close: "M6 6l12 12M18 6L6 18",
  sun: "M12 8a4 4 0 100 8 4 4 0 000-8zM12 2v3M12 19v3M2 12h3M19 12h3M5 5l2 2M17 17l2 2M5 19l2-2M17 7l2-2",
  moon: "M20 14.5A8.5 8.5 0 119.5 4a7 7 0 0010.5 10.5z",
  list: "M8 6h12M8 12h12M8 18h12M4 6h.01M4 12h.01M4 18h.01",
  fit: "M4 9V4h5M15 4h5v5M20 15v5h-5M9 20H4v-5",
  find: "M11 4a7 7 0 100 14 7 7 0 000-14zM16.5 16.5L21 21",
  help: "M9 9a3 3 0 115 2.2c-1 .8-2 1.3-2 2.8M12 18h.01",
  layers: "M12 4l9 5-9 5-9-5zM3 14l9 5 9-5",
  reset: "M4 12a8 8 0 102.5-5.8M4 4v4h4",
};

export type IconName = keyof typeof PATHS;

export const Icon = ({ name }: { name: IconName }) => (
  <svg class="icon" viewBox="0 0 24 24" aria-hidden="true">
    <path d={PATHS[name]} />
  </svg>
);

/** A button that flows with the text around it, as the browser's own do not: it breaks across lines like words. */
export const InlineButton = ({
  class: kind,
  act,
  glow,
  children,
}: {
  class: string;
  act: () => void;
  glow?: (on: boolean) => void;
  children: ComponentChildren;
}) => (
  <span
    role="button"
    tabIndex={0}
    class={kind}
    onClick={act}
    onKeyDown={(event) => {
      if (event.key === "Enter" || event.key === " ") {
        event.preventDefault();
        act();
      }
    }}
    onPointerEnter={() => glow?.(true)}
    onPointerLeave={() => glow?.(false)}
    onFocus={() => glow?.(true)}
    onBlur={() => glow?.(false)}
  >
    {children}
  </span>
);

interface ButtonProps {
  icon: IconName;
  label: string;
  onClick: () => void;
  pressed?: boolean;
  expanded?: boolean;
  disabled?: boolean;
  kind?: string;
  keys?: string;
}

/** A button that shows a pictogram and says its name to everyone who asks. */
export const IconButton = ({ icon, label, onClick, pressed, expanded, disabled, kind = "", keys }: ButtonProps) => (
  <button
    type="button"
    class={`icon-button ${kind}`}
    aria-label={label}
    title={keys ? `${label} (${keys})` : label}
    aria-pressed={pressed}
    aria-expanded={expanded}
    disabled={disabled}
    onClick={onClick}
  >
    <Icon name={icon} />
  </button>
);
