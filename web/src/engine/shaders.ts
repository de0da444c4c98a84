/**
 * The shaders: cells on boxes, curves, glows, words. Distances in them are device pixels unless they say otherwise, and
 * every derivative is guarded: on a face seen along its edge fwidth is 0, and 1/0 turns a whole picture grey.
 */

/** A box: pos, opacity | size, tone | texel of cell 0, 1/cells per texel, layer | last texel, flags | its cells' origin, the block's size. */
export const BOX_VERTEX = `
uniform mat4 matrix;
out vec2 q; // cells from the box's corner
flat out vec4 where_, place; flat out vec3 face, plus, minus, ink; flat out vec2 last; flat out float opacity, shade; flat out int flags;
uniform vec3 tones[24]; // face, plus, minus, ink of each role
void main() {
  int i = gl_VertexID / CORNERS, k = gl_VertexID - i * CORNERS, axis = k >> 2, c = k & 3;
  vec4 a = record(i, 0), b = record(i, 1), d = record(i, 3);
  vec3 far_ = step(a.xyz + b.xyz, vec3(0)); // the eye is at 0: of each pair of faces only one can be seen
  vec3 corner = axis == 0 ? vec3(far_.x, c & 1, c >> 1) : axis == 1 ? vec3(c & 1, far_.y, c >> 1) : vec3(c & 1, c >> 1, far_.z);
  vec2 n = b.xy;
  q = corner.xy * n;
  if (axis == 0) q.x = clamp(q.x, .5, n.x - .5);
  if (axis == 1) q.y = clamp(q.y, .5, n.y - .5);
  where_ = record(i, 2); last = d.xy; place = record(i, 4);
  opacity = a.w; flags = int(d.z);
  int tone = int(b.w);
  face = tones[tone]; plus = tones[tone + 1]; minus = tones[tone + 2]; ink = tones[tone + 3];
  shade = axis == 0 ? .5 : axis == 1 ? .25 : 0.;
  gl_Position = matrix * vec4(a.xyz + corner * b.xyz, 1);
}`;

/**
 * Three variants, since straight code is what a processor draws fastest and each part of it costs a fifth: cells too small
 * for a glyph, cells with discs and rings, and boxes in which some number is none or that have no numbers.
 */
