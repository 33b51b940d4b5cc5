// How reading scales with threads: one and two take turns in one process, for every shape and format. The best, the median and the
// worst of the rounds are told, and the ratio of the best and of the medians.
//   node bench/threads.mjs [--shapes DIR] [--rounds 5] [--out bench/results/threads.json]
import { mkdirSync, writeFileSync } from 'node:fs';
import { cpus, tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { parseArgs } from 'node:util';
import { Random } from '../dist/core/random.js';
import { load } from '../dist/index.js';

const { values } = parseArgs({
  options: {
    shapes: { type: 'string', default: join(tmpdir(), 'riverrun-shapes') },
    rounds: { type: 'string', default: '5' },
    out: { type: 'string' },
  },
});
const TOKENS = 512;

async function tokensPerSecond(model, tokens) {
  const session = model.session();
  const start = performance.now();
  await session.read(tokens);
  const seconds = (performance.now() - start) / 1000;
  session.dispose();
  return tokens.length / seconds;
}

/** The best, the median and the worst of some speeds. */
function spread(speeds) {
  const sorted = speeds.toSorted((a, b) => b - a);
  return { best: sorted[0], median: sorted[sorted.length >> 1], worst: sorted.at(-1) };
}

const rows = [];
for (const shape of ['mamba-130m', 'mamba2-130m', 'rwkv7-0.19b', 'llama-160m'])
  for (const weights of ['q4', 'q8']) {
    const models = [];
    for (const threads of [1, 2]) models.push(await load(join(values.shapes, shape), { weights, threads }));
    const random = new Random(1);
    const tokens = Array.from({ length: TOKENS }, () => random.integer(models[0].vocabularySize));
    const speeds = [[], []];
    for (let round = 0; round < Number(values.rounds); round++)
      for (const i of round % 2 === 0 ? [0, 1] : [1, 0]) speeds[i].push(await tokensPerSecond(models[i], tokens));
    for (const model of models) model.dispose();
    const [one, two] = speeds.map(spread);
    rows.push({ shape, weights, one: one.best, two: two.best, rounds: { one, two } });
    const told = ({ best, median, worst }) => [best, median, worst].map((speed) => speed.toFixed(0)).join(' · ');
    console.log(
      `| ${shape} | ${weights} | ${told(one)} | ${told(two)} | ${(two.best / one.best).toFixed(2)} | ${(two.median / one.median).toFixed(2)} |`,
    );
    if (!values.out) continue;
    mkdirSync(dirname(values.out), { recursive: true });
    const machine = { cpu: cpus()[0].model, cores: cpus().length, node: process.version };
    writeFileSync(values.out, `${JSON.stringify({ tokens: TOKENS, machine, rows }, null, 2)}\n`);
  }
