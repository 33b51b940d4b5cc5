// What it costs to ask many questions about a long document: one reading and a question each, beside reading anew for each.
//   node bench/ask.mjs BOOK [--tokens 100000] [--questions 100] [--model NAME] [--out FILE]
import { readFileSync, writeFileSync } from 'node:fs';
import { cpus } from 'node:os';
import { parseArgs } from 'node:util';
import { load, readDocument } from '../dist/index.js';
import { endWithUsage } from './command-line.mjs';

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    tokens: { type: 'string', default: '100000' },
    questions: { type: 'string', default: '100' },
    model: { type: 'string' },
    out: { type: 'string' },
  },
});
const [book] = positionals;
if (!book) endWithUsage('bench/ask.mjs BOOK');
const model = await load(values.model);
const text = readFileSync(book, 'utf8');
const document = model.tokenizer.encode(text.slice(0, 8 * Number(values.tokens))).slice(0, Number(values.tokens));
const count = Number(values.questions);

const seconds = async (work) => {
  const started = performance.now();
  const result = await work();
  return { result, taken: (performance.now() - started) / 1000 };
};

const { result: reader, taken: reading } = await seconds(() => readDocument(model, document));
const { taken: asking } = await seconds(async () => {
  for (let i = 0; i < count; i++) await reader.ask(`What is said in chapter ${i + 1}?`, { maxTokens: 16 });
});
const { taken: short } = await seconds(async () => {
  const other = await readDocument(model, document.slice(0, 100));
  for (let i = 0; i < count; i++) await other.ask(`What is said in chapter ${i + 1}?`, { maxTokens: 16 });
});
console.log(
  `document      ${document.length} tokens, read in ${reading.toFixed(1)} s; state ${reader.stateSize} bytes`,
);
console.log(
  `${count} questions ${asking.toFixed(2)} s; of a document of 100 tokens, with its reading: ${short.toFixed(2)} s`,
);
console.log(
  `altogether    ${(reading + asking).toFixed(1)} s; reading anew each time: ${(count * reading + asking).toFixed(0)} s`,
);
if (values.out) {
  const result = {
    model: values.model ?? 'the default',
    machine: `${cpus()[0].model}, ${cpus().length} cores`,
    tokens: document.length,
    stateBytes: reader.stateSize,
    questions: count,
    seconds: { reading, asking, ofShortDocument: short },
  };
  writeFileSync(values.out, `${JSON.stringify(result)}\n`);
}
model.dispose();
