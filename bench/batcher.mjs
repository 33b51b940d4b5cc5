// Sessions that generate one after another against the same sessions through the batcher.
//   node bench/batcher.mjs [MODEL] [SESSIONS] [TOKENS]
import { load } from '../dist/index.js';

const [name, count = 64, maxTokens = 48] = process.argv.slice(2).map((value, i) => (i === 0 ? value : Number(value)));
const model = await load(name || undefined);
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
const alone = await timed(oneByOne);
const together = await timed(batched);
const same = together.texts.filter((text, i) => text === alone.texts[i]).length;
console.log(`${model.type}, ${model.backend}, ${model.threads} threads, ${count} sessions of ${maxTokens} tokens`);
console.log(`one at a time  ${alone.speed.toFixed(0)} tokens/s`);
console.log(`together       ${together.speed.toFixed(0)} tokens/s, ${(together.speed / alone.speed).toFixed(2)} times`);
console.log(`the same text  ${same} of ${count}`);
model.dispose();
