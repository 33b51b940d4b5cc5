// Linear is linear: the cost of a token after 1K and after 256K others, and the memory of the sequence, for every linear-time
// architecture (the fixtures' small models) and the embedded ones; beside them Transformers of the same sizes and their growth.
//   node bench/linear.mjs [--only books-mamba,mamba] [--long 262144] [--out bench/results/linear.json]
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { cpus } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { Random } from '../dist/core/random.js';
import { load } from '../dist/index.js';

const { values } = parseArgs({
  options: { only: { type: 'string' }, long: { type: 'string', default: '262144' }, out: { type: 'string' } },
});
const [SHORT, LONG] = [1024, Number(values.long)];
/** Lengths at which a Transformer's growth is measured. */
const GROWTH = [1, 16, 64, 256, 512, 1024, 2048, 4096, 16_384];
/** Tokens that are timed at once, one at a time and in one block; and how often, in turns. */
const [STEPS, BLOCK, ROUNDS] = [64, 256, 40];

const root = fileURLToPath(new URL('..', import.meta.url));
const fixtures = readdirSync(join(root, 'test/goldens')).filter((name) =>
  existsSync(join(root, 'test/goldens', name, 'golden.safetensors')),
);
const groups = {
  'embedded models': readdirSync(join(root, 'models'))
    .filter((name) => name.startsWith('books-'))
    .map((name) => join(root, 'models', name)),
  'two layers of width 64': fixtures.map((name) => join(root, 'test/goldens', name)),
};
const nameOf = (path) => path.split(/[\\/]/).at(-1);

/** Milliseconds a token, generating and reading, after each session's tokens: the least of rounds in which they take turns. */
async function costs(sessions, vocabularySize, random) {
  const best = sessions.map(() => [Infinity, Infinity]);
  const block = Array.from({ length: BLOCK }, () => random.integer(vocabularySize));
  for (let round = 0; round < ROUNDS; round++)
    for (const i of round % 2 === 0 ? sessions.keys() : [...sessions.keys()].reverse()) {
      const fork = sessions[i].fork();
      await fork.step(0);
      let start = performance.now();
      for (let n = 0; n < STEPS; n++) await fork.step(n);
      best[i][0] = Math.min(best[i][0], (performance.now() - start) / STEPS);
      fork.dispose();
      const reader = sessions[i].fork();
      start = performance.now();
      await reader.read(block);
      best[i][1] = Math.min(best[i][1], (performance.now() - start) / BLOCK);
      reader.dispose();
    }
  return best;
}

async function measure(path) {
  const model = await load(path, { threads: 1 });
  const random = new Random(1);
  const isLinear = model.bytesPerToken.statePerToken === 0;
  const lengths = isLinear ? [SHORT, LONG] : GROWTH;
  if (lengths.at(-1) + BLOCK > model.longest) {
    model.dispose();
    return undefined;
  }
  const reader = model.session();
  const sessions = [];
  for (const length of lengths) {
    while (reader.position < length) {
      const count = Math.min(4096, length - reader.position);
      await reader.read(Array.from({ length: count }, () => random.integer(model.vocabularySize)));
    }
    sessions.push(reader.fork());
  }
  const found = await costs(sessions, model.vocabularySize, random);
  const points = found.map(([generating, reading], i) => ({
    length: lengths[i],
    generating,
    reading,
    stateBytes: sessions[i].bytes,
  }));
  const row = { model: nameOf(path), type: model.type, parameters: model.parameterCount, isLinear, points };
  model.dispose();
  return row;
}

/**
 * The length from which a token costs a Transformer more, between the two lengths where it was measured; 1 where it does so
 * from the first token.
 */
function passes({ points: [own] }, { points }) {
  const at = (kind) => {
    const n = points.findIndex((point) => point[kind] >= own[kind]);
    if (n <= 0) return points[0].length;
    const [a, b] = [points[n - 1], points[n]];
    return Math.round(a.length + ((own[kind] - a[kind]) / (b[kind] - a[kind])) * (b.length - a.length));
  };
  return { generating: at('generating'), reading: at('reading') };
}

const wanted = values.only?.split(',');
const earlier =
  values.out && wanted && existsSync(values.out) ? JSON.parse(readFileSync(values.out, 'utf8')) : undefined;
const result = earlier ?? {
  machine: { cpu: cpus()[0].model, cores: cpus().length, node: process.version },
  groups: {},
};
for (const [group, paths] of Object.entries(groups)) {
  result.groups[group] ??= [];
  for (const path of paths) {
    if (wanted && !wanted.includes(nameOf(path))) continue;
    const row = await measure(path);
    if (!row) {
      console.log(`${nameOf(path)}: its positions end before ${GROWTH.at(-1)} tokens`);
      continue;
    }
    const rows = result.groups[group].filter(({ model }) => model !== row.model);
    result.groups[group] = [...rows, row].sort((a, b) => (a.model < b.model ? -1 : 1));
    const [first, last] = [row.points[0], row.points.at(-1)];
    console.log(
      `${row.model.padEnd(20)} ${first.length} → ${last.length} tokens: generating × ${(last.generating / first.generating).toFixed(3)}, reading × ${(last.reading / first.reading).toFixed(3)}, state ${first.stateBytes} → ${last.stateBytes} bytes`,
    );
  }
  const transformer = result.groups[group].find(({ type }) => type === 'llama');
  for (const row of result.groups[group]) if (row.isLinear && transformer) row.passes = passes(row, transformer);
  if (!values.out) continue;
  mkdirSync(dirname(values.out), { recursive: true });
  writeFileSync(values.out, `${JSON.stringify(result, null, 2)}\n`);
}
