// Two builds of this repository against each other on the same random weights, in one process, in short turns: how many times as fast
// the second generates and reads, as medians and quartiles of the ratios of neighbouring turns. What a change of kernels or plans is worth.
//   node bench/builds.mjs OLD NEW [--shapes mamba-130m,…] [--bits q4,q8] [--threads 2] [--seconds 10] [--tokens 256] [--folder DIR] [--out FILE]
// OLD and NEW are work trees in which npm run build was run. FILE keeps what other runs found of other shapes, bits, threads and Nodes.
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { cpus, tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { writeShape } from './shapes.mjs';

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    shapes: { type: 'string', default: 'mamba-130m,llama-160m' },
    bits: { type: 'string', default: 'q4,q8' },
    threads: { type: 'string', default: '2' },
    seconds: { type: 'string', default: '10' },
    tokens: { type: 'string', default: '256' },
    folder: { type: 'string', default: join(tmpdir(), 'riverrun-shapes') },
    tokenizers: { type: 'string', default: '../shared/tokenizers' },
    out: { type: 'string' },
  },
});
if (positionals.length !== 2) throw new Error('usage: node bench/builds.mjs OLD NEW');
const builds = await Promise.all(positionals.map((tree) => import(resolve(tree, 'dist/index.js'))));
const [threads, seconds, count] = ['threads', 'seconds', 'tokens'].map((name) => Number(values[name]));
const tokens = Array.from({ length: count }, (_, i) => (i * 7919) % 50000);

/** Tokens of a turn of generating, behind one that is not timed; and turns after which sessions begin anew. */
const [TURN, TURNS] = [6, 40];

const at = (sorted, part) => +sorted[Math.floor(sorted.length * part)].toFixed(3);

/** Runs both in turns, `turn(i)` giving milliseconds, and which goes first in turns, too. */
async function ratios(turn) {
  const found = [];
  const end = performance.now() + 1000 * seconds;
  for (let n = 0; performance.now() < end; n++) {
    const ms = [];
    for (const i of n % 2 === 0 ? [0, 1] : [1, 0]) ms[i] = await turn(i, n);
    // The first warms up.
    if (n > 0) found.push(ms[0] / ms[1]);
  }
  found.sort((a, b) => a - b);
  return { median: at(found, 0.5), quartiles: [at(found, 0.25), at(found, 0.75)], turns: found.length };
}

async function timed(run) {
  const start = performance.now();
  await run();
  return performance.now() - start;
}

const rows = [];
for (const shape of values.shapes.split(',')) {
  const folder = join(values.folder, shape);
  if (!existsSync(join(folder, 'config.json'))) await writeShape(shape, folder, values.tokenizers);
  for (const bits of values.bits.split(',')) {
    const models = [];
    for (const { load } of builds) models.push(await load(folder, { weights: bits, threads }));
    const sessions = [];
    const generating = await ratios(async (i, n) => {
      if (n % TURNS === 0) {
        sessions[i]?.dispose();
        sessions[i] = models[i].session();
        for (let k = 0; k < TURN; k++) await sessions[i].step(tokens[k]);
      }
      await sessions[i].step(tokens[0]);
      return await timed(async () => {
        for (let k = 0; k < TURN; k++) await sessions[i].step(tokens[k]);
      });
    });
    const reading = await ratios(async (i) => {
      const session = models[i].session();
      const ms = await timed(() => session.read(tokens));
      session.dispose();
      return ms;
    });
    for (const model of models) model.dispose();
    rows.push({ shape, bits, threads, node: process.version, generating, reading });
    const told = ({ median, quartiles, turns }) => `${median} (${quartiles.join(' to ')}, ${turns} turns)`;
    console.log(
      `${process.version} ${shape} ${bits}, ${threads} threads: generating ${told(generating)}, reading ${told(reading)}`,
    );
  }
}
if (values.out) {
  const isOf = (row) => rows.some((one) => ['shape', 'bits', 'threads', 'node'].every((key) => one[key] === row[key]));
  const before = existsSync(values.out) ? JSON.parse(readFileSync(values.out, 'utf8')).rows : [];
  const kept = before.filter((row) => !isOf(row));
  const machine = { cpu: cpus()[0].model, cores: cpus().length };
  mkdirSync(dirname(values.out), { recursive: true });
  writeFileSync(values.out, `${JSON.stringify({ machine, rows: [...kept, ...rows] }, null, 2)}\n`);
}
process.exit(0);
