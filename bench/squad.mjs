// Teaches an embedded model to find answers in a text, on a thirtieth of SQuAD's questions, and measures it by exact match and F1 on every
// tenth of the development set, which nothing is chosen by; adds a line to --out.
//   node bench/squad.mjs [--data ../shared/data/squad] [--steps 80] [--work FOLDER] [--out bench/results/squad.jsonl]
import { execFileSync } from 'node:child_process';
import { appendFileSync, mkdtempSync, readFileSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { flags, riverrun } from './command-line.mjs';

const { values } = parseArgs({
  options: {
    data: { type: 'string', default: '../shared/data/squad' },
    steps: { type: 'string', default: '80' },
    work: { type: 'string' },
    out: { type: 'string' },
  },
});
const work = values.work ?? mkdtempSync(join(tmpdir(), 'squad-'));
execFileSync('node', ['bench/data/squad.mjs', values.data, work]);
const every = (name, n, from) => {
  const lines = readFileSync(join(work, `${name}.jsonl`), 'utf8')
    .trim()
    .split('\n');
  const path = join(work, `${name}-${from}-${n}.jsonl`);
  writeFileSync(path, `${lines.filter((_, i) => i % n === from).join('\n')}\n`);
  return path;
};
const [train, validation, test] = [every('train', 30, 0), every('train', 730, 1), every('dev', 10, 0)];
const base = 'books-mamba';
const settings = { steps: Number(values.steps), batch: 16, length: 320, 'learning-rate': 0.002 };
const options = flags({ ...settings, 'evaluate-every': 40, threads: 1 });
const folder = join(work, 'reader');
const start = performance.now();
const files = ['--model', base, '--data', train, '--validation', validation, '--out', folder];
const end = riverrun('finetune', ...files, ...options).at(-1);
const seconds = Math.round((performance.now() - start) / 1000);
const [{ questions, right, accuracy, f1 }] = riverrun('eval', '--model', folder, '--data', test, '--threads', 1);
const result = {
  base,
  ...settings,
  seconds,
  validation: end.best,
  dev: { questions, right, exactMatch: accuracy, f1 },
};
console.log(JSON.stringify(result));
if (values.out) appendFileSync(values.out, `${JSON.stringify(result)}\n`);
