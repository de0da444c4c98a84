/**
 * Words on the screen: glyphs of any script, drawn by Canvas 2D with the system's fonts when they are first needed, and
 * kept in an atlas. Red is the glyph, green a wider one behind it that keeps it legible on cells.
 */
import type { Batch } from "./batch.ts";

const SIDE = 1024;
const SIZES = [9, 10, 11, 12, 13, 15, 18, 22, 28, 40]; // css px that glyphs are drawn at; others are scaled down to
const FONT = 'system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", "DejaVu Sans", "Noto Sans CJK SC", "PingFang SC", "Microsoft YaHei", sans-serif';
const JOINED = /[\u0590-\u08ff\u0900-\u0dff\u0e00-\u109f\u1780-\u17ff]/; // scripts whose letters change beside each other

interface Glyph { u: number; v: number; w: number; h: number; advance: number /* whole, so that words are spaced evenly */; left: number; top: number } // device px
export interface Style { size: number; bold?: boolean; color: readonly number[]; alpha?: number; halo?: number; turn?: number }

const sizeFor = (size: number): number => SIZES.find((it) => it >= size) ?? SIZES.at(-1)!;
const split = new Intl.Segmenter();
const pieces = (text: string): string[] =>
  JOINED.test(text) ? [text] : /^[\x20-\x7e]*$/.test(text) ? [...text] : Array.from(split.segment(text), (it) => it.segment);

export class Glyphs {
  readonly #texture: WebGLTexture;
  readonly #pen: CanvasRenderingContext2D;
  readonly #glyphs = new Map<string, Glyph>();
  readonly #widths = new Map<string, number>();
  #row = { x: 0, y: 0, height: 0 };
  #dirty: [number, number] | null = null;

  constructor(private readonly gl: WebGL2RenderingContext, readonly batch: Batch, readonly pixel: number) {
    const canvas = document.createElement("canvas");
    canvas.width = canvas.height = SIDE * (pixel > 1 ? 2 : 1);
    this.#pen = canvas.getContext("2d", { willReadFrequently: true })!;
    this.#pen.textBaseline = "alphabetic";
    this.#pen.globalCompositeOperation = "lighter";
    this.#pen.lineJoin = "round";
    this.#texture = gl.createTexture();
    this.bind();
    gl.texStorage2D(gl.TEXTURE_2D, 1, gl.RGBA8, canvas.width, canvas.height);
    gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_MIN_FILTER, gl.LINEAR);
    gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_MAG_FILTER, gl.LINEAR);
  }

  /** The same for another number of device pixels per css px, as after a zoom: all glyphs are drawn anew. */
  remade(pixel: number): Glyphs {
    this.gl.deleteTexture(this.#texture);
    return new Glyphs(this.gl, this.batch, pixel);
  }

  bind(): void {
    this.gl.activeTexture(this.gl.TEXTURE2);
    this.gl.bindTexture(this.gl.TEXTURE_2D, this.#texture);
  }

  /** How wide a text will be, in css px. */
  width(text: string, size: number, bold = false): number {
    const px = sizeFor(size);
    const key = `${bold ? "b" : ""}${px}${text}`;
    let wide = this.#widths.get(key);
    if (wide === undefined) {
      if (this.#widths.size > 20000) this.#widths.clear();
      wide = pieces(text).reduce((sum, piece) => sum + this.#glyph(piece, px, bold).advance, 0) / px / this.pixel;
      this.#widths.set(key, wide);
    }
    return wide * size;
  }

  /** Writes text whose baseline begins at (x, y) in css px. */
  write(text: string, x: number, y: number, style: Style): void {
    const px = sizeFor(style.size);
    const scale = style.size / px;
    const turn = ((style.turn ?? 0) * Math.PI) / 180;
    const [c, s] = [Math.cos(turn), Math.sin(turn)];
    const snap = scale === 1 && turn === 0 ? Math.round : (v: number): number => v;
    const side = this.#pen.canvas.width;
    let pen = 0;
    for (const piece of pieces(text)) {
      const glyph = this.#glyph(piece, px, style.bold ?? false);
      if (glyph.w > 0) {
        const at = this.batch.add();
        if (at < 0) return;
        const [dx, dy] = [pen + glyph.left * scale, glyph.top * scale];
        const { u, v, w, h } = glyph;
        this.batch.data.set([
          snap(x * this.pixel + dx * c - dy * s), snap(y * this.pixel + dx * s + dy * c), w * scale, h * scale,
          u / side, v / side, (u + w) / side, (v + h) / side, style.color[0]!, style.color[1]!, style.color[2]!, style.alpha ?? 1,
          c, s, style.halo ?? 0.85,
        ], at);
      }
      pen += glyph.advance * scale;
    }
  }

  /** Sends what was drawn since the last frame. */
  upload(): void {
    if (this.#dirty === null) return;
    const [top, bottom] = this.#dirty;
    this.#dirty = null;
    const gl = this.gl;
    const image = this.#pen.getImageData(0, top, SIDE * (this.pixel > 1 ? 2 : 1), bottom - top);
    this.bind();
    gl.texSubImage2D(gl.TEXTURE_2D, 0, 0, top, image.width, image.height, gl.RGBA, gl.UNSIGNED_BYTE, image.data);
  }

  #glyph(text: string, size: number, bold: boolean): Glyph {
    const key = `${bold ? "b" : ""}${size}${text}`;
    return this.#glyphs.get(key) ?? this.#make(key, text, size * this.pixel, bold);
  }

  #make(key: string, text: string, px: number, bold: boolean): Glyph {
    const pen = this.#pen;
    const side = pen.canvas.width;
    pen.font = `${bold ? 600 : 400} ${px}px ${FONT}`;
    const m = pen.measureText(text);
    const pad = Math.ceil(px * 0.14) + 1;
    const [left, top] = [Math.floor(-m.actualBoundingBoxLeft) - pad, Math.floor(-m.actualBoundingBoxAscent) - pad];
    const w = Math.min(side, Math.ceil(m.actualBoundingBoxRight) + pad - left);
    const h = Math.ceil(m.actualBoundingBoxDescent) + pad - top;
    if (this.#row.x + w > side) this.#row = { x: 0, y: this.#row.y + this.#row.height, height: 0 };
    if (this.#row.y + h > side) { // full: begin anew; what this frame still needs is drawn again in the next
      this.#glyphs.clear();
      pen.clearRect(0, 0, side, side);
      this.#row = { x: 0, y: 0, height: 0 };
    }
    const { x: u, y: v } = this.#row;
    this.#row.x += w;
    this.#row.height = Math.max(this.#row.height, h);
    pen.lineWidth = px * 0.26;
    pen.strokeStyle = "#0f0";
    pen.strokeText(text, u - left, v - top);
    pen.fillStyle = "#f00";
    pen.fillText(text, u - left, v - top);
    this.#dirty = [Math.min(this.#dirty?.[0] ?? v, v), Math.max(this.#dirty?.[1] ?? 0, v + h)];
    const glyph = { u, v, w: text.trim() === "" ? 0 : w, h, advance: Math.round(m.width), left, top };
    this.#glyphs.set(key, glyph);
    return glyph;
  }
}
