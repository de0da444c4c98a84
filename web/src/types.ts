/**
 * What the page is given, and what its parts tell each other.
 *
 * A *trace* has numbers and how they came about (docs/trace-format.md). A *scene* says where they stand in space: every
 * block is a window into one storage of the trace, so that attention heads cut out of one matrix, tied weights and
 * transposed views cost nothing, and a cell that is pointed at leads to the very bytes that the model computed with.
 *
 * World: x to the right (positions in the text), y *down* the network, z towards the viewer. A cell is 1 × 1 × 1.
 */

// ---- the trace, as docs/trace-format.md has it; a storage's bytes are found by `blob` instead of by file and offset

export type Kind = "weight" | "buffer" | "input" | "constant" | "computed" | "gradient";

export interface StorageRecord {
  blob: string; // the name of its bytes; equal bytes have equal names, so that weights are there once for all steps
  nbytes: number;
  written_by: number | null;
  previous: number | null;
}

export interface TensorRecord {
  storage: number;
  dtype: string;
  shape: number[];
  strides: number[];
  offset: number;
  kind: Kind;
  name: string;
  axes: string[];
  made_by: number | null;
  derived: boolean;
}

/** An argument: JSON's own values, and objects with one key for tensors and for numbers that JSON lacks. */
export type Argument =
  | null | boolean | number | string | Argument[]
  | { tensor: number } | { float: "inf" | "-inf" | "nan" } | { complex: [Argument, Argument] };

export interface OperationRecord {
  number: number;
  name: string; // ATen's, such as "add.Tensor"
  arguments: Record<string, Argument>;
  outputs: number[];
  module: string;
  source: number;
  writes: boolean;
}

export interface SourceRecord {
  file: string;
  line: number;
  text: string;
  function: string;
  first: number; // the line number of context[0]
  context: string[]; // the line with up to three lines before and after it; empty where the file is not at hand
}

export interface TraceRecords {
  storages: StorageRecord[];
  tensors: TensorRecord[];
  operations: OperationRecord[];
  sources: SourceRecord[];
  modules: { path: string; class: string }[];
  names: Record<string, number[]>;
}

// ---- the scene

export type Vec3 = [number, number, number];
export interface Text { en: string; zh: string }

export interface Token { id: number; text: string; bytes: string } // bytes in hexadecimal

export interface Group {
  id: number;
  parent: number | null;
  path: string; // of the module, "" for the model; heads are groups of their own: "blocks.0.attn.head.2"
  role: string; // "model" "embedding" "layer" "attention" "head" "norm" "mlp" "output" "module"
  index: number | null; // which layer, which head
  label: Text;
  min: Vec3;
  max: Vec3;
}

export interface Block {
  id: number; // its place in Scene.blocks
  group: number;
  name: string; // as trace[...] knows it, for a slice followed by its index: "blocks.0.attn.scores[0,1]"
  role: string; // the stable word that chapters use: docs/viewer.md lists them
  kind: Kind;
  label: Text;
  tensor: number; // -1 where there are no numbers: a model of which only the shapes are known
  storage: number;
  dtype: string;
  offset: number; // the element of the storage that is cell (0, 0)
  strides: [number, number]; // elements from one cell to the next along x and along y
  size: [number, number]; // cells along x and y
  start?: [number, number]; // which cell of its axes cell (0, 0) is, where a long axis is cut into panels; else 0
  axes: [string, string]; // the letter of docs/notation.md along x and y, "" where none is known
  pos: Vec3; // the corner with the smallest x, y and z
  layer: number | null;
  head: number | null;
  step_of: number | null; // the block whose number this is an intermediate step of; such blocks stand behind it
  gradient_of?: number; // the block of a weight: this one takes its place where gradients are shown
  scale: number; // the 99.5th percentile of |x|: full colour; 0 where all is zero
}

export interface Arrow { from: number; to: number; kind: "data" | "weight" | "residual" } // block ids

