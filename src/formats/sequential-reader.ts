import { FormatError } from '../core/errors.ts';
import type { ByteSource } from './byte-source.ts';

/**
 * Bounds what reading a header may allocate in total, so that a hostile file gets a FormatError rather than the machine
 * a shortage: four times the file's size and 64 MiB, and never more than 1 GiB.
 */
export class AllocationBudget {
  readonly #name: string;
  #left: number;

  constructor(source: ByteSource) {
    this.#name = source.name;
    this.#left = Math.min(source.size * 4 + 2 ** 26, 2 ** 30);
  }

  /** Counts about `bytes` of memory. */
  spend(bytes: number): void {
    this.#left -= bytes;
    if (this.#left < 0)
      throw new FormatError(`${this.#name}: its header takes more memory than any model's does; not loaded`);
  }
}

/**
 * Reads little-endian numbers one after the other through a window over a source. `need` brings bytes into the window
 * and refuses more than the source has left, before anything is allocated; the other methods take what is there.
 */
export class SequentialReader {
  readonly #source: ByteSource;
  readonly #budget: AllocationBudget;
  readonly #windowSize: number;
  #buffer = new Uint8Array(0);
  #view = new DataView(this.#buffer.buffer);
  #end = 0;
  #at = 0;
  /** Where in the source the window begins. */
  #origin = 0;

  constructor(source: ByteSource, budget: AllocationBudget, windowSize = 2 ** 18) {
    this.#source = source;
    this.#budget = budget;
    this.#windowSize = windowSize;
  }

  /** Offset in the source of the next byte. */
  get position(): number {
    return this.#origin + this.#at;
  }

  /** Bytes from here to the end of the source. */
  get remaining(): number {
    return this.#source.size - this.position;
  }

  /** Whether the next `count` bytes are in the window. */
  holds(count: number): boolean {
    return this.#end - this.#at >= count;
  }

  /** Brings the next `count` bytes into the window. `what` names them in the error. */
  async need(count: number, what: string): Promise<void> {
    if (this.holds(count)) return;
    this.check(count, what);
    const length = Math.min(this.remaining, Math.max(count, this.#windowSize));
    this.#origin = this.position;
    this.#at = this.#end = 0;
    if (length > this.#buffer.length) {
      this.#budget.spend(length);
      this.#buffer = new Uint8Array(length);
      this.#view = new DataView(this.#buffer.buffer);
    }
    await this.#source.read(this.#origin, this.#buffer.subarray(0, length));
    this.#end = length;
  }

  /** Throws FormatError unless `count` bytes are left in the source. */
  check(count: number, what: string): void {
    if (count <= this.remaining) return;
    throw new FormatError(
      `${this.#source.name}: ${what} at byte ${this.position} should take ${count} bytes, but ${this.remaining} are left; the file is truncated or corrupt`,
    );
  }

  /** Moves on by `count` bytes without reading them. */
  skip(count: number, what: string): void {
    this.check(count, what);
    if (this.holds(count)) {
      this.#at += count;
    } else {
      this.#origin = this.position + count;
      this.#at = this.#end = 0;
    }
  }

  /** The next `count` bytes, in place: they change with the next `need`. */
  take(count: number): Uint8Array {
    const at = this.#advance(count);
    return this.#buffer.subarray(at, at + count);
  }

  u8(): number {
    return this.#view.getUint8(this.#advance(1));
  }

  i8(): number {
    return this.#view.getInt8(this.#advance(1));
  }

  u16(): number {
    return this.#view.getUint16(this.#advance(2), true);
  }

  i16(): number {
    return this.#view.getInt16(this.#advance(2), true);
  }

  u32(): number {
    return this.#view.getUint32(this.#advance(4), true);
  }

  i32(): number {
    return this.#view.getInt32(this.#advance(4), true);
  }

  f32(): number {
    return this.#view.getFloat32(this.#advance(4), true);
  }

  f64(): number {
    return this.#view.getFloat64(this.#advance(8), true);
  }

  u64(): bigint {
    return this.#view.getBigUint64(this.#advance(8), true);
  }

  i64(): bigint {
    return this.#view.getBigInt64(this.#advance(8), true);
  }

  /** A 64-bit unsigned number as a double: above 2⁵³ not exact, but still too large for any check it has to pass. */
  count(): number {
    const at = this.#advance(8);
    return this.#view.getUint32(at, true) + this.#view.getUint32(at + 4, true) * 2 ** 32;
  }

  /** Fills `into` from here on; large arrays go straight to it. */
  async fill(into: Uint8Array, what: string): Promise<void> {
    this.check(into.length, what);
    if (into.length <= this.#windowSize) {
      await this.need(into.length, what);
      into.set(this.take(into.length));
    } else {
      await this.#source.read(this.position, into);
      this.skip(into.length, what);
    }
  }

  #advance(count: number): number {
    const at = this.#at;
    this.#at += count;
    return at;
  }
}
