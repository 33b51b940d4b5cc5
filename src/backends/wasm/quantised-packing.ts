import type { WeightDeclaration } from '../../core/backend.ts';
import { UnsupportedError } from '../../core/errors.ts';
import { float16ToNumber } from '../../core/float16.ts';
import {
  QUANTISATION_GROUP as GROUP,
  type QuantisedMatrix,
  quantiseQ4,
  quantiseQ8,
  readGroup,
} from '../../core/quantise.ts';
import type { Packing } from './packing.ts';

/** Outputs in a panel. */
const PANEL = 8;
/** A panel's group starts with its scales. */
const SCALE_BYTES = 2 * PANEL;

/** How a group of 32 integers of one output lies among those of its panel. */
interface GroupLayout {
  readonly bytes: number;
  readonly quantise: (values: Float32Array, count: number, integers: Int8Array) => number;
  store(integers: Int8Array, memory: Uint8Array, at: number, lane: number): void;
  load(integers: Int8Array, memory: Uint8Array, at: number, lane: number): void;
}

const layouts: Readonly<Record<'q8' | 'q4', GroupLayout>> = {
  /** [16][8 outputs][2 numbers]. */
  q8: {
    bytes: SCALE_BYTES + PANEL * GROUP,
    quantise: quantiseQ8,
    store(integers, memory, at, lane) {
      for (let k = 0; k < GROUP; k++) memory[at + (k >> 1) * 16 + lane * 2 + (k & 1)] = integers[k]!;
    },
    load(integers, memory, at, lane) {
      for (let k = 0; k < GROUP; k++) integers[k] = memory[at + (k >> 1) * 16 + lane * 2 + (k & 1)]!;
    },
  },
  /** [4][8 outputs][4 bytes], each with two numbers four places apart, plus 8. */
  q4: {
    bytes: SCALE_BYTES + (PANEL * GROUP) / 2,
    quantise: quantiseQ4,
    store(integers, memory, at, lane) {
      for (let k = 0; k < GROUP; k += (k & 3) === 3 ? 5 : 1)
        memory[at + (k >> 3) * 32 + lane * 4 + (k & 3)] = (integers[k]! + 8) | ((integers[k + 4]! + 8) << 4);
    },
    load(integers, memory, at, lane) {
      for (let k = 0; k < GROUP; k++) {
        const byte = memory[at + (k >> 3) * 32 + lane * 4 + (k & 3)]!;
        integers[k] = ((byte >> (k & 4)) & 15) - 8;
      }
    },
  },
};

/** Bytes of a matrix [O, I] in panels. */
export function quantisedBytes(format: 'q8' | 'q4', O: number, I: number): number {
  return Math.ceil(O / PANEL) * Math.ceil(I / GROUP) * layouts[format].bytes;
}

/**
 * Panels of 8 outputs for the kernels `linearQ8` and `linearQ4`: [⌈O/8⌉][⌈I/32⌉] groups of 8 f16 scales and the integers
 * of 8 × 32 numbers. A `linear` matrix is [O, I]; of a `linearTransposed` one, [I, O], whole groups of 32 rows must be
 * packed at a time, the last ones excepted.
 */
export function quantisedPacking(declaration: WeightDeclaration): Packing {
  const { name, shape, format, layout } = declaration;
  if (format !== 'q8' && format !== 'q4') throw new UnsupportedError(`${name} is ${format}, not q8 or q4`);
  const [rows, columns] = shape as [number, number];
  const [O, I] = layout === 'linear' ? [rows, columns] : [columns, rows];
  const groups = Math.ceil(I / GROUP);
  const { quantise } = layouts[format];
  const element = (o: number, i: number): number => (layout === 'linear' ? o * I + i : i * O + o);
  const place = groupPlacer(format, groups);
  const values = new Float32Array(GROUP);
  const integers = new Int8Array(GROUP);
  return {
    bytes: quantisedBytes(format, O, I),
    pack(source, start, memory, address) {
      const [firstRow, pastRow] = [start / columns, (start + source.length) / columns];
      const whole = layout === 'linear' || (firstRow % GROUP === 0 && (pastRow % GROUP === 0 || pastRow === rows));
      if (!Number.isInteger(firstRow) || !Number.isInteger(pastRow) || !whole)
        throw new UnsupportedError(
          `${name} [${rows}, ${columns}] is packed as ${format} by whole ${layout === 'linear' ? 'rows' : `groups of ${GROUP} rows`}, not by elements ${start} to ${start + source.length}`,
        );
      const [firstOutput, pastOutput] = layout === 'linear' ? [firstRow, pastRow] : [0, O];
      const [firstGroup, pastGroup] =
        layout === 'linear' ? [0, groups] : [firstRow / GROUP, Math.ceil(pastRow / GROUP)];
      for (let o = firstOutput; o < pastOutput; o++) {
        for (let g = firstGroup; g < pastGroup; g++) {
          const count = Math.min(GROUP, I - g * GROUP);
          for (let k = 0; k < count; k++) values[k] = source[element(o, g * GROUP + k) - start]!;
          const scale = quantise(values, count, integers);
          place(integers, scale, memory, address, o, g);
        }
      }
    },
    unpack(memory, address) {
      const result = new Float32Array(rows * columns);
      const view = new DataView(memory.buffer, memory.byteOffset + address);
      for (let o = 0; o < O; o++) {
        for (let g = 0; g < groups; g++) {
          const at = groupStart(format, groups, o, g);
          const scale = float16ToNumber(view.getUint16(at + 2 * (o % PANEL), true));
          layouts[format].load(integers, memory, address + at + SCALE_BYTES, o % PANEL);
          const count = Math.min(GROUP, I - g * GROUP);
          for (let k = 0; k < count; k++) result[element(o, g * GROUP + k)] = integers[k]! * scale;
        }
      }
      return result;
    },
  };
}

/** Packs a matrix [O, I] from the form of files, without quantising again. */
export function packQuantised(
  matrix: QuantisedMatrix,
  O: number,
  I: number,
  memory: Uint8Array,
  address: number,
): void {
  const groups = Math.ceil(I / GROUP);
  const place = groupPlacer(matrix.format, groups);
  const integers = new Int8Array(GROUP);
  for (let o = 0; o < O; o++) {
    for (let g = 0; g < groups; g++) {
      readGroup(matrix, I, o, g, integers);
      place(integers, matrix.scales[o * groups + g]!, memory, address, o, g);
    }
  }
}

/** Where the group `g` of output `o`'s panel starts. */
function groupStart(format: 'q8' | 'q4', groups: number, o: number, g: number): number {
  return (Math.floor(o / PANEL) * groups + g) * layouts[format].bytes;
}

function groupPlacer(format: 'q8' | 'q4', groups: number) {
  const { store } = layouts[format];
  return (integers: Int8Array, scale: number, memory: Uint8Array, address: number, o: number, g: number): void => {
    const at = address + groupStart(format, groups, o, g);
    const lane = o % PANEL;
    memory[at + 2 * lane] = scale & 255;
    memory[at + 2 * lane + 1] = scale >> 8;
    store(integers, memory, at + SCALE_BYTES, lane);
  };
}
