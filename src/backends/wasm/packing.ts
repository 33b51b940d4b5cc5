import type { WeightDeclaration, WeightFormat } from '../../core/backend.ts';
import { UnsupportedError } from '../../core/errors.ts';
import { float16ToNumber } from '../../core/float16.ts';
import { QUANTISATION_GROUP as GROUP } from '../../core/quantise.ts';

/** Outputs in a panel. */
export const PANEL = 8;

/** Numbers by which the kernels know the formats. */
export const formatCodes: Readonly<Record<WeightFormat, number>> = { f32: 0, bf16: 1, f16: 2, q8: 3, q4: 4 };

/** Numbers by which the kernels that store and read whole parameters know the layouts. */
export const layoutCodes = { rows: 0, linear: 1, linearTransposed: 2 };

/** Whether a format is of integers with a scale for every 32. */
export const isQuantised = (format: WeightFormat): format is 'q8' | 'q4' => format === 'q8' || format === 'q4';

/** How a matrix lies in memory: panels of 8 outputs, [⌈O/8⌉][I][8], or of groups of 32 inputs (assembly/quantised.ts). */
export interface Packing {
  /** Outputs and inputs: a `linear` matrix is stored as [O, I], a `linearTransposed` one as [I, O]. */
  readonly O: number;
  readonly I: number;
  readonly bytes: number;
  /** The numbers that the kernels compute with, row-major as stored. */
  unpack(memory: Uint8Array, address: number): Float32Array;
}

/** Element i of output o, of a panel memory that begins at `at`. */
type Reader = (view: DataView, at: number, o: number, i: number) => number;

/** Bytes of a group of 8 outputs × 32 inputs: scales in f16, then integers. */
export const groupBytes = { q8: 2 * PANEL + PANEL * GROUP, q4: 2 * PANEL + (PANEL * GROUP) / 2 };
const elementBytes = { f32: 4, bf16: 2, f16: 2 };

/** The packing of a matrix; UnsupportedError for what is no matrix. */
export function packingOf({ name, shape, format, layout }: WeightDeclaration): Packing {
  const [rows, columns] = shape as [number, number];
  if (shape.length !== 2) throw new UnsupportedError(`${name} is read as a matrix but has ${shape.length} axes`);
  const [O, I] = layout === 'linear' ? [rows, columns] : [columns, rows];
  const panels = Math.ceil(O / PANEL);
  const bytes = isQuantised(format)
    ? panels * Math.ceil(I / GROUP) * groupBytes[format]
    : panels * I * PANEL * elementBytes[format];
  return {
    O,
    I,
    bytes,
    unpack(memory, address) {
      const view = new DataView(memory.buffer, memory.byteOffset + address, bytes);
      const read = isQuantised(format) ? groupReader(format, I) : plainReader(format, I);
      const values = new Float32Array(rows * columns);
      for (let n = 0; n < values.length; n++) {
        const [row, column] = [Math.floor(n / columns), n % columns];
        values[n] = layout === 'linear' ? read(view, 0, row, column) : read(view, 0, column, row);
      }
      return values;
    },
  };
}

const word = new DataView(new ArrayBuffer(4));

function plainReader(format: 'f32' | 'bf16' | 'f16', I: number): Reader {
  return (view, at, o, i) => {
    const element = Math.floor(o / PANEL) * I * PANEL + i * PANEL + (o % PANEL);
    if (format === 'f32') return view.getFloat32(at + 4 * element, true);
    const half = view.getUint16(at + 2 * element, true);
    if (format === 'f16') return float16ToNumber(half);
    word.setUint32(0, half << 16);
    return word.getFloat32(0);
  };
}

function groupReader(format: 'q8' | 'q4', I: number): Reader {
  const groups = Math.ceil(I / GROUP);
  return (view, at, o, i) => {
    const lane = o % PANEL;
    const k = i % GROUP;
    const group = at + (Math.floor(o / PANEL) * groups + Math.floor(i / GROUP)) * groupBytes[format];
    const scale = float16ToNumber(view.getUint16(group + 2 * lane, true));
    const integers = group + 2 * PANEL;
    if (format === 'q8') return view.getInt8(integers + (k >> 1) * 16 + lane * 2 + (k & 1)) * scale;
    const byte = view.getUint8(integers + (k >> 3) * 32 + lane * 4 + (k & 3));
    return (((byte >> (k & 4)) & 15) - 8) * scale;
  };
}

/** Rows that the quantised kernels take together, and bytes of a group of 32 inputs of their expanded panels. */
const TILE = 4;
const expandedBytes = { q8: 544, q4: 288 };

/**
 * Elements of scratch memory that products with a matrix in a format want: x in integers, and for each thread the panels that it expands
 * together (assembly/quantised.ts).
 */
export function productScratch(
  format: WeightFormat,
  rows: number,
  I: number,
  threads: number,
): { x: number; panels: number } {
  if (!isQuantised(format)) return { x: 0, panels: format === 'f32' ? 0 : threads * PANEL * I };
  const tiles = Math.ceil(rows / TILE) * TILE;
  const bytes = Math.ceil(I / GROUP) * expandedBytes[format];
  const together = Math.max(1, Math.min(16, Math.floor(131072 / bytes)));
  const x = rows > 1 ? tiles * integerElements(format, I) : threads * ownRow(format, I);
  return { x, panels: (threads * together * bytes) / 4 };
}

/** Elements of a row in integers: with a scale, or one for every group. */
function integerElements(format: 'q8' | 'q4', I: number): number {
  const groups = Math.ceil(I / GROUP);
  return format === 'q8' ? 1 + 16 * groups : 10 * groups;
}

/** Elements that a thread has of a row alone, to make integers of it for itself: these, and the normed row; whole cache lines. */
export function ownRow(format: 'q8' | 'q4', I: number): number {
  return 16 * Math.ceil((integerElements(format, I) + I) / 16);
}
