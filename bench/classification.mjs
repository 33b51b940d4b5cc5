// Teaches an embedded model to tell labels and measures it on the published test data, which nothing is chosen by; adds a line to --out.
//   node bench/classification.mjs snips|sms-spam|banking77 [--data ../shared/data] [--work FOLDER] [--out bench/results/classification.jsonl]
import { execFileSync } from 'node:child_process';
import { appendFileSync, mkdtempSync, readFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { endWithUsage, flags, riverrun } from './command-line.mjs';

const { values, positionals } = parseArgs({
  options: { data: { type: 'string', default: '../shared/data' }, work: { type: 'string' }, out: { type: 'string' } },
  allowPositionals: true,
});
const [name] = positionals;
const work = values.work ?? mkdtempSync(join(tmpdir(), 'classification-'));
const made = (script, from) => {
  execFileSync('node', [`bench/data/${script}.mjs`, join(values.data, from), join(work, script)]);
  return { train: join(work, script, 'train.jsonl'), test: join(work, script, 'test.jsonl'), label: 'label' };
};
const sets = {
  snips: () => ({ ...made('snips', 'snips'), length: 64, epochs: 3, rate: 0.002 }),
  'sms-spam': () => ({ ...made('sms-spam', 'sms-spam/SMSSpamCollection.tsv'), length: 128, epochs: 3, rate: 0.001 }),
  banking77: () => {
    const [train, test] = ['train', 'test'].map((split) => join(values.data, `banking77/${split}.csv`));
    return { train, test, label: 'category', length: 96, epochs: 6, rate: 0.002 };
  },
};
if (!sets[name]) endWithUsage(`bench/classification.mjs ${Object.keys(sets).join('|')}`);

const { train, test, label, length, epochs, rate } = sets[name]();
const settings = { length, batch: 32, epochs, 'learning-rate': rate, threads: 1 };
const base = 'books-mamba';
const folder = join(work, `${name}-classifier`);
const taught = ['finetune', '--model', base, '--data', train, '--label', label];
const start = performance.now();
const end = riverrun(...taught, ...flags(settings), '--out', folder).at(-1);
const seconds = Math.round((performance.now() - start) / 1000);
const [{ questions, right, accuracy }] = riverrun('eval', '--model', folder, '--data', test, '--label', label);
const { epochs: _, ...rest } = settings;
const result = {
  ...{ name, base, epochs, ...rest, steps: end.steps, seconds },
  labels: Object.keys(JSON.parse(readFileSync(join(folder, 'config.json'), 'utf8')).id2label).length,
  validation: { step: end.best.step, accuracy: end.best.accuracy },
  test: { examples: questions, right, accuracy },
};
console.log(JSON.stringify(result));
if (values.out) appendFileSync(values.out, `${JSON.stringify(result)}\n`);
