// Held-out loss with matrices in f32, 8 and 4 bits, and of Transformers with keys and values in f16 beside matrices in f32; prints a
// table, and saves it with --out.
//   node bench/quality.mjs [--models DIR] [--text FILE] [--tokens 65536] [--threads 2] [--only tiny-books-mamba,…] [--out bench/results/quality.json]
// FILE of --out keeps what other runs found of other models.
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { parseArgs } from 'node:util';
import { byteModels, names, options, WINDOW } from './held-out.mjs';
import { heldOutLoss } from './held-out-loss.mjs';

const { values } = parseArgs({ options: { ...options, only: { type: 'string' } } });
const all = [...names, ...byteModels];
const shortName = (path) => basename(path, '.bin');
const wanted = values.only?.split(',') ?? all.map(shortName);
const formats = ['f32', 'q8', 'q4'];

const rows = [];
for (const name of all) {
  if (!wanted.includes(shortName(name))) continue;
  const row = { model: shortName(name) };
  let hasKeys = false;
  for (const format of formats) {
    const { loss: value, tokens, hasAttention } = await heldOutLoss(join(values.models, name), format, values);
    row[format] = value;
    row.tokens = tokens;
    hasKeys = hasAttention;
  }
  if (hasKeys) row.kvCacheF16 = (await heldOutLoss(join(values.models, name), 'f32', values, 'f16')).loss;
  rows.push(row);
  const worse = (format) => `${(100 * (row[format] / row.f32 - 1)).toFixed(3)} %`;
  console.log(
    `${row.model}: f32 ${row.f32.toFixed(4)} · q8 ${row.q8.toFixed(4)} (${worse('q8')}) · q4 ${row.q4.toFixed(4)} (${worse('q4')})${hasKeys ? ` · keys and values in f16 ${row.kvCacheF16.toFixed(5)} (${worse('kvCacheF16')})` : ''}`,
  );
}
if (values.out) {
  mkdirSync(dirname(values.out), { recursive: true });
  const before = existsSync(values.out) ? JSON.parse(readFileSync(values.out, 'utf8')).rows : [];
  const found = [...before.filter(({ model }) => !wanted.includes(model)), ...rows];
  writeFileSync(values.out, `${JSON.stringify({ window: WINDOW, rows: found }, null, 2)}\n`);
}
