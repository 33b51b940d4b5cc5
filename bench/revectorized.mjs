// How much faster kernels are when V8 fuses them to 256 bits, on Node 24 or newer: processes with and without take turns.
//   node bench/revectorized.mjs [--shapes DIR] [--only llama-160m,…] [--weights f32,q8,q4] [--rounds 2] [--out bench/results/revectorized.json]
// The file keeps what other runs found of other shapes and weights.
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { parseArgs } from 'node:util';
import { device } from '../dist/index.js';
import { flags, riverrun } from './command-line.mjs';

const { values } = parseArgs({
  options: {
    shapes: { type: 'string', default: join(tmpdir(), 'riverrun-shapes') },
    only: { type: 'string', default: 'mamba-130m,mamba2-130m,rwkv7-0.19b,llama-160m' },
    weights: { type: 'string', default: 'f32,q8,q4' },
    rounds: { type: 'string', default: '2' },
    out: { type: 'string' },
  },
});
const { cpu, cores, node, revectorization } = await device();
if (!revectorization.on) throw new Error(`there is nothing to compare here: ${revectorization.reason}`);

function measure(shape, weights, isOn) {
  const sizes = { threads: 2, prefill: 512, decode: 16, rounds: 2 };
  const model = ['--model', join(values.shapes, shape), '--weights', weights, '-q'];
  const [result] = riverrun('bench', ...model, ...flags(sizes), ...(isOn ? [] : ['--no-revectorize']));
  if (result.machine.isRevectorized !== isOn) throw new Error('the switch was not heard');
  return [result.prefillTokensPerSecond, result.decodeTokensPerSecond];
}

const rows = values.out && existsSync(values.out) ? JSON.parse(readFileSync(values.out, 'utf8')).rows : [];
for (const shape of values.only.split(','))
  for (const weights of values.weights.split(',')) {
    const best = { true: [0, 0], false: [0, 0] };
    for (let round = 0; round < Number(values.rounds); round++)
      for (const isOn of round % 2 === 0 ? [true, false] : [false, true])
        best[isOn] = measure(shape, weights, isOn).map((speed, i) => Math.max(speed, best[isOn][i]));
    const [reading, generating] = best.true.map((speed, i) => speed / best.false[i]);
    const known = rows.findIndex((row) => row.shape === shape && row.weights === weights);
    rows.splice(known < 0 ? rows.length : known, 1, { shape, weights, reading, generating });
    console.log(`| ${shape} | ${weights} | ${reading.toFixed(2)} | ${generating.toFixed(2)} |`);
    if (!values.out) continue;
    mkdirSync(dirname(values.out), { recursive: true });
    writeFileSync(values.out, `${JSON.stringify({ machine: { cpu, cores, node }, rows }, null, 2)}\n`);
  }
