import { existsSync, readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { type LoadOptions, load } from '../src/index.ts';
import { logSumExp } from '../src/ops/cross-entropy.ts';
import { readTensors } from './golden.ts';
import { errorRatio, tolerance } from './tolerance.ts';

const shared = new URL('../../shared/models/', import.meta.url).pathname;
const available = existsSync(shared);
if (!available) console.warn('skipped: the trained models of ../shared/models are not here');

interface Reference {
  readonly tokens: number[];
  readonly prompt_tokens: number[];
  readonly greedy_continuation: number[];
  readonly nll: number[];
}

const runs: [string, LoadOptions, number][] = [
  ['wasm, f32', { weights: 'f32', threads: 2 }, tolerance.trained],
  ['wasm, bf16 as stored', { weights: 'auto', threads: 1 }, tolerance.trained],
  ['reference, f32', { backend: 'reference' }, tolerance.trained],
  ['reference, f64', { backend: 'reference-f64' }, tolerance.f64],
];

describe.runIf(available).each(['tiny-books-mamba'])('%s', (name) => {
  const folder = `${shared}${name}/`;
  const reference: Reference = available && JSON.parse(readFileSync(`${folder}reference.json`, 'utf8'));
  const expected = available ? readTensors(`${folder}reference.safetensors`).get('logits')!.data : [];

  test.each(runs)('logits, losses and greedy text: %s', async (_, options, limit) => {
    const model = await load(folder, options);
    const logits = await model.session().logitsOf(reference.tokens);
    expect(errorRatio(logits, expected)).toBeLessThan(limit);
    const V = model.vocabularySize;
    const losses = reference.tokens.slice(1).map((token, t) => logSumExp(logits, t * V, V) - logits[t * V + token]!);
    // Stored to six decimals.
    expect(errorRatio(losses, reference.nll)).toBeLessThan(Math.max(limit, 1e-5));
    const session = model.session();
    const generation = session.generate(reference.prompt_tokens, { temperature: 0, maxTokens: 48 });
    let next = await generation.next();
    while (!next.done) next = await generation.next();
    expect(next.value.tokens).toEqual(reference.greedy_continuation);
    model.dispose();
  });
});
