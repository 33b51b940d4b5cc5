// Whether transformers, tokenizers and PEFT open what trainings write: trains small models of the architectures that transformers has, with
// heads and adapters, and compares logits and token ids. Python without PEFT leaves its rows out, and says so.
//   node bench/hugging-face.mjs [--python python3] [--out bench/results/hugging-face.json]
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { load } from '../dist/index.js';
import { flags, riverrun } from './command-line.mjs';
import { openPython, pythonOption } from './peers/python.mjs';

const { values } = parseArgs({
  options: { python: pythonOption, out: { type: 'string' } },
});
/** The most that logits may differ by, against their size. */
const TOLERANCE = 1e-4;
const TEXT = 'Der König, naïve — 2,048 tokens… said “I’ll go”\n\n\tto the river 🌊.';

const work = mkdtempSync(join(tmpdir(), 'hugging-face-'));
const at = (name) => join(work, name);
const jsonl = (name, rows) => {
  writeFileSync(at(name), rows.map((row) => `${JSON.stringify(row)}\n`).join(''));
  return at(name);
};
const animals = ['fox', 'owl', 'cat', 'dog'];
const labelled = jsonl(
  'labels.jsonl',
  Array.from({ length: 40 }, (_, i) => ({ text: `The ${animals[i % 4]} ran ${i} times.`, kind: animals[i % 4] })),
);
const context = 'The fox ran. The owl sat. A cat slept.';
const spans = jsonl(
  'spans.jsonl',
  ['fox', 'owl', 'cat'].map((text) => ({
    question: `Where is the ${text}?`,
    context,
    answers: { text: [text], answer_start: [context.indexOf(text)] },
  })),
);

const train = (arch) => {
  const heads = arch === 'mamba' ? {} : { 'head-width': 16 };
  const sizes = { arch, width: 64, layers: 2, vocabulary: 400, ...heads };
  const settings = { steps: 20, batch: 4, length: 64, threads: 1 };
  riverrun('train', ...flags({ ...sizes, ...settings, data: 'docs/training.md', out: at(arch) }));
};
const teach = (name, base, more) =>
  riverrun('finetune', ...flags({ model: at(base), steps: 6, batch: 4, threads: 1, out: at(name), ...more }));

const { ask, close } = openPython(values.python, 'hugging_face.py');

async function compared({ name, folder, task, adapter, labels }) {
  const model = await load(at(folder), { threads: 1, weights: 'f32' });
  const ids = model.tokenizer.encode(TEXT, { addSpecialTokens: false });
  const session = model.session();
  let ours;
  if (task === 'labels') {
    await session.read(ids);
    ours = session.logits;
  } else ours = await session.logitsOf(ids);
  ours = Array.from(ours);
  model.dispose();
  const base = adapter?.base ?? folder;
  const question = { folder: at(base), task, ids, text: TEXT, labels };
  const theirs = await ask({ ...question, ...(adapter && { adapter: join(at(folder), 'adapter') }) });
  if (theirs.error) return { name, error: theirs.error };
  const size = Math.sqrt(theirs.logits.reduce((sum, x) => sum + x * x, 0) / theirs.logits.length);
  const worst = theirs.logits.reduce((most, x, i) => Math.max(most, Math.abs(x - ours[i])), 0) / size;
  const sameIds = JSON.stringify(theirs.ids) === JSON.stringify(ids);
  // A head that only the adapter brings is missing in the base.
  const missing = theirs.missing.filter((key) => !adapter || !/^(score|qa_outputs)\./.test(key));
  const passes = ours.length === theirs.logits.length && worst <= TOLERANCE && sameIds && missing.length === 0;
  return { name, worst: Number(worst.toExponential(1)), sameIds, missing, passes, versions: theirs.versions };
}

for (const arch of ['mamba', 'mamba2', 'llama']) train(arch);
const label = { data: labelled, validation: labelled, label: 'kind' };
const span = { data: spans, validation: spans };
const lora = { method: 'lora', rank: 4 };
teach('labels', 'llama', label);
teach('spans', 'llama', span);
// Transformers names the body of a model of spans otherwise, and finds none of it in a model of tokens.
teach('spans-base', 'llama', { ...span, steps: 0 });
teach('lora-tokens', 'llama', { data: 'README.md', ...lora });
teach('lora-layer', 'llama', { data: 'README.md', ...lora, targets: 'layers\\.1\\..*(q_proj|down_proj)' });
teach('lora-labels', 'llama', { ...label, ...lora });
teach('lora-spans', 'spans-base', { ...span, ...lora });
teach('lora-mamba', 'mamba', { data: 'README.md', ...lora });
teach('lora-mamba2', 'mamba2', { data: 'README.md', ...lora });

const rows = [];
for (const question of [
  { name: 'mamba', folder: 'mamba', task: 'tokens' },
  { name: 'mamba2', folder: 'mamba2', task: 'tokens' },
  { name: 'llama', folder: 'llama', task: 'tokens' },
  { name: 'llama, labels', folder: 'labels', task: 'labels' },
  { name: 'llama, spans', folder: 'spans', task: 'spans' },
  { name: 'llama, LoRA', folder: 'lora-tokens', task: 'tokens', adapter: { base: 'llama' } },
  { name: 'llama, LoRA of one layer', folder: 'lora-layer', task: 'tokens', adapter: { base: 'llama' } },
  { name: 'llama, LoRA, labels', folder: 'lora-labels', task: 'labels', adapter: { base: 'llama' }, labels: 4 },
  { name: 'llama, LoRA, spans', folder: 'lora-spans', task: 'spans', adapter: { base: 'spans-base' } },
  { name: 'mamba, LoRA', folder: 'lora-mamba', task: 'tokens', adapter: { base: 'mamba' } },
  { name: 'mamba2, LoRA', folder: 'lora-mamba2', task: 'tokens', adapter: { base: 'mamba2' } },
  // The folder of a model that was taught with additions is a plain model, in which they are once.
  { name: 'llama, LoRA, merged', folder: 'lora-tokens', task: 'tokens' },
  { name: 'mamba, LoRA, merged', folder: 'lora-mamba', task: 'tokens' },
]) {
  const row = await compared(question);
  console.log(JSON.stringify(row));
  rows.push(row);
}
close();
rmSync(work, { recursive: true });
const noPeft = rows.filter(({ error }) => error?.includes("No module named 'peft'"));
if (noPeft.length > 0) console.log(`${values.python} has no PEFT: ${noPeft.length} rows are not compared`);
else if (values.out) writeFileSync(values.out, `${JSON.stringify({ tolerance: TOLERANCE, rows }, null, 2)}\n`);
if (rows.some((row) => !row.passes && !noPeft.includes(row))) process.exitCode = 1;
