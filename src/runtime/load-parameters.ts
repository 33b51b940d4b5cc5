import type { Intake, RowsFound, StoredRows, StoredRowsType } from '../core/backend.ts';
import { WeightError } from '../core/errors.ts';
import { exceeds } from '../core/magnitude.ts';
import { formatShape } from '../core/shape.ts';
import type { Checkpoint, StoredTensor, StoredType } from '../formats/checkpoint.ts';
import { readF32 } from '../formats/read-f32.ts';
import { decodeRows } from '../formats/stored-rows.ts';
import { tensorBytes } from '../formats/tensor-bytes.ts';
import type { Origin } from './parameters.ts';

/** How far loading has come, in bytes of the checkpoint. */
export interface LoadProgress {
  readonly loaded: number;
  readonly total: number;
}

export interface LoadParametersOptions {
  readonly signal?: AbortSignal | undefined;
  readonly onProgress?: ((progress: LoadProgress) => void) | undefined;
}

/** Where parameters go as they are loaded. */
export interface ParameterSink {
  /** Stores numbers of a parameter, row-major from element `start` on; pieces come in order. */
  write(name: string, values: Float32Array, start?: number): void | Promise<void>;
  /** Whether rows of a parameter may go through `intake`. */
  takes?(name: string): boolean;
  /** A faster way in, for pieces of so many bytes at most. */
  intake?(bytes: number): RowIntake | undefined;
}

/** An intake that keeps a digest of its own. */
export interface RowIntake extends Pick<Intake, 'rooms' | 'dispose'> {
  store(name: string, rows: StoredRows, start: number): RowsFound;
}

/** Bytes of a piece that goes through an intake: few system calls, and two of them in a second-level cache. */
const ROOM = 1 << 21;
/** Numbers decoded at a time where there is none: few enough to stay in a core's cache from the first look to the last. */
const DECODED = 1 << 17;
/** Rows that lie in one panel: pieces end with a panel where they can. */
const PANEL = 8;

/** What intakes take as it is; other numbers are decoded to f32. */
const asStored: readonly StoredType[] = ['f32', 'bf16', 'f16', 'q8_0', 'q4_0'] satisfies StoredRowsType[];

/** A stretch of a parameter's numbers, read. */
interface Piece {
  readonly name: string;
  readonly origin: Origin;
  readonly start: number;
  /** Rows in a room of the intake, or numbers. */
  readonly rows: StoredRows | Float32Array;
  readonly isLast: boolean;
}

const elements = ({ shape }: StoredTensor): number => shape.reduce((a, b) => a * b, 1);
/** The length of a row. */
const widthOf = ({ shape }: StoredTensor): number => Math.max(1, shape.at(-1) ?? 1);

/**
 * The largest magnitude that a weight may have. Times any activation above 2e-11 it is more than the root of the largest float32,
 * so that the mean of squares in the norm that follows is infinite, and the logits NaN. No training comes near it; the highest
 * bit of an exponent, flipped, makes 1e-8 more than that.
 */
const MOST = Math.fround(1e30);

/** Reads every parameter from a checkpoint into `sink`, piece by piece; refuses numbers that are not finite, or so large that they can't be weights. */
export async function loadParameters(
  origins: ReadonlyMap<string, Origin>,
  checkpoint: Checkpoint,
  sink: ParameterSink,
  { signal, onProgress }: LoadParametersOptions,
): Promise<void> {
  const total = [...origins.values()].reduce((sum, { stored }) => sum + stored.byteLength, 0);
  const taken = [...origins].filter(([name, { convert }]) => !convert && sink.takes?.(name));
  const room = Math.max(0, ...taken.map(([, { stored }]) => rowBytes(stored) * rowsTogether(stored)));
  const intake = room > 0 ? sink.intake?.(room) : undefined;
  let loaded = 0;
  onProgress?.({ loaded, total });
  try {
    const names = new Set(intake && taken.map(([name]) => name));
    for await (const piece of ahead(pieces(origins, checkpoint, intake?.rooms, names))) {
      signal?.throwIfAborted();
      const { name, origin, start, rows, isLast } = piece;
      const { stored, convert } = origin;
      if (!(rows instanceof Float32Array)) {
        const { largest } = intake!.store(name, rows, start);
        if (largest > MOST) refuseSenseless(decodeRows(rows), checkpoint, stored, start);
      } else {
        if (exceeds(rows, MOST)) refuseSenseless(rows, checkpoint, stored, start);
        if (convert) await sink.write(name, convert(rows, stored.shape));
        else await sink.write(name, rows, start);
      }
      if (!isLast) continue;
      loaded += stored.byteLength;
      onProgress?.({ loaded, total });
    }
  } finally {
    intake?.dispose();
  }
}

