// Writes models as GGUF, lets llama.cpp load them, and compares tokenisation and greedy continuations with ours.
//   node bench/peers/greedy.mjs [--models DIR] [--count 32]
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { convert, load } from '../../dist/index.js';
import { openLlamaCpp } from './llama-cpp.mjs';

const { values } = parseArgs({
  options: { models: { type: 'string', default: '../shared/models' }, count: { type: 'string', default: '32' } },
});
const count = Number(values.count);
const names = ['tiny-books-mamba', 'tiny-books-mamba2', 'tiny-books-llama', 'tiny-books-rwkv7', 'tiny-books-mamba-13m'];
const prompt = 'The old man looked at the sea; he hadn\'t said 1234 words all day.\n\n"Well," said she,  and laughed';
const folder = mkdtempSync(join(tmpdir(), 'riverrun-peers-'));

/** The likeliest tokens by our engine, with how close the second likeliest was each time. */
async function ours(path, tokens) {
  const model = await load(path, { weights: 'f32', threads: 1 });
  const session = model.session();
  await session.read(tokens);
  const result = [];
  const margins = [];
  for (let n = 0; n < count; n++) {
    const order = [...session.logits.keys()].sort((a, b) => session.logits[b] - session.logits[a]);
    margins.push(session.logits[order[0]] - session.logits[order[1]]);
    result.push(order[0]);
    await session.step(order[0]);
  }
  const ids = model.tokenizer.encode(prompt);
  model.dispose();
  return { result, margins, ids };
}

let failures = 0;
for (const name of names) {
  const path = join(folder, `${name}.gguf`);
  await convert(join(values.models, name), path, { type: 'f32' });
  const llama = await openLlamaCpp(path);
  const ids = llama.tokenize(prompt);
  const theirs = await llama.greedy(ids, count);
  await llama.close();
  const { result, margins, ids: own } = await ours(path, ids);
  const sameIds = own.join() === ids.join();
  const first = result.findIndex((token, i) => token !== theirs[i]);
  const verdict =
    first < 0 ? `the same ${count} tokens` : `token ${first} differs (margin ${margins[first].toFixed(5)})`;
  console.log(`${name}: tokenisation ${sameIds ? 'the same' : 'differs'}, ${verdict}`);
  if (!sameIds || first >= 0) failures++;
}
rmSync(folder, { recursive: true });
process.exit(failures === 0 ? 0 : 1);
