// Held-out loss with matrices in f32, 8 and 4 bits; prints a table, and saves it with --out.
//   node bench/quality.mjs [--models DIR] [--text FILE] [--tokens 16384] [--out bench/results/quality.json]
import { mkdirSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { parseArgs } from 'node:util';
import { load } from '../dist/index.js';
import { names, options, WINDOW, windowsOf } from './held-out.mjs';

const { values } = parseArgs({ options });
const formats = ['f32', 'q8', 'q4'];

/** Mean −ln p of the text's tokens. */
async function loss(name, weights) {
  const model = await load(join(values.models, name), { weights });
  const V = model.vocabularySize;
  let sum = 0;
  let count = 0;
  for (const window of windowsOf(model, values)) {
    const session = model.session();
    const logits = await session.logitsOf(window.slice(0, -1));
    for (let t = 0; t < WINDOW - 1; t++) {
      const row = logits.subarray(t * V, (t + 1) * V);
      const largest = row.reduce((a, b) => Math.max(a, b), -Infinity);
      let total = 0;
      for (const value of row) total += Math.exp(value - largest);
      sum += Math.log(total) + largest - row[window[t + 1]];
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
