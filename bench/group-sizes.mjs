// Held-out loss with the numbers that 4 bits leave of matrices, for groups of 32, 64 and 128 that share a scale: the matrices of a copy
// of the model are quantised and read back, and it runs in f32, so that nothing else of the quantised product takes part.
//   node bench/group-sizes.mjs [--models DIR] [--text FILE] [--tokens 4096] [--threads 2] [--only tiny-books-llama,…] [--out FILE]
// FILE keeps what other runs found of other models.
import { cpSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { parseArgs } from 'node:util';
import { float16ToNumber } from '../dist/core/float16.js';
import { quantiseQ4 } from '../dist/core/quantise.js';
import { names, options } from './held-out.mjs';
import { heldOutLoss } from './held-out-loss.mjs';

const { values } = parseArgs({
  options: { ...options, tokens: { type: 'string', default: '4096' }, only: { type: 'string', default: names.join() } },
});
const SIZES = [32, 64, 128];
/** Matrices with fewer inputs or outputs are never held in 4 bits. */
const LEAST = 64;

/** Quantises a row's numbers in groups of `size` and reads them back. */
function regroup(row, size, integers) {
  for (let start = 0; start < row.length; start += size) {
    const group = row.subarray(start, start + size);
    const scale = float16ToNumber(quantiseQ4(group, group.length, integers));
    for (let k = 0; k < group.length; k++) group[k] = integers[k] * scale;
  }
}

/** Makes every matrix of a file in bf16 what groups of `size` numbers leave of it, and writes the file in f32. */
function quantiseFile(path, size) {
  const file = readFileSync(path);
  const length = Number(file.readBigUInt64LE());
  const header = JSON.parse(file.subarray(8, 8 + length).toString());
  const integers = new Int8Array(size);
  const parts = [];
  for (const one of Object.values(header).filter(({ shape }) => shape)) {
    if (one.dtype !== 'BF16') throw new Error(`${path}: a tensor is ${one.dtype}, where this program knows BF16`);
    const [from, to] = one.data_offsets.map((at) => 8 + length + at);
    const halves = new Uint16Array(Uint8Array.from(file.subarray(from, to)).buffer);
    const numbers = new Float32Array(Uint32Array.from(halves, (half) => half << 16).buffer);
    if (one.shape.length === 2 && Math.min(...one.shape) >= LEAST)
      for (let at = 0; at < numbers.length; at += one.shape[1])
        regroup(numbers.subarray(at, at + one.shape[1]), size, integers);
    one.dtype = 'F32';
    one.data_offsets = one.data_offsets.map((at) => 2 * at);
    parts.push({ at: one.data_offsets[0], bytes: Buffer.from(numbers.buffer) });
  }
  const told = JSON.stringify(header);
  const text = Buffer.from(told.padEnd(8 * Math.ceil(told.length / 8)));
  const data = Buffer.alloc(2 * (file.length - 8 - length));
  for (const { at, bytes } of parts) bytes.copy(data, at);
  const start = Buffer.alloc(8);
  start.writeBigUInt64LE(BigInt(text.length));
  writeFileSync(path, Buffer.concat([start, text, data]));
}

const folder = mkdtempSync(join(tmpdir(), 'riverrun-groups-'));
const rows = [];
try {
  for (const model of values.only.split(',')) {
    const row = { model, f32: (await heldOutLoss(join(values.models, model), 'f32', values)).loss };
    for (const size of SIZES) {
      const copy = join(folder, `${model}-${size}`);
      cpSync(join(values.models, model), copy, { recursive: true });
      quantiseFile(join(copy, 'model.safetensors'), size);
      row[size] = (await heldOutLoss(copy, 'f32', values)).loss;
      rmSync(copy, { recursive: true });
    }
    rows.push(row);
    console.log(
      `${model}: ${SIZES.map((size) => `${size} +${(100 * (row[size] / row.f32 - 1)).toFixed(2)} %`).join(' · ')}`,
    );
  }
} finally {
  rmSync(folder, { recursive: true });
}
if (values.out) {
  const before = existsSync(values.out) ? JSON.parse(readFileSync(values.out, 'utf8')).rows : [];
  const kept = before.filter(({ model }) => rows.every((row) => row.model !== model));
  mkdirSync(dirname(values.out), { recursive: true });
  writeFileSync(
    values.out,
    `${JSON.stringify({ tokens: Number(values.tokens), rows: [...kept, ...rows] }, null, 2)}\n`,
  );
}
