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
  readonly last_logits?: number[];
}

const runs: [string, LoadOptions, number][] = [
  ['wasm, f32', { weights: 'f32', threads: 2 }, tolerance.trained],
  ['wasm, bf16 as stored', { weights: 'auto', threads: 1 }, tolerance.trained],
  ['reference, f32', { backend: 'reference' }, tolerance.trained],
  ['reference, f64', { backend: 'reference-f64' }, tolerance.f64],
];

const names = ['tiny-books-mamba', 'tiny-books-mamba2', 'tiny-books-rwkv7', 'tiny-books-llama', 'tiny-books-mamba-13m'];

describe.runIf(available).each(names)('%s', (name) => {
  const folder = `${shared}${name}/`;
  const reference: Reference = available && JSON.parse(readFileSync(`${folder}reference.json`, 'utf8'));
  // RWKV-7's answers have no logits, only the losses and the text.
  const answers = `${folder}reference.safetensors`;
  const expected = existsSync(answers) ? readTensors(answers).get('logits')!.data : undefined;

  test.each(runs)('logits, losses and greedy text: %s', async (_, options, limit) => {
    const model = await load(folder, options);
    const logits = await model.session().logitsOf(reference.tokens);
    if (expected) expect(errorRatio(logits, expected)).toBeLessThan(limit);
    const V = model.vocabularySize;
    const losses = reference.tokens.slice(1).map((token, t) => logSumExp(logits, t * V, V) - logits[t * V + token]!);
    // Stored to six decimals; those without logits were computed on a GPU, less exactly.
    expect(errorRatio(losses, reference.nll)).toBeLessThan(expected ? Math.max(limit, 1e-5) : tolerance.gpuAnswers);
    if (reference.last_logits)
      expect(errorRatio(logits.slice(-V), reference.last_logits)).toBeLessThan(tolerance.gpuAnswers);
    const session = model.session();
    const generation = session.generate(reference.prompt_tokens, { temperature: 0, maxTokens: 48 });
    let next = await generation.next();
    while (!next.done) next = await generation.next();
    expect(next.value.tokens).toEqual(reference.greedy_continuation);
    model.dispose();
  });
});
