import { POISON } from '../src/backends/wasm/memory.ts';

/*
 * Kernels that look before they read: ahead of every load goes a call, and copies of memory become calls. What lies in a
 * poisoned band, or was never written, is then found when it is read, also where nothing comes of it: a number too many
 * that is dropped, a row whose product nobody keeps. All kernels are seen, and no operand must lie in a special place.
 */

/** Words with which opcodes are followed: a LEB128 each. Absent: none. */
const words: Readonly<Record<number, number>> = {
  2: 1, // block
  3: 1, // loop
  4: 1, // if
  12: 1, // br
  13: 1, // br_if
  16: 1, // call
  32: 1, // local.get
  33: 1, // local.set
  34: 1, // local.tee
  35: 1, // global.get
  36: 1, // global.set
  63: 1, // memory.size
  64: 1, // memory.grow
  65: 1, // i32.const
  66: 1, // i64.const
};
/** Bytes that i32.load to i64.load32_u read, and v128.load to v128.load64_splat, load32_zero, load64_zero. */
const scalarBytes = [4, 8, 4, 8, 1, 1, 2, 2, 1, 1, 2, 2, 4, 4];
const vectorBytes = [16, 8, 8, 8, 8, 8, 8, 1, 2, 4, 8];
const [CALL, I32_CONST, PREFIX_BULK, PREFIX_SIMD, PREFIX_ATOMIC] = [0x10, 0x41, 0xfc, 0xfd, 0xfe];
const [I32, FUNCTION] = [0x7f, 0x60];
const [TYPES, IMPORTS, EXPORTS, CODE] = [1, 2, 7, 10];
/** The functions that are imported, ahead of all others. */
const [LOOK, COPY] = [0, 1];

function unsigned(value: number): number[] {
  const bytes: number[] = [];
  for (let rest = value; ; rest >>>= 7) {
    if (rest < 128) return [...bytes, rest];
    bytes.push((rest & 127) | 128);
  }
}

function signed(value: number): number[] {
  const bytes: number[] = [];
  for (let rest = value | 0; ; rest >>= 7) {
    if (rest >= -64 && rest < 64) return [...bytes, rest & 127];
    bytes.push((rest & 127) | 128);
  }
}

const text = (name: string): number[] => [...unsigned(name.length), ...new TextEncoder().encode(name)];

class Reader {
  readonly bytes: Uint8Array;
  at: number;

  constructor(bytes: Uint8Array, at = 0) {
    this.bytes = bytes;
    this.at = at;
  }

  byte(): number {
    return this.bytes[this.at++]!;
  }

  leb(): number {
    let value = 0;
    for (let shift = 0; ; shift += 7) {
      const byte = this.byte();
      value |= (byte & 127) << shift;
      if (byte < 128) return value >>> 0;
    }
  }

  take(count: number): Uint8Array {
    this.at += count;
    return this.bytes.subarray(this.at - count, this.at);
  }
}

/** One function's instructions, with a look ahead of every load and with functions' new numbers. */
function watched(code: Uint8Array): number[] {
  const reader = new Reader(code);
  const out: number[] = [];
  const groups = reader.leb();
  for (let n = 0; n < groups; n++) {
    reader.leb();
    reader.byte();
  }
  out.push(...code.subarray(0, reader.at));
  while (reader.at < code.length) {
    const start = reader.at;
    const opcode = reader.byte();
    /** Bytes that the instruction reads at the address on the stack. */
    let bytes = 0;
    let offset = 0;
    const place = () => {
      reader.leb();
      offset = reader.leb();
    };
    if (opcode === CALL) {
      out.push(CALL, ...unsigned(reader.leb() + 2));
      continue;
    }
    if (opcode === PREFIX_BULK) {
      const kind = reader.leb();
      if (kind === 10) {
        reader.take(2);
        out.push(CALL, COPY);
        continue;
      }
      if (kind === 11) reader.take(1);
      else if (kind > 7) throw new Error(`bulk instruction ${kind} is not known here`);
    } else if (opcode === PREFIX_SIMD) {
      const kind = reader.leb();
      if (kind <= 11 || kind === 92 || kind === 93) {
        place();
        bytes = vectorBytes[kind] ?? (kind === 92 ? 4 : kind === 93 ? 8 : 0);
      } else if (kind <= 13) reader.take(16);
      else if (kind >= 21 && kind <= 34) reader.take(1);
      else if (kind >= 84 && kind <= 91) {
        place();
        reader.take(1);
      }
    } else if (opcode === PREFIX_ATOMIC) {
      if (reader.leb() === 3) reader.take(1);
      else place();
    } else if (opcode >= 0x28 && opcode <= 0x3e) {
      place();
      bytes = scalarBytes[opcode - 0x28] ?? 0;
    } else if (opcode === 0x0e) {
      for (let count = reader.leb(); count >= 0; count--) reader.leb();
    } else if (opcode === 0x43) reader.take(4);
    else if (opcode === 0x44) reader.take(8);
    else if (opcode === 0x11 || opcode === 0x1c || (opcode >= 0x25 && opcode <= 0x26) || opcode >= 0xd0)
      throw new Error(`instruction ${opcode} is not known here`);
    else for (let n = words[opcode] ?? 0; n > 0; n--) reader.leb();
    if (bytes > 0) out.push(I32_CONST, ...signed(offset), I32_CONST, ...signed(bytes), CALL, LOOK);
    for (let at = start; at < reader.at; at++) out.push(code[at]!);
  }
  return out;
}

