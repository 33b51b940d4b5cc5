// Teaches an embedded model to find what fills the slots of SNIPS' sentences, and measures it on the published validation files, which
// nothing is chosen by; adds a line to --out.
//   node bench/slots.mjs [--model books-mamba] [--data ../shared/data/snips] [--epochs 2] [--work FOLDER] [--out bench/results/slots.jsonl]
import { execFileSync } from 'node:child_process';
import { appendFileSync, mkdtempSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { flags, riverrun } from './command-line.mjs';

const { values } = parseArgs({
  options: {
    model: { type: 'string', default: 'books-mamba' },
    data: { type: 'string', default: '../shared/data/snips' },
    epochs: { type: 'string', default: '2' },
    work: { type: 'string' },
    out: { type: 'string' },
  },
});
const work = values.work ?? mkdtempSync(join(tmpdir(), 'slots-'));
execFileSync('node', ['bench/data/snips-slots.mjs', values.data, work]);
const [train, test] = ['train', 'test'].map((name) => join(work, `${name}.jsonl`));
const settings = { epochs: Number(values.epochs), batch: 32, length: 64, 'learning-rate': 0.002 };
const folder = join(work, 'slots');
const start = performance.now();
const files = ['--model', values.model, '--data', train, '--out', folder];
const options = flags({ ...settings, 'evaluate-every': 400, threads: 1 });
const end = riverrun('finetune', ...files, ...options).at(-1);
const seconds = Math.round((performance.now() - start) / 1000);
// As it is to be shipped: in 8 bits.
const held = join(work, 'snips-slots');
riverrun('convert', folder, held, '--type', 'q8');
const [{ questions, right, accuracy, f1 }] = riverrun('eval', '--model', held, '--data', test, '--threads', 1);
const result = {
  base: values.model,
  ...settings,
  steps: end.steps,
  seconds,
  validation: { step: end.best.step, accuracy: end.best.accuracy },
  test: { questions, right, exactMatch: accuracy, f1 },
};
console.log(JSON.stringify(result));
if (values.out) appendFileSync(values.out, `${JSON.stringify(result)}\n`);
