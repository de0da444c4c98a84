/** The way of the camera from one pose to another: out, across and in (van Wijk and Nuij 2003), so that nothing rushes by. */
import type { CameraPose, Vec3 } from "../types.ts";

const RHO = 1.2; // how far out it goes: a larger number flies higher

/** t from 0 to 1 at a constant perceived speed; whoever plays it eases t. */
export const between = (a: CameraPose, b: CameraPose, t: number): CameraPose => {
  if (t <= 0) return a;
  if (t >= 1) return b;
  const way = Math.hypot(...([0, 1, 2] as const).map((i) => b.center[i] - a.center[i]));
  const [along, distance] = travel(a.distance, b.distance, way, t);
  const turn = ((((b.azimuth - a.azimuth) % 360) + 540) % 360) - 180; // the short way round
  return {
    center: [0, 1, 2].map((i) => a.center[i as 0] + (b.center[i as 0] - a.center[i as 0]) * along) as Vec3,
    azimuth: a.azimuth + turn * t,
    elevation: a.elevation + (b.elevation - a.elevation) * t,
    distance,
  };
};

/** The part of the way that lies behind, and the distance, after the part t of the path. */
const travel = (from: number, to: number, way: number, t: number): [number, number] => {
  if (way < 1e-3 * Math.max(from, to)) return [t, from * (to / from) ** t];
  const rho2 = RHO * RHO;
  const r = (w: number, sign: number): number => {
    const b = (to * to - from * from + sign * rho2 * rho2 * way * way) / (2 * w * rho2 * way);
    return Math.log(-b + Math.sqrt(b * b + 1));
  };
  const r0 = r(from, 1);
  const s = ((r(to, -1) - r0) / RHO) * t;
  const along = (from / rho2) * (Math.cosh(r0) * Math.tanh(RHO * s + r0) - Math.sinh(r0));
  return [along / way, (from * Math.cosh(r0)) / Math.cosh(RHO * s + r0)];
};