export interface Scene {
  format: "glassformer-scene";
  version: 1;
  model: {
    name: string;
    class: string;
    n_parameters: number;
    config: Record<string, unknown>;
    about: (Text & { input: string; output: string }) | null; // what it does, without a full stop, and an example
    random: boolean; // nobody has trained these weights
    shapes_only: boolean; // hatched: no number is loaded
  };
  lazy: boolean; // too large for the page: numbers come by tile and explanations from the server
  tokens: Token[]; // one for each position of axis T; empty for models that read no tokens
  source: Token[]; // one for each position of axis N, where that is another text: what is translated, or words compared with
  sizes: Record<string, number>; // the axes' lengths: {"T": 6, "C": 48, "H": 3, …}
  groups: Group[];
  blocks: Block[];
  arrows: Arrow[];
  stream: number[]; // blocks of the residual stream from the embedding to the last, for the ribbon
  logits: number | null; // block
}

// ---- explanations: what src/glassformer/viewer/responses.py sends and rules/explain.ts computes, field by field equal

export interface CellRef { tensor: number; index: number[]; value: number | string; name: string }
// a value that JSON lacks is "nan", "inf" or "-inf"; complex ones are text, "1+2i"

export interface Explanation {
  cell: CellRef;
  computed: CellRef | null; // the same number where its operation wrote it, if under another name
  kind: Kind;
  dtype: string;
  text: string; // the formula with the operands' names
  numbers: string; // the same with their numbers
  latex: string;
  mathml: string; // a whole <math> element, of the formula with names
  numpy: string; // gives the number when pasted into Python after `import numpy as np`; "" above MAX_SOURCES cells
  terms: Term[]; // by size, the largest first; at most MAX_TERMS
  n_terms: number;
  sources: CellRef[]; // the cells it came from; at most MAX_SOURCES
  n_sources: number;
  check: { recomputed: number | string; difference: number | string; bound: number; passed: boolean } | null;
  operation: { id: number; name: string; module: string } | null;
  source: SourceRecord | null;
}
export interface Term {
  operands: CellRef[];
  value: number | string;
  product: boolean; // the value is the operands multiplied, one operand being itself
}
export const MAX_TERMS = 256;
export const MAX_SOURCES = 4096;

// ---- where numbers come from: data/local.ts (all bytes in the page), data/live.ts (the server)

export interface Sampling { temperature: number; top_k: number | null; top_p: number | null; seed: number }

export interface StepInfo { run: number; step: number; tokens: Token[] }
export interface RunInfo {
  id: number; label: Text; steps: StepInfo[]; compared_to: number | null;
  n_prompt: number; // tokens that were given; the model wrote those behind them
}

export interface Session {
  model: Scene["model"];
  live: boolean; // there is a server
  can: { text: boolean | null; generate: boolean; patch: boolean; train: boolean }; // null: its kind reads no text
  runs: RunInfo[];
}

export interface TokenizedPiece {
  text: string;
  bytes: string; // hexadecimal
  special: boolean;
  method: "merges" | "longest match" | "best path" | "look-up"; // how the tokenizer cuts it; a look-up has no steps
  rows: string[][]; // its symbols, in hexadecimal, at first and after each step
  steps: PieceStep[];
  ids: number[];
}

export interface PieceStep {
  at: number; // which symbol of the row after it is new; a merge made it of what stood there and after it
  rank: number | null; // of that pair; of all neighbours, those of the least rank are merged
  score: number | null; // of the new symbol
}

export interface Tile {
  width: number;
  height: number;
  values: Float32Array; // row by row: the number, or the mean of the patch
  rms: Float32Array; // its size, or the root of the mean square of the patch
}

export interface DataSource {
  session(): Promise<Session>;
  scene(run: number, step: number): Promise<Scene>;
  trace(run: number, step: number): Promise<TraceRecords>;
  /** Texels of a block; one of level n is a patch of 2ⁿ × 2ⁿ cells; x and y count texels. At most 256 × 256. */
  tile(run: number, step: number, block: Block, level: number, x: number, y: number): Promise<Tile>;
  /** A window of a block's numbers as they are, row by row. */
  numbers(run: number, step: number, block: Block, x: number, y: number, nx: number, ny: number): Promise<Float64Array>;
  /** Where one number comes from: by its last operation, or `folded`, over what has a name (rules/folding.ts). */
  explain(run: number, step: number, tensor: number, index: number[], folded?: boolean): Promise<Explanation>;
  chapters(): Promise<Chapter[]>;
  /** The texts of tokens of the vocabulary; absent where the model has no tokenizer. */
  vocabulary?(ids: number[]): Promise<Token[]>;
  /** The text of a run; empty where its tokens are not those of a text. */
  pieces(run: number): Promise<TokenizedPiece[]>;
  /** These reject with one sentence where there is no server. */
  tokenize(text: string): Promise<TokenizedPiece[]>;
  run(input: { text: string } | { tokens: number[] }): Promise<RunInfo>;
  next(run: number, sampling: Sampling): Promise<StepInfo>;
  patch(run: number, step: number, tensor: number, index: number[], value: number): Promise<RunInfo>;
  /** How far the training is, and what comes after, is told. Absent where no server is. */
  training?(tell: (news: TrainingNews) => void): void;
}

