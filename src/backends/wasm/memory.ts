import { UnsupportedError } from '../../core/errors.ts';

const PAGE = 65536;
/** Pages in 4 GiB. */
const MAXIMUM = 65536;
/** Everything starts on a cache line. */
const ALIGNMENT = 64;
/** The kernels' own constants live below. */
const FIRST = PAGE;
/** A NaN that no kernel makes: what it stands in must not be read, and is found changed where it was written over. */
export const POISON = 0x7fc0beef;

/** Whether threads can share memory: not so in pages that are not cross-origin isolated. */
export const hasSharedMemory = (): boolean => typeof SharedArrayBuffer !== 'undefined';

/**
 * One WebAssembly memory handed out in blocks: first fit over a list of free stretches, growing when none fits.
 * Addresses are byte offsets, and a block never moves.
 */
export class Memory {
  readonly wasm: WebAssembly.Memory;
  readonly shared: boolean;
  /** Whether every block is followed by at least a cache line of POISON, which is looked at when the block is released. For tests. */
  readonly guarded: boolean;
  /** Free stretches by address, adjacent ones joined: [start, end). */
  readonly #free: [number, number][] = [];
  readonly #sizes = new Map<number, number>();
  /** Where the guards begin, by the blocks' addresses. */
  readonly #guards = new Map<number, number>();
  /** The end of all that was ever handed out. */
  #used = FIRST;
  #buffer: ArrayBufferLike | undefined;
  #f32 = new Float32Array(0);
  #i32 = new Int32Array(0);
  #u16 = new Uint16Array(0);
  #u8 = new Uint8Array(0);

  constructor(shared: boolean, guarded = false) {
    this.shared = shared;
    this.guarded = guarded;
    this.wasm = new WebAssembly.Memory({ initial: 16, maximum: MAXIMUM, ...(shared && { shared }) });
    this.#free.push([FIRST, this.wasm.buffer.byteLength]);
  }

  /** Bytes handed out. */
  get used(): number {
    let total = 0;
    for (const size of this.#sizes.values()) total += size;
    return total;
  }

  /** The whole memory as numbers. Ask again after an allocation: growing replaces it. */
  get f32(): Float32Array {
    this.#refresh();
    return this.#f32;
  }

  get i32(): Int32Array {
    this.#refresh();
    return this.#i32;
  }

  get u16(): Uint16Array {
    this.#refresh();
    return this.#u16;
  }

  get u8(): Uint8Array {
    this.#refresh();
    return this.#u8;
  }

  #refresh(): void {
    const { buffer } = this.wasm;
    if (buffer === this.#buffer) return;
    this.#buffer = buffer;
    this.#f32 = new Float32Array(buffer);
    this.#i32 = new Int32Array(buffer);
    this.#u16 = new Uint16Array(buffer);
    this.#u8 = new Uint8Array(buffer);
  }

  /** Grows once for blocks of so many bytes in all that are to come, in place of once for each of them. */
  reserve(bytes: number): void {
    const end = this.wasm.buffer.byteLength;
    const last = this.#free.at(-1);
    const missing = bytes - (last && last[1] === end ? end - last[0] : 0);
    if (missing > 0 && end + missing <= MAXIMUM * PAGE) this.#grow(bytes);
  }

  /** Address of `bytes` bytes: zeros, unless `isFilled` says that the caller fills them all. */
  allocate(bytes: number, isFilled = false): number {
    const size = Math.max(ALIGNMENT, Math.ceil(bytes / ALIGNMENT) * ALIGNMENT) + (this.guarded ? ALIGNMENT : 0);
    let index = this.#free.findIndex(([start, end]) => end - start >= size);
    if (index < 0) index = this.#grow(size);
    const stretch = this.#free[index]!;
    const address = stretch[0];
    stretch[0] += size;
    if (stretch[0] === stretch[1]) this.#free.splice(index, 1);
    this.#sizes.set(address, size);
    // What was never handed out is zero as it came from the system, and costs nothing until it is used.
    if (!isFilled && address < this.#used) this.u8.fill(0, address, Math.min(address + size, this.#used));
    this.#used = Math.max(this.#used, address + size);
    if (this.guarded) {
      const guard = Math.ceil((address + bytes) / 4);
      this.#guards.set(address, guard);
      this.i32.fill(POISON, guard, (address + size) / 4);
    }
    return address;
  }

  /** Fails where something was written behind a block. */
  #inspect(address: number, size: number): void {
    const guard = this.#guards.get(address);
    this.#guards.delete(address);
    for (let at = guard ?? Infinity; at < (address + size) / 4; at++) {
      if (this.i32[at] !== POISON)
        throw new Error(
          `something was written ${4 * (at - guard!)} bytes behind the block at ${address} of ${size} bytes`,
        );
    }
  }

  release(address: number): void {
    const size = this.#sizes.get(address);
    if (size === undefined) throw new Error(`address ${address} is not a block`);
    this.#sizes.delete(address);
    this.#inspect(address, size);
    let index = this.#free.findIndex(([start]) => start > address);
    if (index < 0) index = this.#free.length;
    this.#free.splice(index, 0, [address, address + size]);
    this.#join(index);
    if (index > 0) this.#join(index - 1);
  }

  #join(index: number): void {
    const [stretch, following] = [this.#free[index]!, this.#free[index + 1]];
    if (following && stretch[1] === following[0]) {
      stretch[1] = following[1];
      this.#free.splice(index + 1, 1);
    }
  }

  /** Grows so that `size` bytes are free at the end; returns the index of that stretch. */
  #grow(size: number): number {
    const end = this.wasm.buffer.byteLength;
    const last = this.#free.at(-1);
    const available = last && last[1] === end ? end - last[0] : 0;
    const least = Math.ceil((size - available) / PAGE);
    // An eighth of the memory at least: growing costs a system call each time.
    const pages = Math.max(least, Math.min(Math.ceil(end / 8 / PAGE), MAXIMUM - end / PAGE));
    try {
      this.wasm.grow(pages);
    } catch (cause) {
      const megabytes = (n: number) => `${Math.ceil(n / 2 ** 20)} MiB`;
      throw new UnsupportedError(
        `${megabytes(size)} more memory is not to be had: ${megabytes(this.used)} are in use, and WebAssembly ends at 4 GiB. ` +
          'Hold the weights in fewer bits, or close models and sessions that are not needed.',
        { cause },
      );
    }
    const grown = this.wasm.buffer.byteLength;
    if (available > 0) last![1] = grown;
    else this.#free.push([end, grown]);
    return this.#free.length - 1;
  }
}
