import {
  holdsIntegers,
  type Intake,
  type RowsFound,
  type StoredRows,
  type StoredRowsType,
} from '../../core/backend.ts';
import type { Digest } from '../../core/digest.ts';
import { UnsupportedError } from '../../core/errors.ts';
import { QUANTISATION_GROUP as GROUP } from '../../core/quantise.ts';
import { kernelIds } from './generated/kernel-ids.ts';
import { type Memory, POISON } from './memory.ts';
import { formatCodes, layoutCodes } from './packing.ts';
import { refuseBeyond } from './range.ts';
import type { Threads } from './threads.ts';
import type { StoredWeight } from './weights.ts';

/** What the kernel must know of a type: its number, and of groups where their integers begin and bytes from one to the next. */
const types: Readonly<Record<StoredRowsType, { code: number; at: number; step: number; scaleStep: number }>> = {
  f32: { code: 0, at: 0, step: 0, scaleStep: 0 },
  bf16: { code: 1, at: 0, step: 0, scaleStep: 0 },
  f16: { code: 2, at: 0, step: 0, scaleStep: 0 },
  q8_0: { code: 3, at: 2, step: 2 + GROUP, scaleStep: 2 + GROUP },
  q8: { code: 3, at: 0, step: GROUP, scaleStep: 2 },
  q4_0: { code: 4, at: 2, step: 2 + GROUP / 2, scaleStep: 2 + GROUP / 2 },
  q4: { code: 5, at: 0, step: GROUP / 2, scaleStep: 2 },
};

/** Words of the plan: one step, its arguments, and the survey's state (assembly/store-rows.ts, survey-rows.ts). */
const [ARGUMENTS, STATE, WORDS] = [2, 18, 26];
/** Numbers from which on all threads take part. */
const SHARED = 1 << 15;
/** The bits of Infinity: in f32 numbers that are not finite have these or more. */
const ENDLESS = 0x7f800000;

/** Where one room begins after the other: on a cache line. */
const aligned = (bytes: number): number => Math.ceil(bytes / 64) * 64;

/** Rows of files go to memory that the kernels see, and are converted, looked at and stored by all threads. */
export class WasmIntake implements Intake {
  readonly rooms: readonly [Uint8Array, Uint8Array];
  readonly #memory: Memory;
  readonly #threads: Threads;
  readonly #find: (name: string) => StoredWeight;
  readonly #address: number;
  readonly #plan: number;
  readonly #bytes = new DataView(new ArrayBuffer(4));

  constructor(memory: Memory, threads: Threads, bytes: number, find: (name: string) => StoredWeight) {
    this.#memory = memory;
    this.#threads = threads;
    this.#find = find;
    const size = aligned(bytes);
    this.#plan = memory.allocate(4 * WORDS);
    // What is read while memory that is not shared grows would be lost: there rooms are elsewhere.
    this.#address = memory.allocate(memory.shared ? 2 * size : size, true);
    const room = (n: number) =>
      memory.shared
        ? memory.u8.subarray(this.#address + n * size, this.#address + (n + 1) * size)
        : new Uint8Array(size);
    this.rooms = [room(0), room(1)];
  }

  store(name: string, { type, count, bytes, scales }: StoredRows, start: number, digest?: Digest): RowsFound {
    const { declaration, address } = this.#find(name);
    const { layout, format, shape } = declaration;
    if (layout !== 'rows' && (start % shape[1]! !== 0 || count % shape[1]! !== 0))
      throw new UnsupportedError(`${name} [${shape.join(', ')}] is packed by whole rows, not from element ${start} on`);
    const { code, at, step, scaleStep } = types[type];
    const [source, scaleSource] = this.#brought(bytes, scales);
    const width = layout === 'rows' ? count : shape[1]!;
    const first = layout === 'rows' ? start : start / width;
    const args = this.#plan + 4 * ARGUMENTS;
    const state = this.#plan + 4 * STATE;
    const { i32 } = this.#memory;
    const what = [code, source + at, step, scaleSource, scaleStep, count];
    const where = [layoutCodes[layout], formatCodes[format], address, width, first, count / width, shape[0] ?? 1];
    i32.set([kernelIds.storeRows, args, 0, state, ...what, ...where, Number(digest !== undefined)], this.#plan / 4);
    if (digest) i32.set(digest.state, state / 4);
    if (count < SHARED) this.#threads.walkAlone(this.#plan, 1);
    else this.#threads.walk(this.#plan, 1);
    if (digest) digest.state = i32.slice(state / 4, state / 4 + 5);
    const [bits, ored, areHalves] = i32.subarray(state / 4 + 5, state / 4 + 8);
    const largest = this.#magnitude(bits!);
    if (largest < Infinity && !holdsIntegers(declaration, type)) refuseBeyond(largest, declaration);
    return { largest, fit16: format === 'f16' ? areHalves !== 0 : (ored! & 0xffff) === 0 };
  }

  /** The addresses of rows and of their scales in Wasm memory. */
  #brought(bytes: Uint8Array, scales: Uint8Array | undefined): [number, number] {
    if (this.#memory.shared) return [bytes.byteOffset, scales?.byteOffset ?? bytes.byteOffset];
    if (this.#memory.guarded)
      this.#memory.i32.fill(POISON, this.#address / 4, (this.#address + this.rooms[0].length) / 4);
    for (const part of [bytes, ...(scales ? [scales] : [])]) this.#memory.u8.set(part, this.#address + part.byteOffset);
    return [this.#address + bytes.byteOffset, this.#address + (scales ?? bytes).byteOffset];
  }

  #magnitude(bits: number): number {
    if (bits >= ENDLESS) return Infinity;
    this.#bytes.setInt32(0, bits);
    return this.#bytes.getFloat32(0);
  }

  dispose(): void {
    this.#memory.release(this.#address);
    this.#memory.release(this.#plan);
  }
}
