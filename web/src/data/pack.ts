/**
 * A recording that is kept without a server: the pack and its blobs, as one file or as a folder has them.
 *
 * In one file they are text: base64 of gzip. The blobs follow each other, each filled up to a multiple of 4 bytes, and
 * all of them are shuffled, first bytes first: floats that are alike have their likeness in the same byte.
 */
import type { Chapter, Scene, Session, StorageRecord, Token, TokenizedPiece, TraceRecords } from "../types.ts";
import { Once } from "./once.ts";

export interface Pack {
  session: Session;
  chapters: Chapter[];
  tokens: Token[]; // the vocabulary, by id, as far as it is kept
  pieces: Record<number, TokenizedPiece[]>; // of each run's text
  steps: { run: number; step: number; scene: Scene; trace: TraceRecords }[];
  blobs: Record<string, number>; // how many bytes each has, in their order
}

/** The bytes of these storages, in their order. */
export type Blobs = (storages: StorageRecord[]) => Promise<Uint8Array[]>;

/** The pack and the blobs of a page that carries both. */
export async function fromPage(pack: string, data: string): Promise<[Pack, Blobs]> {
  const [text, shuffled] = await Promise.all([unzipped(pack), unzipped(data)]);
  const content = JSON.parse(new TextDecoder().decode(text)) as Pack;
  const bytes = unshuffled(shuffled);
  const blobs = new Map<string, Uint8Array>();
  let at = 0;
  for (const [name, nbytes] of Object.entries(content.blobs)) {
    blobs.set(name, bytes.slice(at, at + nbytes));
    at += Math.ceil(nbytes / 4) * 4;
  }
  return [content, async (storages) => storages.map(({ blob }) => known(blobs.get(blob), blob))];
}

/** The same from files beside the page. */
export async function fromFolder(address: URL): Promise<[Pack, Blobs]> {
  const pack = (await (await fetched(address)).json()) as Pack;
  const files = new Once<Uint8Array>();
  const file = (name: string): Promise<Uint8Array> => files.get(name, async () => {
    known(pack.blobs[name], name);
    return new Uint8Array(await (await fetched(new URL(`data/${name}.bin`, address))).arrayBuffer());
  });
  return [pack, (storages) => Promise.all(storages.map(({ blob }) => file(blob)))];
}

function known<T>(found: T | undefined, name: string): T {
  if (found === undefined) throw new Error(`This recording has no numbers named ${name}.`);
  return found;
}

async function fetched(address: URL): Promise<Response> {
  const response = await fetch(address);
  if (!response.ok) throw new Error(`${address.pathname} cannot be read: ${response.status}.`);
  return response;
}

async function unzipped(text: string): Promise<Uint8Array> {
  const letters = atob(text.trim());
  const bytes = new Uint8Array(letters.length);
  for (let i = 0; i < letters.length; i++) bytes[i] = letters.charCodeAt(i);
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

/** All first bytes of four, then all second ones, and so on: back into their order. */
function unshuffled(bytes: Uint8Array): Uint8Array {
  const quarter = bytes.length / 4;
  const found = new Uint8Array(bytes.length);
  for (let lane = 0; lane < 4; lane++) {
    for (let i = 0; i < quarter; i++) found[4 * i + lane] = bytes[lane * quarter + i] ?? 0;
  }
  return found;
}
