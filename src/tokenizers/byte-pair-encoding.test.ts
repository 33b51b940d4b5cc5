import { Tokenizer as Library } from '@huggingface/tokenizers';
import { describe, expect, test } from 'vitest';
import { Random } from '../core/random.ts';
import { BytePairEncoding, type Suffixes } from './byte-pair-encoding.ts';

/** A vocabulary of a few characters and of random merges, some of them twice or of tokens that others make, too. */
function randomVocabulary(random: Random, alphabet: readonly string[], count: number) {
  const texts = [...alphabet];
  const pairs: [string, string][] = [];
  while (pairs.length < count) {
    const pair: [string, string] = [texts[random.integer(texts.length)]!, texts[random.integer(texts.length)]!];
    if (pair.join('').length > 12) continue;
    pairs.push(pair);
    if (!texts.includes(pair.join(''))) texts.push(pair.join(''));
  }
  // Ids in another order than ranks.
  for (let i = texts.length - 1; i > 0; i--) {
    const j = random.integer(i + 1);
    [texts[i], texts[j]] = [texts[j]!, texts[i]!];
  }
  return { texts, ids: new Map(texts.map((text, id) => [text, id])), pairs };
}

const suffixes: Suffixes[] = [{}, { end_of_word_suffix: '</w>' }, { continuing_subword_suffix: '@@' }];

describe.each(suffixes)('byte pair encoding with %j', (given) => {
  test.each([1, 2, 3, 4, 5])("splits words as the library's does: vocabulary %i", (seed) => {
    const random = new Random(seed);
    const end = given.end_of_word_suffix ?? '';
    const alphabet = ['a', 'b', 'c', '🦊', ...(end ? ['a', 'b'].map((text) => text + end) : [])];
    const { texts, ids, pairs } = randomVocabulary(random, alphabet, 1 + random.integer(200));
    const [left, right, merged] = [
      (pair: [string, string]) => pair[0],
      (pair: [string, string]) => pair[1],
      (pair: [string, string]) => pair.join(''),
    ].map((text) => Int32Array.from(pairs, (pair) => ids.get(text(pair))!)) as [Int32Array, Int32Array, Int32Array];
    const model = { type: 'BPE', vocab: Object.fromEntries(ids), merges: pairs, ...given };
    const parts = { added_tokens: [], normalizer: null, pre_tokenizer: null, post_processor: null, decoder: null };
    const library = new Library({ ...parts, model }, {}).model as unknown as { bpe(word: string): string[] };
    const encoding = new BytePairEncoding(ids, texts, { left, right, merged }, given);
    expect(encoding.split('')).toEqual([]);
    // ä is no token.
    const characters = ['a', 'a', 'b', 'c', '🦊', 'ä'];
    for (let round = 0; round < 400; round++) {
      const length = 1 + random.integer(round % 50 === 0 ? 400 : 12);
      const word = Array.from({ length }, () => characters[random.integer(characters.length)]!).join('');
      expect(encoding.split(word)).toEqual(library.bpe(word));
      expect(encoding.split(word)).toEqual(library.bpe(word));
    }
  });
});

test('a pair that is there twice has the later rank, as in the library', () => {
  const ids = new Map(['a', 'b', 'c', 'ab', 'bc'].map((text, id) => [text, id]));
  const merges = { left: Int32Array.of(0, 1, 0), right: Int32Array.of(1, 2, 1), merged: Int32Array.of(3, 4, 3) };
  expect(new BytePairEncoding(ids, [...ids.keys()], merges).split('abc')).toEqual(['a', 'bc']);
});