const section = (id: number, content: readonly number[]): number[] => [id, ...unsigned(content.length), ...content];

/** A module whose loads are looked at by an imported `look(address, offset, bytes)`, which returns the address. */
function withLooks(module: Uint8Array): Uint8Array<ArrayBuffer> {
  const reader = new Reader(module);
  const parts: Uint8Array[] = [reader.take(8)];
  let types = 0;
  while (reader.at < module.length) {
    const id = reader.byte();
    const content = new Reader(reader.take(reader.leb()));
    const { bytes } = content;
    const rest = () => [...bytes.subarray(content.at)];
    let changed: number[] | undefined;
    if (id === TYPES) {
      types = content.leb();
      const added = [FUNCTION, 3, I32, I32, I32, 1, I32, FUNCTION, 3, I32, I32, I32, 0];
      changed = [...unsigned(types + 2), ...rest(), ...added];
    } else if (id === IMPORTS) {
      const count = content.leb();
      const looks = [...text('env'), ...text('look'), 0, ...unsigned(types)];
      const copies = [...text('env'), ...text('copy'), 0, ...unsigned(types + 1)];
      changed = [...unsigned(count + 2), ...looks, ...copies, ...rest()];
    } else if (id === EXPORTS) {
      changed = unsigned(content.leb());
      while (content.at < bytes.length) {
        const name = content.take(content.leb());
        const kind = content.byte();
        changed.push(...unsigned(name.length), ...name, kind, ...unsigned(content.leb() + (kind === 0 ? 2 : 0)));
      }
    } else if (id === CODE) {
      const count = content.leb();
      const functions: number[][] = [unsigned(count)];
      for (let n = 0; n < count; n++) {
        const body = watched(content.take(content.leb()));
        functions.push([...unsigned(body.length), ...body]);
      }
      changed = functions.flat();
    }
    parts.push(Uint8Array.from(section(id, changed ?? rest())));
  }
  const result = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    result.set(part, at);
    at += part.length;
  }
  return result;
}

/** For `wasmBackend`'s `rewrite`: fails where a kernel reads a word of POISON. */
export function watchedReads(module: Uint8Array, memory: WebAssembly.Memory) {
  let words = new Int32Array(memory.buffer);
  const look = (base: number, offset: number, bytes: number): number => {
    if (words.length === 0) words = new Int32Array(memory.buffer);
    const address = (base >>> 0) + offset;
    for (let at = address >>> 2; at <= (address + bytes - 1) >>> 2; at++)
      if (words[at] === POISON)
        throw new Error(`a kernel reads ${bytes} bytes at ${address}, where nothing was written`);
    return base;
  };
  const copy = (to: number, from: number, count: number): void => {
    if (count > 0) look(from, 0, count);
    new Uint8Array(memory.buffer).copyWithin(to >>> 0, from >>> 0, (from >>> 0) + count);
  };
  return { module: withLooks(module), env: { look, copy } };
}
