/** MathML of an explanation, rebuilt element by element: names come from traces of strangers, so only formulas pass. */

import { h, type ComponentChild } from "preact";
import { useMemo } from "preact/hooks";
import { briefly } from "./cell-name.tsx";

const ELEMENTS = new Set([
  "math",
  "mrow",
  "mi",
  "mo",
  "mn",
  "ms",
  "mtext",
  "mspace",
  "mfrac",
  "msqrt",
  "mroot",
  "msub",
  "msup",
  "msubsup",
  "munder",
  "mover",
  "munderover",
  "mtable",
  "mtr",
  "mtd",
  "mstyle",
  "mpadded",
  "semantics",
]);
const ATTRIBUTES = [
  "display",
  "displaystyle",
  "mathvariant",
  "stretchy",
  "width",
  "lspace",
  "rspace",
  "columnalign",
  "fence",
  "separator",
  "linethickness",
  "scriptlevel",
];

const rebuild = (node: Node, key: number): ComponentChild => {
  if (node.nodeType === Node.TEXT_NODE) return briefly(node.textContent ?? "");
  if (!(node instanceof Element) || !ELEMENTS.has(node.localName)) return null;
  const attributes: Record<string, string | number> = { key };
  for (const name of ATTRIBUTES) {
    const value = node.getAttribute(name);
    if (value !== null) attributes[name] = value;
  }
  return h(node.localName, attributes, ...Array.from(node.childNodes, rebuild));
};

export const Formula = ({ mathml, text, scrolls = false }: { mathml: string; text: string; scrolls?: boolean }) => {
  const built = useMemo(() => {
    const parsed = new DOMParser().parseFromString(mathml, "text/html").body.firstElementChild;
    return parsed?.localName === "math" ? rebuild(parsed, 0) : text;
  }, [mathml, text]);
  return (
    <div class="formula" title={text} tabIndex={scrolls ? 0 : undefined}>
      {built}
    </div>
  );
};