/** Bytes of a row in a room. */
function rowBytes(stored: StoredTensor): number {
  const type = asStored.includes(stored.type) ? stored.type : 'f32';
  return tensorBytes(type, [widthOf(stored)]) as number;
}

/** Rows of a piece in a room. */
function rowsTogether(stored: StoredTensor): number {
  const rows = Math.max(1, Math.floor(ROOM / rowBytes(stored)));
  const whole = rows < PANEL ? rows : rows - (rows % PANEL);
  return Math.min(whole, Math.max(1, elements(stored) / widthOf(stored)));
}

/** Pieces are good until the one after the next is asked for: two rooms take turns, and so do two buffers. */
async function* pieces(
  origins: ReadonlyMap<string, Origin>,
  checkpoint: Checkpoint,
  rooms: Intake['rooms'] | undefined,
  taken: ReadonlySet<string>,
): AsyncGenerator<Piece> {
  const buffers: [Float32Array, Float32Array] = [new Float32Array(0), new Float32Array(0)];
  let turn: 0 | 1 = 0;
  for (const [name, origin] of origins) {
    const { stored, convert } = origin;
    const isTaken = taken.has(name);
    const [length, width] = [elements(stored), widthOf(stored)];
    const together = isTaken ? rowsTogether(stored) : Math.max(1, Math.floor(DECODED / width));
    const piece = convert ? Math.max(1, length) : together * width;
    for (let start = 0; start < length; start += piece) {
      const count = Math.min(piece, length - start);
      let rows: Piece['rows'];
      if (isTaken) rows = await readRows(checkpoint, stored, start, count, rooms![turn]);
      else {
        if (buffers[turn].length < count) buffers[turn] = new Float32Array(Math.max(DECODED, count));
        rows = await readF32(checkpoint, stored, start, count, buffers[turn]);
      }
      turn = turn === 0 ? 1 : 0;
      yield { name, origin, start, rows, isLast: start + piece >= length };
    }
  }
}

/** Reads rows into a room, as the file has them where an intake takes that, otherwise as f32. */
async function readRows(
  checkpoint: Checkpoint,
  stored: StoredTensor,
  start: number,
  count: number,
  room: Uint8Array,
): Promise<StoredRows> {
  const { name, type } = stored;
  const split = checkpoint.splitBlocks?.get(name);
  if (split) return await split.read(start, count, room);
  if (!asStored.includes(type)) {
    const values = new Float32Array(room.buffer, room.byteOffset, count);
    await readF32(checkpoint, stored, start, count, values);
    return { type: 'f32', count, bytes: new Uint8Array(values.buffer, values.byteOffset, values.byteLength) };
  }
  const bytesOf = (numbers: number) => tensorBytes(type, [numbers]) as number;
  const bytes = room.subarray(0, bytesOf(count));
  await checkpoint.read(name, bytes, bytesOf(start));
  return { type: type as StoredRowsType, count, bytes };
}

/** The same, but each is being read while the one before it is worked on. */
async function* ahead<Item>(source: AsyncGenerator<Item>): AsyncGenerator<Item> {
  let next = source.next();
  try {
    for (;;) {
      const item = await next;
      if (item.done) return;
      next = source.next();
      yield item.value;
    }
  } finally {
    // Whoever stopped early has an error of their own to tell.
    await next.catch(() => {});
  }
}

function refuseSenseless(values: Float32Array, checkpoint: Checkpoint, stored: StoredTensor, start: number): never {
  const index = values.findIndex((value) => !(Math.abs(value) <= MOST));
  const what = Number.isFinite(values[index])
    ? `, of a magnitude above ${MOST.toPrecision(1)} that makes logits NaN`
    : '';
  throw new WeightError(
    `${checkpoint.name}: ${stored.name} holds ${values[index]} at element ${start + index} of ${formatShape(stored.shape)}${what}: the file is damaged or the training diverged`,
  );
}
