// Sessions that generate one after another against the same sessions through the batcher.
//   node bench/batcher.mjs [--model NAME] [--sessions 64] [--tokens 48] [--rounds 3] [--out FILE]
import { writeFileSync } from 'node:fs';
import { cpus } from 'node:os';
import { parseArgs } from 'node:util';
import { load } from '../dist/index.js';

const { values } = parseArgs({
  options: {
    model: { type: 'string' },
    sessions: { type: 'string', default: '64' },
    tokens: { type: 'string', default: '48' },
    rounds: { type: 'string', default: '3' },
    out: { type: 'string' },
  },
});
const [count, maxTokens, rounds] = [values.sessions, values.tokens, values.rounds].map(Number);
const model = await load(values.model);
const prompts = Array.from({ length: count }, (_, i) => [`Once upon a time`, `The king`, `One day ${i} dogs`][i % 3]);

async function generate(session, i) {
  const tokens = [];
  const options = { seed: i, maxTokens, temperature: 0.8, onToken: (token) => tokens.push(token) };
  for await (const _ of session.generate(prompts[i], options));
  session.dispose();
  return tokens.join(' ');
}

const timed = async (run) => {
  const started = performance.now();
  const texts = await run();
  const tokens = texts.reduce((sum, text) => sum + text.split(' ').length, 0);
  return { texts, speed: tokens / ((performance.now() - started) / 1000) };
};
const oneByOne = async () => {
  const texts = [];
  for (const i of prompts.keys()) texts.push(await generate(model.session(), i));
  return texts;
};
const batched = () => {
  const batcher = model.batcher();
  return Promise.all(prompts.map((_, i) => generate(batcher.session(), i)));
};
// Once before, so that plans are made and code is warm.
await batched();
const ratios = [];
let [alone, together, same] = [undefined, undefined, count];
for (let round = 0; round < rounds; round++) {
  alone = await timed(oneByOne);
  together = await timed(batched);
  ratios.push(together.speed / alone.speed);
  same = Math.min(same, together.texts.filter((text, i) => text === alone.texts[i]).length);
}
ratios.sort((a, b) => a - b);
const ratio = ratios[ratios.length >> 1];
console.log(`${model.type}, ${model.backend}, ${model.threads} threads, ${count} sessions of ${maxTokens} tokens`);
console.log(`one at a time  ${alone.speed.toFixed(0)} tokens/s`);
console.log(
  `together       ${together.speed.toFixed(0)} tokens/s, ${ratio.toFixed(2)} times (median of ${rounds} rounds)`,
);
console.log(`the same text  ${same} of ${count}`);
if (values.out) {
  const machine = `${cpus()[0].model}, ${cpus().length} cores`;
  const result = { model: values.model ?? 'the default', machine, threads: model.threads };
  writeFileSync(
    values.out,
    `${JSON.stringify({ ...result, sessions: count, tokens: maxTokens, ratio, ratios, same })}\n`,
  );
}
model.dispose();
