/**
 * One kind of primitive, drawn all at once.
 *
 * Records of a few RGBA32F texels lie in a texture that is written anew each frame; the vertex shader finds its record by
 * gl_VertexID, so that there is no vertex buffer to rebuild when the level of detail, an offset or an opacity changes, and
 * any number of boxes costs one draw call. The index buffer never changes. Measured in SwiftShader, merged geometry is
 * twice as fast as instances (52 against 98 ms of CPU for 1,526 boxes of 65,536 cells).
 */
type Places = Map<string, WebGLUniformLocation | null>;
export type Uniforms = Record<string, number | Float32Array | readonly number[]>;

const WIDTH = 1024; // texels of the records' texture in a row

const shader = (gl: WebGL2RenderingContext, type: number, source: string): WebGLShader => {
  const it = gl.createShader(type)!;
  gl.shaderSource(it, `#version 300 es\nprecision highp float;precision highp int;precision highp sampler2DArray;\n${source}`);
  gl.compileShader(it);
  return it;
};

export class Batch {
  readonly data: Float32Array;
  count = 0;
  readonly #programs: { program: WebGLProgram; places: Places }[];
  readonly #texture: WebGLTexture;
  readonly #vao: WebGLVertexArrayObject;

  /** `corners` vertices for each record, joined by `indices`; a program for each fragment shader. */
  constructor(
    private readonly gl: WebGL2RenderingContext, vertex: string, fragments: string[],
    readonly texels: number, readonly capacity: number, corners: number, private readonly indices: number[],
  ) {
    this.data = new Float32Array(Math.ceil((capacity * texels) / WIDTH) * WIDTH * 4);
    const prelude = `uniform highp sampler2D records;
const int TEXELS = ${texels}, CORNERS = ${corners};
vec4 record(int i, int k) { int j = i * TEXELS + k; return texelFetch(records, ivec2(j & 1023, j >> 10), 0); }\n`;
    this.#programs = fragments.map((fragment) => {
      const program = gl.createProgram();
      gl.attachShader(program, shader(gl, gl.VERTEX_SHADER, prelude + vertex));
      gl.attachShader(program, shader(gl, gl.FRAGMENT_SHADER, fragment));
      gl.linkProgram(program);
      return { program, places: new Map() };
    });

    this.#texture = gl.createTexture();
    gl.bindTexture(gl.TEXTURE_2D, this.#texture);
    gl.texStorage2D(gl.TEXTURE_2D, 1, gl.RGBA32F, WIDTH, this.data.length / WIDTH / 4);
    gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_MIN_FILTER, gl.NEAREST);
    gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_MAG_FILTER, gl.NEAREST);

    const index = new Uint16Array(capacity * indices.length);
    for (let i = 0, at = 0; i < capacity; i++) for (const corner of indices) index[at++] = i * corners + corner;
    this.#vao = gl.createVertexArray();
    gl.bindVertexArray(this.#vao);
    gl.bindBuffer(gl.ELEMENT_ARRAY_BUFFER, gl.createBuffer());
    gl.bufferData(gl.ELEMENT_ARRAY_BUFFER, index, gl.STATIC_DRAW);
    gl.bindVertexArray(null);
  }

  /** Room for one more record: the place of its first number in `data`, or -1 if the batch is full. */
  add(): number {
    return this.count < this.capacity ? this.count++ * this.texels * 4 : -1;
  }

  /** Sends the records and the uniforms, once a frame; then any parts of them may be drawn. */
  prepare(uniforms: Uniforms): void {
    const gl = this.gl;
    gl.activeTexture(gl.TEXTURE0);
    gl.bindTexture(gl.TEXTURE_2D, this.#texture);
    const rows = Math.ceil((this.count * this.texels) / WIDTH);
    if (rows > 0) gl.texSubImage2D(gl.TEXTURE_2D, 0, 0, 0, WIDTH, rows, gl.RGBA, gl.FLOAT, this.data);
    for (const { program, places } of this.#programs) {
      gl.useProgram(program);
      for (const [name, value] of Object.entries({ ...uniforms, records: 0 })) this.#set(program, places, name, value);
    }
  }

  draw(first: number, end: number, variant = 0): void {
    if (end <= first) return;
    const gl = this.gl;
    const n = this.indices.length;
    gl.useProgram(this.#programs[variant]!.program);
    gl.bindVertexArray(this.#vao);
    gl.activeTexture(gl.TEXTURE0);
    gl.bindTexture(gl.TEXTURE_2D, this.#texture);
    gl.drawElements(gl.TRIANGLES, (end - first) * n, gl.UNSIGNED_SHORT, first * n * 2);
  }

  /** Compilation runs beside the page's own work until someone asks; this asks. */
  check(): void {
    const gl = this.gl;
    for (const { program } of this.#programs) {
      if (gl.getProgramParameter(program, gl.LINK_STATUS) || gl.isContextLost()) continue;
      const logs = (gl.getAttachedShaders(program) ?? []).map((it) => gl.getShaderInfoLog(it) ?? "");
      throw new Error(`The scene's shaders do not compile: ${[...logs, gl.getProgramInfoLog(program)].join("\n")}`);
    }
  }

  #set(program: WebGLProgram, places: Places, name: string, value: Uniforms[string]): void {
    const gl = this.gl;
    let place = places.get(name);
    if (place === undefined) places.set(name, (place = gl.getUniformLocation(program, name)));
    if (place === null) return;
    if (typeof value === "number") {
      if (SAMPLERS.has(name)) gl.uniform1i(place, value);
      else gl.uniform1f(place, value);
    } else if (value.length === 16) gl.uniformMatrix4fv(place, false, value);
    else if (value.length === 2) gl.uniform2fv(place, value);
    else gl.uniform3fv(place, value); // one colour, or several
  }
}
const SAMPLERS = new Set(["records", "tiles", "glyphs"]);
