/** The page: walkthrough, scene and inspector side by side; on a narrow page a sheet below the scene has them. */

import type { ComponentChildren, ComponentType } from "preact";
import type { Key } from "../i18n.ts";
import { announced, leftOpen, narrow, problem, rightOpen, sheet, t, tab, type Tab } from "../state.ts";
import { Callouts } from "./callouts.tsx";
import { Chapters } from "./chapters.tsx";
import { GoTo } from "./goto.tsx";
import { Header } from "./header.tsx";
import { Help } from "./help.tsx";
import { IconButton } from "./icons.tsx";
import { Inspector } from "./inspector.tsx";
import { Legend } from "./legend.tsx";
import { Outline } from "./outline.tsx";
import { Playground } from "./playground.tsx";
import { Popup } from "./popup.tsx";
import { SceneCanvas } from "./scene.tsx";
import { SceneTools } from "./scene-tools.tsx";
import { Unroll } from "./unroll.tsx";

export const App = () => (
  <>
    <a
      class="skip"
      href="#scene"
      onClick={(event) => {
        event.preventDefault();
        document.getElementById("scene")?.focus();
      }}
    >
      {t("skip_to_scene")}
    </a>
    <Header />
    <Columns />
    <Help />
    <GoTo />
    {problem.value && (
      <div class="problem" role="alert">
        <p>{problem.value}</p>
        <IconButton icon="close" label={t("close")} onClick={() => (problem.value = null)} />
      </div>
    )}
    <p class="unseen" aria-live="polite" id="announced">
      {announced.value}
    </p>
  </>
);

const Middle = () => (
  <main class="middle" aria-label={t("scene")}>
    <div class="stage">
      <SceneCanvas />
      <Callouts />
      <SceneTools />
      <Unroll />
      <Popup />
    </div>
    <Legend />
    {!narrow.value && <Playground />}
  </main>
);

/** The scene stays what it is when the page turns narrow or wide: a new canvas would be a new context to lose. */
const Columns = () => {
  const wide = !narrow.value;
  return (
    <div
      class={wide ? "columns" : "narrow"}
      data-left={leftOpen.value}
      data-right={rightOpen.value}
      data-sheet={sheet.value}
    >
      {wide && <Left />}
      <Middle />
      {wide ? <Right /> : <Sheet />}
    </div>
  );
};

const Left = () =>
  leftOpen.value ? (
    <aside class="panel left" aria-label={t("walkthrough")}>
      <Chapters />
    </aside>
  ) : (
    <IconButton kind="reopen left" icon="right" label={t("walkthrough")} onClick={() => (leftOpen.value = true)} />
  );

const Right = () =>
  rightOpen.value ? (
    <aside class="panel right" aria-label={t("inspector")}>
      <Tabs
        tabs={[
          ["cell", "inspector"],
          ["outline", "outline"],
        ]}
      >
        <IconButton icon="right" label={t("hide_panel")} onClick={() => (rightOpen.value = false)} />
      </Tabs>
      <TabPanel id={tab.value === "outline" ? "outline" : "cell"} />
    </aside>
  ) : (
    <IconButton kind="reopen right" icon="left" label={t("inspector")} onClick={() => (rightOpen.value = true)} />
  );

const SIZES = { peek: "half", half: "full", full: "peek" } as const;

const Sheet = () => (
  <aside class="sheet" aria-label={t("panels")}>
    <IconButton
      kind="handle"
      icon={sheet.value === "full" ? "down" : "up"}
      label={t(sheet.value === "full" ? "lower_sheet" : "raise_sheet")}
      onClick={() => (sheet.value = SIZES[sheet.value])}
    />
    <Tabs
      tabs={[
        ["walk", "walkthrough"],
        ["cell", "inspector"],
        ["play", "playground"],
        ["outline", "outline"],
      ]}
    />
    <TabPanel id={tab.value} />
  </aside>
);

const Tabs = ({ tabs, children }: { tabs: [Tab, Key][]; children?: ComponentChildren }) => {
  const chosen = tabs.some(([id]) => id === tab.value) ? tab.value : tabs[0]?.[0];
  const onKeyDown = (event: KeyboardEvent): void => {
    const by = event.key === "ArrowRight" ? 1 : event.key === "ArrowLeft" ? -1 : 0;
    if (by === 0) return;
    event.preventDefault();
    const at = tabs.findIndex(([id]) => id === chosen);
    const next = tabs[(at + by + tabs.length) % tabs.length];
    if (!next) return;
    tab.value = next[0];
    document.getElementById(`tab-${next[0]}`)?.focus();
  };
  return (
    <div class="tab-row">
      <div class="tabs" role="tablist" aria-label={t("panels")} onKeyDown={onKeyDown}>
        {tabs.map(([id, label]) => (
          <button
            key={id}
            type="button"
            role="tab"
            id={`tab-${id}`}
            aria-selected={id === chosen}
            tabIndex={id === chosen ? 0 : -1}
            aria-controls={id === chosen ? `panel-${id}` : undefined}
            onClick={() => {
              tab.value = id;
              if (sheet.value === "peek") sheet.value = "half";
            }}
          >
            {t(label)}
          </button>
        ))}
      </div>
      {children}
    </div>
  );
};

const PANELS: Record<Tab, ComponentType> = { walk: Chapters, cell: Inspector, play: Playground, outline: Outline };

const TabPanel = ({ id }: { id: Tab }) => {
  const Panel = PANELS[id];
  return (
    <div class="tab-panel" role="tabpanel" id={`panel-${id}`} aria-labelledby={`tab-${id}`}>
      <Panel />
    </div>
  );
};
