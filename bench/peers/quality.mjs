// Held-out loss by llama.cpp with matrices quantised by ggml's own rounding, to set beside bench/quality.mjs.
//   node bench/peers/quality.mjs [--models DIR] [--text FILE] [--tokens 65536] [--python python3] [--out bench/results/quality-llama-cpp.json]
// It needs node-llama-cpp (bench/peers/install.mjs) and a Python with the package gguf.
import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { load } from '../../dist/index.js';
import { riverrun } from '../command-line.mjs';
import { names, options, WINDOW, windowsOf } from '../held-out.mjs';
import { openLlamaCpp } from './llama-cpp.mjs';

const { values } = parseArgs({ options: { ...options, python: { type: 'string', default: 'python3' } } });
const kinds = { f32: 'F32', q8: 'Q8_0', q4: 'Q4_0' };
/** No token is left out, and none is made likelier. */
const everyToken = { temperature: 1, topK: 0, topP: 1, minP: 0 };
const script = fileURLToPath(new URL('./quantise.py', import.meta.url));

/** The windows by our tokenizer: the same for both engines. */
async function windowsFor(name) {
  const model = await load(join(values.models, name));
  const windows = windowsOf(model, values);
  model.dispose();
  return windows;
}

/** Mean −ln p of the windows' tokens, each window read anew. */
async function loss(file, windows) {
  const engine = await openLlamaCpp(file, { threads: 2, context: WINDOW });
  let [sum, count] = [0, 0];
  for (const window of windows) {
    await engine.sequence.clearHistory();
    const asked = window.slice(0, -1).map((token, t) => {
      const logits = { filter: { tokens: [window[t + 1]], includeTop: 1 } };
      return [token, { generateNext: { logits, totalLogitWeight: true, options: everyToken } }];
    });
    const told = await engine.sequence.controlledEvaluate(asked);
    for (const [t, { next }] of told.entries()) {
      const largest = Math.max(...next.logits.values());
      sum += Math.log(next.totalLogitWeight) + largest - next.logits.get(window[t + 1]);
      count++;
    }
  }
  await engine.close();
  return sum / count;
}

const folder = mkdtempSync(join(tmpdir(), 'riverrun-quality-'));
const rows = [];
try {
  for (const name of names) {
    const windows = await windowsFor(name);
    const plain = join(folder, 'f32.gguf');
    riverrun('convert', join(values.models, name), plain, '--type', 'f32', '-q');
    const row = { model: name };
    for (const [format, kind] of Object.entries(kinds)) {
      const file = format === 'f32' ? plain : join(folder, `${format}.gguf`);
      if (file !== plain)
        execFileSync(values.python, [script, plain, file, kind], { stdio: ['ignore', 'ignore', 'inherit'] });
      row[format] = await loss(file, windows);
    }
    rows.push(row);
    console.log(
      name,
      Object.values(row)
        .slice(1)
        .map((value) => value.toFixed(4))
        .join(' '),
    );
  }
} finally {
  rmSync(folder, { recursive: true });
}
if (values.out) {
  mkdirSync(dirname(values.out), { recursive: true });
  writeFileSync(values.out, `${JSON.stringify({ tokens: Number(values.tokens), rows }, null, 2)}\n`);
}
process.exit(0);
