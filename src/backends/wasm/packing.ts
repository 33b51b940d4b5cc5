import type { WeightDeclaration, WeightFormat } from '../../core/backend.ts';
import { UnsupportedError } from '../../core/errors.ts';
import { float16ToNumber, numberToFloat16 } from '../../core/float16.ts';

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
  // Row by row of the stored matrix: in a `linear` one a row is an output, 8 elements from one input to the next; in a
  // transposed one it is an input, its outputs side by side in every panel.
  const forEach = (start: number, length: number, visit: (packed: number, element: number) => void) => {
    for (let n = 0; n < length; n += columns) {
      const row = (start + n) / columns;
      if (layout === 'linear') {
        const first = Math.floor(row / PANEL) * I * PANEL + (row % PANEL);
        for (let i = 0; i < columns; i++) visit(first + i * PANEL, n + i);
      } else {
        for (let o = 0; o < columns; o++) visit(Math.floor(o / PANEL) * I * PANEL + row * PANEL + (o % PANEL), n + o);
      }
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

const same = (value: number): number => value;
const codecs: readonly Codec[] = [
  {
    bytesPerElement: 4,
    encode: same,
    decode: same,
    view: (memory, address, length) => new Float32Array(memory.buffer, memory.byteOffset + address, length),
  },
  { bytesPerElement: 2, encode: toBf16, decode: fromBf16, view: shorts },
  { bytesPerElement: 2, encode: numberToFloat16, decode: float16ToNumber, view: shorts },
];
