/** How a number is printed: digit for digit as Python does it. */
import type { Values } from "./values.ts";

const MINUS = "−";

/** A number in four digits, with a real minus sign. */
export function shorten(value: Values): string {
  const re = value.re[0]!;
  const four = (x: number) => general(x, 4).replaceAll("-", MINUS);
  if (value.im !== null) return `${four(re)} + ${four(value.im[0]!)}i`;
  if (value.kind === "bool") return re ? "true" : "false";
  return value.kind === "int" ? whole(re).replaceAll("-", MINUS) : four(re);
}

/** Python's `{:.4g}`: so many digits, zeros at the end left out, an exponent where it is shorter. */
export function general(x: number, digits: number): string {
  if (!Number.isFinite(x)) return String(finite(x));
  if (x === 0) return Object.is(x, -0) ? "-0" : "0";
  const [mantissa, power] = halfEven(x, digits).split("e") as [string, string];
  const exponent = Number(power);
  if (exponent < -4 || exponent >= digits) return stripped(mantissa) + exponential(exponent);
  return stripped(Number(`${mantissa}e${power}`).toFixed(Math.max(digits - 1 - exponent, 0)));
}

/** x in scientific notation. A tie is rounded to the even digit, where JavaScript takes the larger one. */
function halfEven(x: number, digits: number): string {
  const rounded = x.toExponential(digits - 1);
  const [exact] = x.toExponential(60).split("e") as [string];
  const tie = /^50*$/.test(exact.replace(/[-.]/g, "").slice(digits));
  if (!tie || Number(rounded.split("e")[0]!.at(-1)) % 2 === 0) return rounded;
  const [kept, power] = x.toExponential(60).split("e") as [string, string];
  return `${kept.slice(0, kept.indexOf(".") + digits)}e${power}`;
}

const stripped = (text: string): string => (text.includes(".") ? text.replace(/\.?0+$/, "") : text);
const exponential = (power: number): string =>
  `e${power < 0 ? "-" : "+"}${String(Math.abs(power)).padStart(2, "0")}`;

/** Python's repr of a float: the shortest digits that lead back to it. */
export function repr(x: number): string {
  if (!Number.isFinite(x)) return String(finite(x));
  if (x === 0) return Object.is(x, -0) ? "-0.0" : "0.0";
  const [mantissa, power] = x.toExponential().split("e") as [string, string];
  const exponent = Number(power);
  if (exponent < -4 || exponent >= 16) return mantissa + exponential(exponent);
  const [sign, digits] = [x < 0 ? "-" : "", mantissa.replace(/[-.]/g, "")];
  if (exponent < 0) return `${sign}0.${"0".repeat(-exponent - 1)}${digits}`;
  const padded = digits.padEnd(exponent + 1, "0");
  return `${sign}${padded.slice(0, exponent + 1)}.${padded.slice(exponent + 1) || "0"}`;
}

/** A whole number with all its digits. */
export const whole = (x: number): string => (Number.isFinite(x) ? BigInt(x).toString() : String(finite(x)));

/** A number as JSON has it: truth as 0 or 1, "nan", "inf" and "-inf", and "1+2i" for complex ones. */
export function plain(value: Values): number | string {
  const re = value.re[0]!;
  if (value.im === null) return finite(re);
  const [a, b] = [re, value.im[0]!].map((part) => repr(part).replace(/\.0$/, "")) as [string, string];
  return `${a}${b.startsWith("-") ? "" : "+"}${b}i`;
}

export const finite = (x: number): number | string =>
  Number.isFinite(x) ? x : Number.isNaN(x) ? "nan" : x > 0 ? "inf" : "-inf";
