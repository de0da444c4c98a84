/** The line at the top: which model this is, whether anybody has trained it, and the page's own settings. */

import { gotoOpen, helpOpen, lang, session, t, theme } from "../state.ts";
import { grouped } from "./format.ts";
import { IconButton } from "./icons.tsx";

export const Header = () => {
  const model = session.value?.model;
  const dark = theme.value === "dark";
  return (
    <header class="header">
      <p class="mark">glassformer</p>
      {model && (
        <h1>
          {model.name}
          <span class="parameters">{t("parameters", { n: grouped(model.n_parameters) })}</span>
          {model.shapes_only ? (
            <span class="badge" title={t("shapes_only_why")}>
              {t("shapes_only")}
            </span>
          ) : (
            model.random && (
              <span class="badge" title={t("random_why")}>
                {t("random_weights")}
              </span>
            )
          )}
        </h1>
      )}
      <div class="header-buttons" role="group" aria-label={t("settings")}>
        <IconButton icon="find" label={t("go_to")} keys="G" onClick={() => (gotoOpen.value = true)} />
        <button
          type="button"
          class="language"
          lang={lang.value === "en" ? "zh-Hans" : "en"}
          title={`${t("language")} (L)`}
          onClick={toggleLanguage}
        >
          {lang.value === "en" ? "中文" : "English"}
        </button>
        <IconButton icon={dark ? "sun" : "moon"} label={t(dark ? "light_theme" : "dark_theme")} onClick={toggleTheme} />
        <IconButton icon="help" label={t("help")} keys="?" onClick={() => (helpOpen.value = true)} />
      </div>
    </header>
  );
};

export const toggleLanguage = (): void => {
  lang.value = lang.peek() === "en" ? "zh" : "en";
};
const toggleTheme = (): void => {
  theme.value = theme.peek() === "dark" ? "light" : "dark";
};
