// Whether transformers, tokenizers and PEFT open what trainings write: trains small models of the architectures that transformers has, with
// heads and adapters, teaches models that transformers wrote, and compares logits, and token ids of Tokenizer.from_file and of AutoTokenizer; and
// whether riverrun opens what PEFT writes. Python without PEFT leaves its rows out, and says so.
//   node bench/hugging-face.mjs [--python python3] [--models ../shared/models] [--out bench/results/hugging-face.json]
import { copyFileSync, cpSync, existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { load } from '../dist/index.js';
import { flags, riverrun } from './command-line.mjs';
import { openPython, pythonOption } from './peers/python.mjs';

const { values } = parseArgs({
  options: { python: pythonOption, models: { type: 'string', default: '../shared/models' }, out: { type: 'string' } },
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

/** Our logits of the text, of all tokens or of labels, and its ids. */
async function ours(folder, task) {
  const model = await load(at(folder), { threads: 1, weights: 'f32' });
  const ids = model.tokenizer.encode(TEXT, { addSpecialTokens: false });
  const whole = model.tokenizer.encode(TEXT);
  const session = model.session();
  if (task === 'labels') await session.read(ids);
  const logits = Array.from(task === 'labels' ? session.logits : await session.logitsOf(ids));
  model.dispose();
  return { ids, whole, logits };
}

/** How far logits are from others at most, against the size of these. */
function distance(logits, others) {
  const size = Math.sqrt(others.reduce((sum, x) => sum + x * x, 0) / others.length);
  return Number((others.reduce((most, x, i) => Math.max(most, Math.abs(x - logits[i])), 0) / size).toExponential(1));
}

async function compared({ name, folder, task, adapter, labels }) {
  const { ids, whole, logits } = await ours(folder, task);
  const base = adapter?.base ?? folder;
  const question = { folder: at(base), task, ids, text: TEXT, labels };
  const theirs = await ask({ ...question, ...(adapter && { adapter: join(at(folder), 'adapter') }) });
  if (theirs.error) return { name, error: theirs.error };
  const worst = distance(logits, theirs.logits);
  // Additions that move nothing would show nothing. A head of labels is the adapter's own.
  const moved = adapter && task !== 'labels' && { moved: distance((await ours(base, task)).logits, logits) };
  const sameIds = JSON.stringify(theirs.ids) === JSON.stringify(ids);
  // What a user of transformers opens, with the marks that it adds to texts.
  const sameAutoIds = JSON.stringify(theirs.autoIds) === JSON.stringify(whole);
  // A head that only the adapter brings is missing in the base.
  const missing = theirs.missing.filter((key) => !adapter || !/^(score|qa_outputs)\./.test(key));
  const isSame = logits.length === theirs.logits.length && worst <= TOLERANCE && !(moved?.moved < 1000 * TOLERANCE);
  const passes = isSame && sameIds && sameAutoIds && missing.length === 0;
  return { name, worst, ...moved, sameIds, sameAutoIds, missing, passes, versions: theirs.versions };
}

/** Logits with an adapter that PEFT made of a base, as it has them and as we have them. */
async function comparedOfPeft({ name, base, lora }) {
  const { ids, logits: before } = await ours(base, 'tokens');
  const folder = at(`${base}-peft`);
  const theirs = await ask({ adapt: at(base), out: folder, ids, lora });
  if (theirs.error) return { name, error: theirs.error };
  const model = await load(at(base), { threads: 1, weights: 'f32', adapter: folder });
  const logits = await model.session().logitsOf(ids);
  model.dispose();
  const [worst, moved] = [distance(logits, theirs.logits), distance(before, theirs.logits)];
  const passes = worst <= TOLERANCE && moved >= 1000 * TOLERANCE;
  return { name, worst, moved, passes, versions: theirs.versions };
}

for (const arch of ['mamba', 'mamba2', 'llama']) train(arch);
// Transformers makes a GPT-2, and the others' tokenizer is its own, too.
const gpt2 = { n_embd: 64, n_layer: 2, n_head: 4, n_positions: 256, vocab_size: 400, bos_token_id: 0, eos_token_id: 0 };
await ask({ make: at('gpt2'), config: gpt2 });
copyFileSync(join(at('llama'), 'tokenizer.json'), join(at('gpt2'), 'tokenizer.json'));
// Models that transformers wrote, whose configurations have floats such as 1.0; those of random numbers come without a tokenizer.
const golden = (name) => fileURLToPath(new URL(`../test/goldens/${name}`, import.meta.url));
const written = [
  { arch: 'mamba', from: join(values.models, 'tiny-books-mamba'), more: {} },
  ...['mamba', 'mamba2', 'falcon_mamba'].map((arch) => ({ arch, from: golden(arch), more: { tokenizer: 'bytes' } })),
].map((model, i) => ({ ...model, name: i === 0 ? 'tiny-books-mamba' : `random ${model.arch}`, base: `written-${i}` }));
if (!existsSync(written[0].from)) throw new Error(`${written[0].from} is missing: name the folder of it with --models`);
for (const { from, base } of written) cpSync(from, at(base), { recursive: true });
const label = { data: labelled, validation: labelled, label: 'kind' };
const span = { data: spans, validation: spans };
const lora = { method: 'lora', rank: 4, steps: 20, 'learning-rate': 0.02 };
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
teach('lora-gpt2', 'gpt2', { data: 'README.md', ...lora });
teach('lora-gpt2-layer', 'gpt2', { data: 'README.md', ...lora, targets: 'h\\.1\\..*(c_attn|mlp\\.c_proj)' });
teach('lora-gpt2-labels', 'gpt2', { ...label, ...lora });
for (const { base, more } of written) {
  teach(`${base}-full`, base, { data: 'README.md', length: 64, ...more });
  teach(`${base}-lora`, base, { data: 'README.md', length: 64, ...lora, ...more });
  // The additions belong to the base as it is, with the tokenizer that they were taught with.
  if (more.tokenizer)
    for (const file of ['tokenizer.json', 'tokenizer_config.json'])
      copyFileSync(join(at(`${base}-lora`), file), join(at(base), file));
}

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
  { name: 'gpt2, LoRA', folder: 'lora-gpt2', task: 'tokens', adapter: { base: 'gpt2' } },
  { name: 'gpt2, LoRA of one layer', folder: 'lora-gpt2-layer', task: 'tokens', adapter: { base: 'gpt2' } },
  { name: 'gpt2, LoRA, labels', folder: 'lora-gpt2-labels', task: 'labels', adapter: { base: 'gpt2' }, labels: 4 },
  // The folder of a model that was taught with additions is a plain model, in which they are once.
  { name: 'llama, LoRA, merged', folder: 'lora-tokens', task: 'tokens' },
  { name: 'mamba, LoRA, merged', folder: 'lora-mamba', task: 'tokens' },
  { name: 'gpt2, LoRA, merged', folder: 'lora-gpt2', task: 'tokens' },
  ...written.flatMap(({ name, base }) => [
    { name: `${name} of transformers, taught whole`, folder: `${base}-full`, task: 'tokens' },
    { name: `${name} of transformers, LoRA`, folder: `${base}-lora`, task: 'tokens', adapter: { base } },
    { name: `${name} of transformers, LoRA, merged`, folder: `${base}-lora`, task: 'tokens' },
  ]),
]) {
  const row = await compared(question);
  console.log(JSON.stringify(row));
  rows.push(row);
}
const ranks = { r: 4, lora_alpha: 8, rank_pattern: { 'mlp.*': 6 }, alpha_pattern: { 'layers.0.*|h.0.*': 16 } };
for (const question of [
  { name: 'gpt2, LoRA of PEFT', base: 'gpt2', lora: { ...ranks, target_modules: ['c_attn', 'c_fc', 'c_proj'] } },
  { name: 'llama, LoRA of PEFT', base: 'llama', lora: { ...ranks, target_modules: ['q_proj', 'v_proj', 'down_proj'] } },
  { name: 'mamba, LoRA of PEFT', base: 'mamba', lora: { ...ranks, target_modules: ['in_proj', 'x_proj'] } },
]) {
  const row = await comparedOfPeft(question);
  console.log(JSON.stringify(row));
  rows.push(row);
}
close();
rmSync(work, { recursive: true });
const noPeft = rows.filter(({ error }) => error?.includes("No module named 'peft'"));
if (noPeft.length > 0) console.log(`${values.python} has no PEFT: ${noPeft.length} rows are not compared`);
else if (values.out) writeFileSync(values.out, `${JSON.stringify({ tolerance: TOLERANCE, rows }, null, 2)}\n`);
if (rows.some((row) => !row.passes && !noPeft.includes(row))) process.exitCode = 1;
