// The embedded models of one size beside each other, and the trained models of --models: held-out loss, parameters, speed and memory.
// Speeds are the best of two rounds, in which the models take turns. Run it while nothing else runs.
//   node bench/embedded.mjs [--models ../shared/models] [--text ../shared/data/books/held-out.txt] [--out bench/results/embedded.json]
import { spawnSync } from 'node:child_process';
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { load, score } from '../dist/index.js';

const { values } = parseArgs({
  options: {
    models: { type: 'string', default: '../shared/models' },
    text: { type: 'string', default: '../shared/data/books/held-out.txt' },
    out: { type: 'string' },
  },
});
/** As in the trainings: windows, and tokens of each. */
const [WINDOWS, LENGTH, ROUNDS] = [48, 512, 2];
const text = readFileSync(values.text, 'utf8');
const own = readdirSync('models').filter((name) => name.startsWith('books-'));
const others = readdirSync(values.models).filter((name) => /^tiny-books-/.test(name));

/** Mean −ln p of the windows' tokens but their first ones; every window is read from the model's beginning. */
async function lossOf(path) {
  const model = await load(path, { weights: 'q8', threads: 1 });
  const ids = model.tokenizer.encode(text.slice(0, 8 * WINDOWS * LENGTH));
  let [sum, count] = [0, 0];
  for (let window = 0; window < WINDOWS; window++) {
    const session = model.session();
    const found = await score(session, [ids.slice(window * LENGTH, (window + 1) * LENGTH + 1)]);
    sum -= found.logProbability;
    count += found.scored;
    session.dispose();
  }
  model.dispose();
  return sum / count;
}

/** What whoever trained the model found, of windows that are not told. */
function reportedLoss(path) {
  const file = join(path, 'reference.json');
  return existsSync(file) ? JSON.parse(readFileSync(file, 'utf8')).held_out_loss_512 : undefined;
}

function speedOf(path) {
  const command = `bench --model ${path} --weights q8 --threads 1 --prefill 512 --decode 64 --rounds 1 --lengths 1024 --json --offline`;
  const { status, stdout } = spawnSync('node', ['dist/cli/main.js', ...command.split(' ')], { encoding: 'utf8' });
  if (status !== 0) throw new Error(`riverrun ${command} ended with ${status}`);
  return JSON.parse(stdout);
}

const paths = [...own, ...others.map((name) => join(values.models, name))];
const rows = new Map();
for (let round = 0; round < ROUNDS; round++)
  for (const path of paths) {
    const one = speedOf(path);
    const best = rows.get(path) ?? { prefill: 0, decode: 0 };
    rows.set(path, {
      model: path.split('/').at(-1),
      type: one.type,
      parameters: one.parameters,
      prefill: Math.max(best.prefill, one.prefillTokensPerSecond),
      decode: Math.max(best.decode, one.decodeTokensPerSecond),
      peakBytes: one.peakBytes,
      stateBytes: one.costs[0].stateBytes,
      machine: one.machine,
    });
  }
const { machine } = [...rows.values()][0];
const result = { windows: WINDOWS, length: LENGTH, weights: 'q8', threads: 1, machine, rows: [] };
for (const [path, { machine: _, ...row }] of rows) {
  const losses = { loss: await lossOf(path), reportedLoss: reportedLoss(path) };
  result.rows.push({ ...row, ...losses });
  console.log(JSON.stringify({ ...row, ...losses }));
}
if (values.out) writeFileSync(values.out, `${JSON.stringify(result, null, 2)}\n`);
