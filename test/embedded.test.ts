import { readdirSync, readFileSync, statSync } from 'node:fs';
import { expect, test } from 'vitest';
import { load } from '../src/platform/node-load.ts';
import { score } from '../src/tasks/score.ts';

const models = new URL('../models/', import.meta.url);

test.each(readdirSync(models))('%s loads by its name and predicts a story', async (name) => {
  const model = await load(name, { threads: 1 });
  const session = model.session();
  const text = 'Once upon a time there was a little girl who lived with her mother in a small house near the wood.';
  const { perplexity } = await score(session, [model.tokenizer.encode(text)]);
  expect(perplexity).toBeLessThan(100);
  model.dispose();
});

test.each(readdirSync(models).filter((name) => name.startsWith('books-')))(
  '%s is small, and says how it was made',
  (name) => {
    const folder = new URL(`${name}/`, models);
    const bytes = readdirSync(folder).reduce((sum, file) => sum + statSync(new URL(file, folder)).size, 0);
    expect(bytes).toBeLessThan(6e6);
    expect(readFileSync(new URL('README.md', folder), 'utf8')).toMatch(/riverrun train --arch/);
  },
);
