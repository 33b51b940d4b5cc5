import type { WeightDeclaration, WeightFormat } from '../../core/backend.ts';
import { UnsupportedError } from '../../core/errors.ts';

/** How a matrix of one shape and format lies in memory. */
export interface Packing {
  readonly bytes: number;
  /** Packs rows of the matrix, row-major f32 from element `start` on, into the panels at `address` (zeroed memory). */
  pack(values: Float32Array, start: number, memory: Uint8Array, address: number): void;
  /** The numbers that the kernels compute with, row-major. */
  unpack(memory: Uint8Array, address: number): Float32Array;
}

/** Outputs in a panel. */
export const PANEL = 8;

/** Numbers by which the kernels know the formats. */
export const formatCodes: Readonly<Partial<Record<WeightFormat, number>>> = { f32: 0, bf16: 1, f16: 2 };

/**
 * Panels of 8 outputs, [⌈O/8⌉][I][8], the last one padded with zeros. A `linear` matrix is [O, I], a `linearTransposed`
 * one [I, O].
 */
export function packingOf({ name, shape, format, layout }: WeightDeclaration): Packing {
  const [rows, columns] = shape as [number, number];
  if (shape.length !== 2) throw new UnsupportedError(`${name} is read as a matrix but has ${shape.length} axes`);
  const code = formatCodes[format];
  if (code === undefined) throw new UnsupportedError(`the wasm backend can't hold weights as ${format} (${name})`);
  const [O, I] = layout === 'linear' ? [rows, columns] : [columns, rows];
  const length = Math.ceil(O / PANEL) * I * PANEL;
  const { encode, decode, view, bytesPerElement } = codecs[code]!;
  // Element (row, column) of the stored matrix is output `row` of input `column`, or the reverse when transposed.
  const forEach = (start: number, length: number, visit: (packed: number, element: number) => void) => {
    for (let n = 0; n < length; n++) {
      const row = Math.floor((start + n) / columns);
      const column = (start + n) % columns;
      const [o, i] = layout === 'linear' ? [row, column] : [column, row];
      visit(Math.floor(o / PANEL) * I * PANEL + i * PANEL + (o % PANEL), n);
    }
  };
  return {
    bytes: length * bytesPerElement,
    pack(values, start, memory, address) {
      const panels = view(memory, address, length);
      forEach(start, values.length, (packed, element) => {
        panels[packed] = encode(values[element]!);
      });
    },
    unpack(memory, address) {
      const panels = view(memory, address, length);
      const values = new Float32Array(rows * columns);
      forEach(0, values.length, (packed, element) => {
        values[element] = decode(panels[packed]!);
      });
      return values;
    },
  };
}

interface Codec {
  readonly bytesPerElement: number;
  readonly encode: (value: number) => number;
  readonly decode: (bits: number) => number;
  readonly view: (memory: Uint8Array, address: number, length: number) => Float32Array | Uint16Array;
}

const word = new Float32Array(1);
const bits = new Uint32Array(word.buffer);
const shorts = (memory: Uint8Array, address: number, length: number) =>
  new Uint16Array(memory.buffer, memory.byteOffset + address, length);

/** Rounds to the nearest bf16, ties to even. */
function toBf16(value: number): number {
  word[0] = value;
  const low = bits[0]!;
  return (low + 0x7fff + ((low >>> 16) & 1)) >>> 16;
}

function fromBf16(half: number): number {
  bits[0] = half << 16;
  return word[0]!;
}

/** Rounds to the nearest f16, ties to even; beyond its range, infinite. */
function toF16(value: number): number {
  word[0] = value;
  const sign = (bits[0]! >>> 16) & 0x8000;
  const magnitude = Math.abs(word[0]!);
  if (!(magnitude < 65520)) return sign | 0x7c00 | (Number.isNaN(magnitude) ? 0x200 : 0);
  const exponent = Math.max(-14, Math.floor(Math.log2(magnitude || 2 ** -15)));
  // Steps of the format at this size; a power of two that log2 rounded up is mended by the division's own result.
  const steps = roundHalfEven(magnitude / 2 ** (exponent - 10));
  return sign | (magnitude < 2 ** -14 ? steps : ((exponent + 14) << 10) + steps);
}

function roundHalfEven(x: number): number {
  const floor = Math.floor(x);
  const rest = x - floor;
  return rest > 0.5 || (rest === 0.5 && floor % 2 === 1) ? floor + 1 : floor;
}

function fromF16(half: number): number {
  const exponent = (half >>> 10) & 31;
  const mantissa = half & 0x3ff;
  const magnitude = exponent === 0 ? mantissa * 2 ** -24 : (1024 + mantissa) * 2 ** (exponent - 25);
  return half & 0x8000 ? -magnitude : magnitude;
}

const same = (value: number): number => value;
const codecs: readonly Codec[] = [
  {
    bytesPerElement: 4,
    encode: same,
    decode: same,
    view: (memory, address, length) => new Float32Array(memory.buffer, memory.byteOffset + address, length),
  },
  { bytesPerElement: 2, encode: toBf16, decode: fromBf16, view: shorts },
  { bytesPerElement: 2, encode: toF16, decode: fromF16, view: shorts },
];
