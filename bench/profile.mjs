// Where the time of a token goes, kernel by kernel, beside what the machine allows: multiply-adds of products over the rate of their
// kernels for reading, bytes over memory's bandwidth for generating. Both are measured in every round, in turns with what they bound.
//   node bench/profile.mjs [--shapes mamba-130m,…] [--bits q4,q8] [--threads 2] [--tokens 1024] [--steps 32] [--rounds 3]
//                          [--folder DIR] [--out FILE]   (FILE keeps what other runs found of other shapes, bits and Nodes)
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { cpus, tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { parseArgs } from 'node:util';
import { load } from '../dist/index.js';
import { MachineLimits } from '../dist/platform/machine-limits.js';
import { productsPerToken, shapes, writeShape } from './shapes.mjs';

const { values } = parseArgs({
  options: {
    shapes: { type: 'string', default: Object.keys(shapes).join() },
    bits: { type: 'string', default: 'q4,q8' },
    threads: { type: 'string', default: '2' },
    tokens: { type: 'string', default: '1024' },
    steps: { type: 'string', default: '32' },
    rounds: { type: 'string', default: '3' },
    folder: { type: 'string', default: join(tmpdir(), 'riverrun-shapes') },
    tokenizers: { type: 'string', default: '../shared/tokenizers' },
    out: { type: 'string' },
  },
});
const [threads, count, steps, rounds] = ['threads', 'tokens', 'steps', 'rounds'].map((name) => Number(values[name]));
const tokens = Array.from({ length: count }, (_, i) => (i * 7919) % 50000);
const warm = 16;

/**
 * The best of some rounds, in µs a token: the whole without looking, and each kernel in a run that looks; and the best that the machine
 * did in turns with them.
 */
async function profile(model, bits, perRound, prepare, run) {
  let whole = Infinity;
  const kernels = {};
  const limits = { bandwidth: 0, multiplyAdds: 0 };
  for (let round = 0; round < rounds; round++) {
    const turn = await machine.measure([bits]);
    limits.bandwidth = Math.max(limits.bandwidth, turn.bandwidth);
    limits.multiplyAdds = Math.max(limits.multiplyAdds, turn.multiplyAdds.get(bits));
    for (const isTold of [false, true]) {
      const session = model.session();
      await prepare(session);
      const seconds = new Map();
      if (isTold) model.profile(seconds);
      const start = performance.now();
      await run(session);
      if (!isTold) whole = Math.min(whole, (1000 * (performance.now() - start)) / perRound);
      model.profile(undefined);
      session.dispose();
      for (const [kernel, time] of seconds)
        kernels[kernel] = Math.min(kernels[kernel] ?? Infinity, (1e6 * time) / perRound);
    }
  }
  return { whole, kernels, limits };
}

const machine = new MachineLimits(threads);
const rows = [];
for (const shape of values.shapes.split(',')) {
  const folder = join(values.folder, shape);
  if (!existsSync(join(folder, 'config.json'))) await writeShape(shape, folder, values.tokenizers);
  for (const bits of values.bits.split(',')) {
    const model = await load(folder, { weights: bits, threads });
    const reading = await profile(
      model,
      bits,
      count,
      () => {},
      (session) => session.read(tokens),
    );
    const generating = await profile(
      model,
      bits,
      steps,
      async (session) => {
        for (let i = 0; i < warm; i++) await session.step(tokens[i]);
      },
      async (session) => {
        for (let i = 0; i < steps; i++) await session.step(tokens[warm + i]);
      },
    );
    const { weights, state, statePerToken } = model.bytesPerToken;
    model.dispose();
    reading.bound = (1e6 * productsPerToken(shape)) / reading.limits.multiplyAdds;
    generating.bound = (1e6 * (weights + state + warm * statePerToken)) / generating.limits.bandwidth;
    rows.push({ shape, bits, node: process.version, threads, reading, generating });
    for (const [what, { whole, bound, kernels }] of Object.entries({ reading, generating })) {
      const sum = Object.values(kernels).reduce((a, b) => a + b, 0);
      const shares = Object.entries(kernels)
        .sort(([, a], [, b]) => b - a)
        .map(([kernel, time]) => `${kernel} ${((100 * time) / sum).toFixed(1)} %`);
      console.log(
        `${shape} ${bits} ${what}: ${whole.toFixed(0)} µs a token, bound ${bound.toFixed(0)}: ${shares.join(', ')}`,
      );
    }
  }
}
if (values.out) {
  const isOf = (row) =>
    rows.some(({ shape, bits, node }) => shape === row.shape && bits === row.bits && node === row.node);
  const before = existsSync(values.out) ? JSON.parse(readFileSync(values.out, 'utf8')).rows : [];
  const processor = { cpu: cpus()[0].model, cores: cpus().length };
  mkdirSync(dirname(values.out), { recursive: true });
  const kept = before.filter((row) => !isOf(row));
  writeFileSync(values.out, `${JSON.stringify({ machine: processor, rows: [...kept, ...rows] }, null, 2)}\n`);
}
process.exit(0);