export const BOX_FRAGMENTS = ["", "#define GLYPHS", "#define GLYPHS\n#define ODD"].map((define) => `${define}
in vec2 q;
flat in vec4 where_, place; flat in vec3 face, plus, minus, ink; flat in vec2 last; flat in float opacity, shade; flat in int flags;
uniform sampler2DArray tiles;
uniform vec3 paper;
uniform float pixel, numbers; // device pixels per css pixel; from so many css pixels per cell on, numbers are printed
out vec4 color;
const int MASKED = 1, HATCHED = 2, GHOST = 4;
float line(float d, float w) { return clamp(w + .5 - d, 0., 1.); }
float ramp(float a, float b, float x) { return clamp((x - a) / (b - a), 0., 1.); }
void main() {
  vec2 fw = max(fwidth(q), vec2(1e-4)), at = q + place.xy;
  float p = 1. / max(fw.x, fw.y), css = p / pixel; // pixels per cell
  vec2 texel = clamp(where_.xy + q * where_.z, where_.xy, last);
  vec2 s = texelFetch(tiles, ivec3(texel, max(where_.w, 0.)), 0).rg; // the number and its size, or mean and rms of a patch
  uint bits = floatBitsToUint(s.r);
  bool known = where_.w >= 0., cell = where_.z >= 1., negative = (bits >> 31) == 1u;
  bool finite = (bits & 0x7f800000u) != 0x7f800000u, nan = (bits & 0x007fffffu) != 0u, masked = negative && (flags & MASKED) != 0;
  float m = known && finite ? clamp(s.g, 0., 1.) : 0., root = sqrt(m), full = mix(root, m, .5);
  float minor = cell ? (negative ? ramp(2., 5.5, css) : 0.) : ramp(.4, .95, -s.r / max(s.g, 1e-9));
  vec3 hue = mix(plus, minus, minor);
  vec3 c = mix(face, hue, .92 * full);

#ifdef GLYPHS
  vec2 f = fract(q) - .5; // a disc or a ring on a board
  float r = length(f) * p, R = (.07 + .36 * root) * p, words = ramp(.9, 1.05, css / numbers);
  float disc = clamp(line(r, R) - (negative ? line(r, R * .52) : 0.), 0., 1.) * (1. - .58 * words);
  vec2 board = floor(at);
  vec3 ground = mix(mix(face, c, .22 + .1 * words), paper, fract((board.x + board.y) * .5) * .56);
  c = mix(c, mix(ground, mix(face, hue, .3 + .7 * full), disc), cell && shade == 0. ? ramp(5., 9., css) : 0.);

#ifdef ODD
  float y = negative ? -f.y : f.y; // a triangle that points up or down, a dot, or hatched
  vec2 hatch = abs(fract((q.x + q.y) * vec2(css < 6. ? .25 : 2.5, min(.2, p * .02))) - .5) * 10. - 2.;
  float odd = nan ? .25 + .6 * clamp(hatch.x, 0., 1.) : masked ? .6 * line(r, max(.07 * p, 1.)) : line(max(abs(f.x) * 2. - y, y) * p * .5, .16 * p);
  vec3 mark = masked ? ink : negative || nan ? minus : plus;
  c = finite ? c : mix(face, mark, css < 6. && !nan ? (masked ? 0. : 1.) : odd);
  c = known ? c : mix(face, ink, (flags & HATCHED) != 0 ? .22 * clamp(hatch.y, 0., 1.) : 0.);
#endif
#endif

  float every = p > .6 ? 16. : 256.; // rules; those every 256 cells are darker
  vec2 near = floor(at / every + .5), d = abs(at - near * every) / fw;
  bool across = d.x < d.y;
  float major = fract((across ? near.x : near.y) * every / 256.) == 0. ? 1. : 0.;
  c = mix(c, mix(paper, ink, major), line(across ? d.x : d.y, .5) * ramp(12., 44., every * p) * .75);

  vec2 e = min(at, place.zw - at) / fw, whole = place.zw / fw; // pixels to the block's border
  c = mix(c, ink, line(shade == 0. ? min(e.x, e.y) : shade == .5 ? e.y : e.x, .6) * .75 * ramp(3., 14., min(whole.x, whole.y)));
  bool ghost = (flags & GHOST) != 0;
  c = ghost ? mix(face, ink, .15) : mix(c, ink, shade * .45);
  color = vec4(c, ghost ? opacity * .35 : opacity);
}`);

/** A cubic curve: p0, width | c0, 1 if the width is in cells | c1, head | p1 | colour. Positions relative to the eye. */
export const CURVE_SEGMENTS = 12;
export const CURVE_VERTEX = `
uniform mat4 matrix; uniform vec2 size; uniform float focal, pixel;
flat out vec4 tint; out vec2 edge; // across, half the width
vec3 bezier(vec3 a, vec3 b, vec3 c, vec3 d, float t) { float u = 1. - t; return u*u*u*a + 3.*u*u*t*b + 3.*u*t*t*c + t*t*t*d; }
vec2 screen(vec4 v) { return v.xy / max(v.w, 1e-3) * size * .5; }
void main() {
  int i = gl_VertexID / CORNERS, k = gl_VertexID - i * CORNERS, pair = k >> 1;
  vec4 a = record(i, 0), b = record(i, 1), c = record(i, 2), d = record(i, 3);
  float side = float(k & 1) * 2. - 1.;
  float reach = max(length(screen(matrix * vec4(d.xyz, 1)) - screen(matrix * vec4(a.xyz, 1))), 1.);
  float body = c.w > 0. ? max(0.3, 1. - c.w * pixel / reach) : 1.;
  float t = pair <= ${CURVE_SEGMENTS} ? float(pair) / ${CURVE_SEGMENTS}. * body : pair == ${CURVE_SEGMENTS + 1} ? body : 1.;
  vec4 v = matrix * vec4(bezier(a.xyz, b.xyz, c.xyz, d.xyz, t), 1);
  vec2 before = screen(matrix * vec4(bezier(a.xyz, b.xyz, c.xyz, d.xyz, t - .02), 1));
  vec2 after = screen(matrix * vec4(bezier(a.xyz, b.xyz, c.xyz, d.xyz, t + .02), 1));
  vec2 along = after - before; along = along / max(length(along), 1e-4);
  float half_ = .5 * (b.w > 0. ? a.w * focal / max(v.w, 1e-3) : a.w * pixel);
  float wide = pair <= ${CURVE_SEGMENTS} ? half_ : pair == ${CURVE_SEGMENTS + 1} ? (c.w > 0. ? c.w * .42 * pixel : half_) : 0.;
  edge = vec2(side * (wide + 1.), wide);
  v.xy += vec2(-along.y, along.x) * side * (wide + 1.) * 2. / size * v.w;
  v.z -= 4e-5 * v.w;
  tint = record(i, 4);
  gl_Position = v;
}`;
export const CURVE_FRAGMENT = `
flat in vec4 tint; in vec2 edge;
out vec4 color;
void main() {
  float a = clamp(edge.y - abs(edge.x) + .5, 0., 1.) * clamp(edge.y * 2., 0., 1.);
  color = vec4(tint.rgb, tint.a * a);
}`;

