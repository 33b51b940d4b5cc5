// How many questions the embedded models answer: LAMBADA's last words (the first 1,000 texts) and BLiMP's pairs of sentences (the first 20
// of each of its 67 phenomena); prints a line a model, and saves them with --out.
//   node bench/questions.mjs --blimp FOLDER [--lambada ../shared/data/lambada/lambada_test.jsonl] [--out bench/results/questions.json] [MODEL …]
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { evaluate, load } from '../dist/index.js';
import { endWithUsage } from './command-line.mjs';

const { values, positionals } = parseArgs({
  options: {
    blimp: { type: 'string' },
    lambada: { type: 'string', default: '../shared/data/lambada/lambada_test.jsonl' },
    out: { type: 'string' },
  },
  allowPositionals: true,
});
if (!values.blimp) endWithUsage('bench/questions.mjs --blimp FOLDER');
const rowsOf = (file, limit) => readFileSync(file, 'utf8').trim().split('\n').slice(0, limit).map(JSON.parse);
const endings = rowsOf(values.lambada, 1000).map(({ text }) => {
  const whole = text.trimEnd();
  const cut = whole.lastIndexOf(' ');
  return { kind: 'ending', prompt: whole.slice(0, cut), ending: whole.slice(cut) };
});
const pairs = readdirSync(values.blimp)
  .filter((name) => name.endsWith('.jsonl'))
  .sort()
  .flatMap((name) => rowsOf(join(values.blimp, name), 20))
  .map(({ sentence_good: good, sentence_bad: bad }) => ({ kind: 'pair', good, bad }));

const models = positionals.length > 0 ? positionals : readdirSync('models').filter((name) => name.includes('books'));
const rows = [];
for (const name of models) {
  const model = await load(name, { threads: 1 });
  rows.push({ model: name, lambada: await evaluate(model, endings), blimp: await evaluate(model, pairs) });
  console.log(JSON.stringify(rows.at(-1)));
  model.dispose();
}
if (values.out) writeFileSync(values.out, `${JSON.stringify(rows, null, 2)}\n`);
