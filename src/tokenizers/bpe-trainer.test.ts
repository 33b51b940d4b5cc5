import { expect, test } from 'vitest';
import { trainBpe } from './bpe-trainer.ts';
import { huggingFaceTokenizer } from './hugging-face.ts';

const texts = ['the cat sat on the mat', 'the cat ate the rat, the cat!', 'ünïcode 猫 and\n\n  spaces'];

test('the most frequent pairs are merged, and any text comes back', async () => {
  const json = (await trainBpe(texts, 270)) as { model: { vocab: Record<string, number>; merges: string[] } };
  // "at" stands 7 times; "th" and "he" 5 times: ties go to the smaller ids.
  expect(json.model.merges.slice(0, 2)).toEqual(['a t', 'h e']);
  expect(json.model.vocab['<|endoftext|>']).toBe(0);
  const tokenizer = huggingFaceTokenizer(json, {}, 'trained');
  for (const text of [...texts, 'something else: \u0000 😀'])
    expect(tokenizer.decode(tokenizer.encode(text))).toBe(text);
  expect(tokenizer.encode(texts[1]!).length).toBeLessThan(texts[1]!.length);
  expect(tokenizer.endOfText).toBe(0);
});

test('the same texts give the same tokenizer, in any order of their words', async () => {
  expect(await trainBpe([...texts].reverse(), 270)).toEqual(await trainBpe(texts, 270));
});

test('a vocabulary too small for the bytes is refused', async () => {
  await expect(trainBpe(texts, 256)).rejects.toThrow(/vocabulary is 256/);
});