/** A glow: corner, strength | width, height, z of the front face | colour. */
export const GLOW_VERTEX = `
uniform mat4 matrix; uniform float focal, pixel;
out vec2 at; flat out vec2 half_; flat out vec4 tint;
void main() {
  int i = gl_VertexID / CORNERS, k = gl_VertexID - i * CORNERS;
  vec4 a = record(i, 0), b = record(i, 1);
  vec2 side = vec2(k & 1, k >> 1) * 2. - 1.;
  vec3 middle = a.xyz + vec3(b.xy * .5, 0);
  float cell = focal / max((matrix * vec4(middle, 1)).w, 1e-3); // pixels per cell
  half_ = b.xy * .5 * cell;
  at = side * (half_ + 10. * pixel);
  vec4 v = matrix * vec4(middle + vec3(at / cell, .02), 1);
  v.z -= 8e-5 * v.w;
  gl_Position = v;
  tint = vec4(record(i, 2).rgb, a.w);
}`;
export const GLOW_FRAGMENT = `
in vec2 at; flat in vec2 half_; flat in vec4 tint;
uniform float pixel, through; // through: how much of it shows before and behind everything
out vec4 color;
void main() {
  vec2 d = abs(at) - half_;
  float e = (length(max(d, 0.)) + min(max(d.x, d.y), 0.)) / pixel;
  float frame = clamp(1.7 - abs(e), 0., 1.);
  float halo = e > 0. ? .55 * exp(-e * .35) * smoothstep(10., 7., e) : .16;
  color = vec4(tint.rgb, clamp(max(frame, halo), 0., 1.) * tint.a * through);
}`;

/** A glyph: x, y, width, height | its place in the atlas | colour | cosine, sine of its turn, halo. */
export const GLYPH_VERTEX = `
uniform vec2 size;
out vec2 uv; flat out vec4 tint; flat out float halo;
void main() {
  int i = gl_VertexID / CORNERS, k = gl_VertexID - i * CORNERS;
  vec4 a = record(i, 0), b = record(i, 1), d = record(i, 3);
  vec2 f = vec2(k & 1, k >> 1), o = f * a.zw;
  vec2 at = a.xy + vec2(o.x * d.x - o.y * d.y, o.x * d.y + o.y * d.x);
  uv = mix(b.xy, b.zw, f);
  tint = record(i, 2); halo = d.z;
  gl_Position = vec4(at / size * vec2(2, -2) + vec2(-1, 1), 0, 1);
}`;
export const GLYPH_FRAGMENT = `
in vec2 uv; flat in vec4 tint; flat in float halo;
uniform sampler2D glyphs; uniform vec3 behind;
out vec4 color;
void main() {
  vec2 s = texture(glyphs, uv).rg; // the glyph, and a wider one that keeps it legible on cells
  float a = max(s.r, s.g * halo);
  color = vec4(mix(behind, tint.rgb, s.r / max(a, 1e-3)), a * tint.a);
}`;
