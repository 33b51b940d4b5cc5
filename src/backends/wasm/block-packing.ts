import { type Blocks, formatOfBlocks } from '../../core/backend.ts';
import { QUANTISATION_GROUP as GROUP } from '../../core/quantise.ts';
import { groupBytes, PANEL } from './packing.ts';

const LOW = 0x0f0f0f0f;
const HIGH = 0xf0f0f0f0;

/**
 * Puts rows of blocks, from row `row` on, where the kernels want them: groups of 8 outputs, first their scales, then their
 * integers (`packing.ts`). No number changes.
 */
export function packBlocks({ type, bytes }: Blocks, I: number, memory: Uint8Array, address: number, row: number): void {
  const format = formatOfBlocks[type];
  const groups = I / GROUP;
  // Eight rows' blocks are a group of a panel.
  const size = groupBytes[format] / PANEL;
  const source = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const target = new DataView(memory.buffer, memory.byteOffset, memory.byteLength);
  const rows = bytes.length / size / groups;
  for (let r = 0; r < rows; r++) {
    const lane = (row + r) % PANEL;
    const panel = address + Math.floor((row + r) / PANEL) * groups * groupBytes[format];
    for (let g = 0; g < groups; g++) {
      const from = (r * groups + g) * size;
      const to = panel + g * groupBytes[format];
      target.setUint16(to + 2 * lane, source.getUint16(from, true), true);
      if (format === 'q8') packBytes(source, from + 2, target, to + 2 * PANEL + 2 * lane);
      else packHalves(source, from + 2, target, to + 2 * PANEL + 4 * lane);
    }
  }
}

/** 32 bytes become pairs, those of the eight outputs side by side. */
function packBytes(source: DataView, from: number, target: DataView, to: number): void {
  for (let k = 0; k < GROUP; k += 4) {
    const word = source.getUint32(from + k, true);
    target.setUint16(to + (k >> 1) * 2 * PANEL, word & 0xffff, true);
    target.setUint16(to + ((k >> 1) + 1) * 2 * PANEL, word >>> 16, true);
  }
}

/** Of bytes with numbers j and j + 16 come bytes with numbers four places apart, four of each output side by side. */
function packHalves(source: DataView, from: number, target: DataView, to: number): void {
  for (let half = 0; half < 2; half++) {
    const first = source.getUint32(from + 8 * half, true);
    const second = source.getUint32(from + 8 * half + 4, true);
    target.setUint32(to + half * 4 * PANEL, (first & LOW) | ((second & LOW) << 4), true);
    target.setUint32(to + (half + 2) * 4 * PANEL, ((first >>> 4) & LOW) | (second & HIGH), true);
  }
}
