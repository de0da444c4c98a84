/** Numbers, tokens and names as people read them. Rounding is for the eye only: the full number is one click away. */

import type { Token } from "../types.ts";

const SUPERSCRIPT = "⁰¹²³⁴⁵⁶⁷⁸⁹";
const WORDS: Record<string, string> = { nan: "NaN", inf: "∞", "-inf": "−∞" };

/** Four significant digits with a true minus sign; very large and small ones as 1.255×10⁻⁵. */
export const short = (value: number | string, digits = 4): string => {
  if (typeof value === "string") return WORDS[value] ?? value;
  if (Number.isNaN(value)) return "NaN";
  if (!Number.isFinite(value)) return value < 0 ? "−∞" : "∞";
  const size = Math.abs(value);
  if (Number.isInteger(value) && size < 1e6) return String(value).replace("-", "−");
  if (size !== 0 && (size < 1e-4 || size >= 1e6)) {
    const [mantissa = "0", exponent = "0"] = value.toExponential(digits - 1).split("e");
    const raised = String(Math.abs(Number(exponent))).replace(/\d/g, (digit) => SUPERSCRIPT[Number(digit)] ?? "");
    return `${mantissa.replace("-", "−")}×10${Number(exponent) < 0 ? "⁻" : ""}${raised}`;
  }
  return value.toPrecision(digits).replace("-", "−");
};

/** The shortest decimal that is this very number in its dtype, as Python would print it. */
export const exact = (value: number | string, dtype: string): string => {
  if (typeof value === "string") return WORDS[value] ?? value;
  if (dtype !== "float32" || !Number.isFinite(value)) return String(value);
  for (let digits = 1; digits <= 9; digits++) {
    const text = value.toPrecision(digits);
    if (Math.fround(Number(text)) === value) return String(Number(text));
  }
  return String(value);
};

/** 85,728 */
export const grouped = (count: number): string => count.toLocaleString("en-US");

/** A share for narrow places: "99.8 %", "3.42 %", "< 0.01 %"; none is rounded to nothing or to all. */
export const share = (part: number): string => {
  if (part > 0 && part < 0.0001) return "< 0.01 %";
  if (part < 1 && part > 0.9999) return "> 99.99 %";
  return `${(part * 100).toFixed(part < 0.0995 || part > 0.9995 ? 2 : 1)} %`;
};

/** A token as text, with spaces and line ends made visible; its id where the model has no tokenizer. */
export const tokenText = (token: Token): string => (token.bytes === "" ? `#${token.id}` : visible(token.text));

export const visible = (text: string): string =>
  text.replace(/^ | $/g, "␣").replace(/\n/g, "⏎").replace(/\t/g, "⇥");

/** Bytes in hexadecimal as their text where they are whole characters, else as ⟨E4 BD⟩. */
export const pieceText = (hex: string): string => {
  const bytes = Uint8Array.from(hex.match(/../g) ?? [], (pair) => parseInt(pair, 16));
  try {
    return visible(new TextDecoder("utf-8", { fatal: true }).decode(bytes));
  } catch {
    return bytesText(hex);
  }
};

const bytesText = (hex: string): string => `⟨${(hex.match(/../g) ?? []).join(" ").toUpperCase()}⟩`;

/** "blocks.0.attn.scores[0,1,5,2]"; a number without axes has no brackets. */
export const cellName = (cell: { name: string; index: number[] }): string =>
  cell.index.length > 0 ? `${cell.name}[${cell.index.join(",")}]` : cell.name;
