/** The line of Python that computed a number, with the lines around it. */

import { t } from "../state.ts";
import type { Explanation, SourceRecord } from "../types.ts";

export const SourceLines = ({ source, operation }: { source: SourceRecord; operation: Explanation["operation"] }) => {
  const lines = source.context.length > 0 ? source.context : [source.text];
  const first = source.context.length > 0 ? source.first : source.line;
  return (
    <section>
      <h3>{t("computed_by")}</h3>
      <figure class="code">
        <pre tabIndex={0} aria-label={t("code_label", { file: source.file, line: source.line })}>
          {lines.map((line, i) =>
            first + i === source.line ? (
              <mark key={i}>
                <span class="line-number">{first + i}</span>
                {line || " "}
                {"\n"}
              </mark>
            ) : (
              <span key={i}>
                <span class="line-number">{first + i}</span>
                {line}
                {"\n"}
              </span>
            ),
          )}
        </pre>
        <figcaption>
          <code>
            {source.file}:{source.line}
          </code>{" "}
          · <code>{source.function}</code>
          {operation && (
            <>
              {" "}
              · <code>{operation.name}</code>
              {operation.module && (
                <>
                  {" "}
                  {t("in_module")} <code>{operation.module}</code>
                </>
              )}
            </>
          )}
        </figcaption>
      </figure>
    </section>
  );
};
