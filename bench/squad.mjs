// Teaches an embedded model to find answers in a text, on some of SQuAD's questions, and measures it by exact match and F1 on every
// tenth of the development set, which nothing is chosen by; adds a line to --out. With --words, the contexts to learn from are cut to so many
// words around the answer: three times as many questions in the same time.
//   node bench/squad.mjs [--model books-mamba] [--data ../shared/data/squad] [--steps 80] [--batch 16] [--words 40] [--work FOLDER]
//     [--out bench/results/squad.jsonl]
import { execFileSync } from 'node:child_process';
import { appendFileSync, mkdtempSync, readFileSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { flags, riverrun } from './command-line.mjs';

const { values } = parseArgs({
  options: {
    model: { type: 'string', default: 'books-mamba' },
    data: { type: 'string', default: '../shared/data/squad' },
    steps: { type: 'string', default: '80' },
    batch: { type: 'string', default: '16' },
    words: { type: 'string' },
    work: { type: 'string' },
    out: { type: 'string' },
  },
});
const work = values.work ?? mkdtempSync(join(tmpdir(), 'squad-'));
const cut = values.words ? [values.words] : [];
execFileSync('node', ['bench/data/squad.mjs', values.data, work, ...cut]);
/** Every so many questions of the training set are to choose by, and not learned from. */
const HELD = 730;
const every = (name, n, from) => {
  const lines = readFileSync(join(work, `${name}.jsonl`), 'utf8')
    .trim()
    .split('\n');
  const path = join(work, `${name}-${from}-${n}.jsonl`);
  const chosen = (i) => i % n === from && (name === 'dev' || n === HELD || i % HELD !== 1);
  writeFileSync(path, `${lines.filter((_, i) => chosen(i)).join('\n')}\n`);
  return path;
};
const base = values.model;
const settings = {
  ...{ steps: Number(values.steps), batch: Number(values.batch) },
  ...(values.words ? { length: 3 * Number(values.words) } : { length: 320 }),
  'learning-rate': 0.002,
};
// No more questions than are learned from once, but of all articles; those to choose by are others.
const part = Math.max(1, Math.floor(87_599 / (settings.steps * settings.batch)));
const [train, validation, test] = [every('train', Math.min(30, part), 0), every('train', HELD, 1), every('dev', 10, 0)];
const options = flags({ ...settings, 'evaluate-every': Math.ceil(settings.steps / 4), threads: 1 });
const folder = join(work, 'reader');
const start = performance.now();
const files = ['--model', base, '--data', train, '--validation', validation, '--out', folder];
const end = riverrun('finetune', ...files, ...options).at(-1);
const seconds = Math.round((performance.now() - start) / 1000);
const [{ questions, right, accuracy, f1 }] = riverrun('eval', '--model', folder, '--data', test, '--threads', 1);
const result = {
  base,
  ...settings,
  ...(values.words && { words: Number(values.words) }),
  seconds,
  validation: end.best,
  dev: { questions, right, exactMatch: accuracy, f1 },
};
console.log(JSON.stringify(result));
if (values.out) appendFileSync(values.out, `${JSON.stringify(result)}\n`);