// ---- a training that is being watched: `glassformer train --view`

export interface Training {
  steps: number; // of the whole run
  losses: [step: number, loss: number | string][]; // "nan" and "inf" are words, as everywhere
  figures: Record<string, number | string>; // of the last evaluation
  pictures: number[]; // the training step of each recorded step of the run
  ended: boolean;
}

export type TrainingNews =
  | { kind: "so far"; training: Training; runs: RunInfo[] }
  | { kind: "loss"; step: number; steps: number; loss: number | string; lr: number }
  | { kind: "figures"; step: number; figures: Record<string, number | string> }
  | { kind: "picture"; info: StepInfo; at: number }
  | { kind: "ended"; step: number };

// ---- what the scene shows at a moment: a pure function of chapter and time, plus what the visitor points at

export interface Cells { block: number; x0: number; y0: number; x1: number; y1: number } // x1, y1 not included

export interface Glow extends Cells { color: "focus" | "source" | "token"; strength: number } // strength 0 to 1
export interface Arc { from: Cells; to: Cells; weight: number; sign: -1 | 1 } // weight 0 to 1: how thick
export interface Flight { from: Cells; to: Cells; t: number } // copies of cells on their way, t from 0 to 1
export interface Fill { block: number; axis: "x" | "y"; cells: number } // only the first so many rows or columns show
export interface Note { at: Vec3; text: string; size: number; align?: 0 | 0.5 } // size in px; 0: from there on, else centred

export interface Stage {
  opacity: Map<number, number>; // block → 0 to 1; absent: 1
  offset: Map<number, Vec3>; // block → away from its own place
  fills: Map<number, Fill>;
  glows: Glow[];
  arcs: Arc[];
  flights: Flight[];
  notes: Note[];
  unroll: { cell: Cells; t: number } | null; // a dot product laid out as its products, then summed; drawn by the page
  popup: Cells | null;
}

export interface CameraPose { center: Vec3; azimuth: number; elevation: number; distance: number } // degrees, cells

// ---- chapters

export interface Chapter {
  id: string;
  order: number;
  title: Text;
  needs: string[]; // roles that a model must have, or selectors that must find something
  vars: Record<string, number | string>; // a number, "first", "mid" or "last"
  contrast?: { rows: string; vars: [string, string] }; // of the heads of these rows, the two that differ most: contrast.ts
  steps: ChapterStep[];
}

export interface ChapterStep {
  text: Text; // {size:C} {value:@q{t=t,d=0}} {token:t} {name} ... filled from the trace; see chapters/template.ts
  when?: string; // a selector, or !selector, or several with " & ": the step is there if it finds something
  claims?: string[]; // what the text says of these numbers, which --check holds against a recording (viewer/claims.py)
  seconds?: number; // how long the animation runs
  camera?: { fit: string; from?: "front" | "left" | "right" | "above" | "angle"; margin?: number };
  focus?: string;
  dim?: string; // everything that the selector does not find, where it begins with "!"
  show?: string;
  hide?: string;
  sweep?: { block: string; axis?: string; from?: string; to?: string; popup?: boolean }; // a letter; none: positions
  unroll?: { cell: string };
  fly?: { from: string; to: string };
  stack?: { blocks: string; onto?: string; gap?: number }; // one below another, on the first or in front of `onto`
  split?: { blocks: string; gap?: number };
  pulse?: string;
  arcs?: { row: string; over: string; keys?: string }; // of an attention matrix: arcs over these blocks' positions, as thick as its weights
  powers?: { of: string; add: number }; // beside each cell, e to its number with another added to it, in float32
  lens?: boolean; // beside the residual stream, what each layer would predict
  popup?: string;
  panel?: Panel; // what the page opens beside the text
}

export type Panel = "tokenizer" | "sampling" | "scale" | "cache";
