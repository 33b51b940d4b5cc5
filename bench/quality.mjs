// Held-out loss with matrices in f32, 8 and 4 bits; prints a table, and saves it with --out.
//   node bench/quality.mjs [--models DIR] [--text FILE] [--tokens 16384] [--out bench/results/quality.json]
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { parseArgs } from 'node:util';
import { load } from '../dist/index.js';

const { values } = parseArgs({
  options: {
    models: { type: 'string', default: '../shared/models' },
    text: { type: 'string', default: '../shared/data/books/held-out.txt' },
    tokens: { type: 'string', default: '16384' },
    out: { type: 'string' },
  },
});
const names = ['mamba', 'mamba2', 'rwkv7', 'llama', 'mamba-13m'].map((name) => `tiny-books-${name}`);
const formats = ['f32', 'q8', 'q4'];
/** Every model reads windows of this length, each from the beginning: what the Transformer was trained on. */
const WINDOW = 512;
const text = readFileSync(values.text, 'utf8');

/** Mean −ln p of the text's tokens. */
async function loss(name, weights) {
  const model = await load(join(values.models, name), { weights });
  const ids = model.tokenizer.encode(text.slice(0, 8 * Number(values.tokens))).slice(0, Number(values.tokens));
  const V = model.vocabularySize;
  let sum = 0;
  let count = 0;
  for (let start = 0; start + WINDOW <= ids.length; start += WINDOW) {
    const session = model.session();
    const logits = await session.logitsOf(ids.slice(start, start + WINDOW - 1));
    for (let t = 0; t < WINDOW - 1; t++) {
      const row = logits.subarray(t * V, (t + 1) * V);
      const largest = row.reduce((a, b) => Math.max(a, b), -Infinity);
      let total = 0;
      for (const value of row) total += Math.exp(value - largest);
      sum += Math.log(total) + largest - row[ids[start + t + 1]];
      count++;
    }
    session.dispose();
  }
  model.dispose();
  return { loss: sum / count, tokens: count };
}

const rows = [];
for (const name of names) {
  const row = { model: name };
  for (const format of formats) {
    const { loss: value, tokens } = await loss(name, format);
    row[format] = value;
    row.tokens = tokens;
  }
  rows.push(row);
  const worse = (format) => `${(100 * (row[format] / row.f32 - 1)).toFixed(3)} %`;
  console.log(
    `${name}: f32 ${row.f32.toFixed(4)} · q8 ${row.q8.toFixed(4)} (${worse('q8')}) · q4 ${row.q4.toFixed(4)} (${worse('q4')})`,
  );
}
if (values.out) {
  mkdirSync(dirname(values.out), { recursive: true });
  writeFileSync(values.out, `${JSON.stringify({ window: WINDOW, rows }, null, 2)}\n`);
}
