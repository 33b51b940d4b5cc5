// How soon there is a first token, and how long a model takes to load, beside reading its file: the best of some runs.
//   node bench/start.mjs [--shapes DIR] [--runs 5] [--out bench/results/start.json]
import { execFileSync } from 'node:child_process';
import { closeSync, mkdirSync, mkdtempSync, openSync, readSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { cpus, tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { load } from '../dist/index.js';
import { riverrun } from './command-line.mjs';

const { values } = parseArgs({
  options: {
    shapes: { type: 'string', default: join(tmpdir(), 'riverrun-shapes') },
    runs: { type: 'string', default: '5' },
    out: { type: 'string' },
  },
});
const SHAPE = 'mamba-130m';

/** The least seconds of some runs. */
async function seconds(run) {
  let best = Infinity;
  for (let n = 0; n < Number(values.runs); n++) {
    const start = performance.now();
    await run();
    best = Math.min(best, (performance.now() - start) / 1000);
  }
  return best;
}

const main = fileURLToPath(new URL('../dist/cli/main.js', import.meta.url));
const prompt = ['generate', 'Once upon a time', '--max-tokens', '1', '-q'];
const firstToken = await seconds(() => execFileSync(process.execPath, [main, ...prompt], { stdio: 'ignore' }));
console.log(`first token of the embedded model, with the process: ${firstToken.toFixed(2)} s`);

/** Nothing is done with the bytes. */
function readFile(path) {
  const buffer = Buffer.alloc(1 << 20);
  const file = openSync(path);
  while (readSync(file, buffer) > 0);
  closeSync(file);
}

const work = mkdtempSync(join(tmpdir(), 'riverrun-start-'));
const loads = [];
try {
  const plain = join(values.shapes, SHAPE);
  for (const type of ['q8', 'q4']) riverrun('convert', plain, join(work, type), '--type', type, '-q');
  for (const [file, folder, weights] of [
    ['f32', plain, 'f32'],
    ['f32', plain, 'q8'],
    ['f32', plain, 'q4'],
    ['q8', join(work, 'q8'), 'auto'],
    ['q4', join(work, 'q4'), 'auto'],
  ]) {
    const path = join(folder, 'model.safetensors');
    const held = weights === 'auto' ? file : weights;
    const reading = await seconds(() => readFile(path));
    const loading = await seconds(async () => (await load(folder, { weights })).dispose());
    loads.push({ file, held, bytes: statSync(path).size, reading, loading });
    console.log(`${file} held as ${held}: read in ${reading.toFixed(2)} s, loaded in ${loading.toFixed(2)} s`);
  }
} finally {
  rmSync(work, { recursive: true });
}
if (values.out) {
  mkdirSync(dirname(values.out), { recursive: true });
  const machine = { cpu: cpus()[0].model, cores: cpus().length, node: process.version };
  writeFileSync(values.out, `${JSON.stringify({ machine, firstToken, shape: SHAPE, loads }, null, 2)}\n`);
}
