// What choosing a token from logits takes, by the filters and by how far logits lie apart, beside a look for the largest; and what generating
// loses to it.
//   node bench/sampling.mjs [--shapes DIR] [--out bench/results/sampling.json]   (FILE keeps what other Nodes found)
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { cpus, tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { parseArgs } from 'node:util';
import { device, load } from '../dist/index.js';
import { sample } from '../dist/ops/sample.js';

const { values } = parseArgs({
  options: { shapes: { type: 'string', default: join(tmpdir(), 'riverrun-shapes') }, out: { type: 'string' } },
});
const V = 65_536;
const ROUNDS = 40;
const SHAPE = 'mamba-130m';
const TOKENS = 48;
const off = { temperature: 0.8, topK: 0, topP: 1, minP: 0, typicalP: 1 };
const filters = {
  greedy: { temperature: 0 },
  temperature: {},
  'top-k 40': { topK: 40 },
  'top-p 0.9': { topP: 0.9 },
  'min-p 0.05': { minP: 0.05 },
  'typical-p 0.9': { typicalP: 0.9 },
};

let seed = 1;
/** xorshift32, in [0, 1). */
function uniform() {
  seed ^= seed << 13;
  seed ^= seed >>> 17;
  seed ^= seed << 5;
  return (seed >>> 0) / 2 ** 32;
}
const normal = () => Math.sqrt(-2 * Math.log(uniform() + 1e-12)) * Math.cos(2 * Math.PI * uniform());

/** Logits of a token: normal, and those of which many have nearly the same or the very same. */
const shapes = {
  'spread 3': () => 3 * normal(),
  'spread 1': normal,
  'spread 0.3': () => 0.3 * normal(),
  'one 8 above a spread of 0.02': (v) => (v === 7 ? 8 : 0.02 * normal()),
  'spread 10⁻¹³': () => 1e-13 * normal(),
  equal: () => 0,
};

/** Milliseconds of a choice, the best of the rounds in which all filters take turns. */
function choosing(logit) {
  const logits = Float32Array.from({ length: V }, (_, v) => logit(v));
  const best = Object.fromEntries(Object.keys(filters).map((name) => [name, Infinity]));
  for (let round = 0; round < ROUNDS; round++)
    for (const [name, filter] of Object.entries(filters)) {
      const u = uniform();
      const start = performance.now();
      sample(logits, { ...off, ...filter }, u);
      best[name] = Math.min(best[name], performance.now() - start);
    }
  return best;
}

/** Tokens a second of generating with each filter, and of steps on given tokens, the best of the rounds in turns. */
async function generating() {
  const model = await load(join(values.shapes, SHAPE), { weights: 'q4', threads: 2 });
  const prompt = Array.from({ length: 16 }, () => Math.floor(uniform() * 50_000));
  const rate = async (run) => {
    const session = model.session();
    await session.read(prompt);
    const start = performance.now();
    const tokens = await run(session);
    const seconds = (performance.now() - start) / 1000;
    session.dispose();
    return tokens / seconds;
  };
  const best = {};
  const keep = (name, found) => (best[name] = Math.max(best[name] ?? 0, found));
  for (let round = 0; round < 4; round++) {
    keep(
      'steps on given tokens',
      await rate(async (session) => {
        for (let i = 0; i < TOKENS; i++) await session.step(prompt[i % prompt.length]);
        return TOKENS;
      }),
    );
    for (const [name, { temperature = 0.8, ...filter }] of Object.entries(filters))
      keep(
        name,
        await rate(async (session) => {
          const { position } = session;
          for await (const _ of session.generate(undefined, {
            maxTokens: TOKENS,
            seed: round,
            temperature,
            ...filter,
          }));
          return session.position - position;
        }),
      );
  }
  model.dispose();
  return best;
}

// So that it is known whether kernels may be revectorized.
await device();
const found = {
  node: process.versions.node,
  choosing: Object.entries(shapes).map(([logits, logit]) => ({ logits, milliseconds: rounded(choosing(logit), 3) })),
  generating: { shape: SHAPE, weights: 'q4', threads: 2, tokensPerSecond: rounded(await generating(), 0) },
};

function rounded(numbers, digits) {
  return Object.fromEntries(Object.entries(numbers).map(([name, number]) => [name, +number.toFixed(digits)]));
}

for (const { logits, milliseconds } of found.choosing) console.log(`logits: ${logits}: ms a choice`, milliseconds);
console.log(`${SHAPE} in q4: tokens/s`, found.generating.tokensPerSecond);
if (values.out) {
  const before = existsSync(values.out) ? JSON.parse(readFileSync(values.out, 'utf8')).runs : [];
  const runs = [...before.filter(({ node }) => node !== found.node), found].sort((a, b) => (a.node < b.node ? -1 : 1));
  mkdirSync(dirname(values.out), { recursive: true });
  writeFileSync(values.out, `${JSON.stringify({ machine: { cpu: cpus()[0].model }, vocabulary: V, runs }, null, 2)}\n`);
}
