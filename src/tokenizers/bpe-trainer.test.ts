import { expect, test } from 'vitest';
import { Random } from '../core/random.ts';
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

/** Merges of words without looking at what changed: every pair of every word is counted anew for each. */
function plainMerges(words: readonly string[], most: number): string[] {
  let held = words.map((word) => [...word]);
  const order = new Map([...'abcdefgh'].map((name, i) => [name, i]));
  const merges: string[] = [];
  while (merges.length < most) {
    const counts = new Map<string, number>();
    for (const word of held)
      for (let i = 0; i + 1 < word.length; i++) {
        const pair = `${word[i]} ${word[i + 1]}`;
        counts.set(pair, (counts.get(pair) ?? 0) + 1);
      }
    const places = (pair: string) => pair.split(' ').map((name) => order.get(name)!);
    const [best] = [...counts].sort(([p, n], [q, m]) => {
      const [[a, b], [c, d]] = [places(p), places(q)];
      return m - n || a! - c! || b! - d!;
    });
    if (!best || best[1] < 2) break;
    const [a, b] = best[0].split(' ');
    merges.push(best[0]);
    order.set(`${a}${b}`, 100 + merges.length);
    held = held.map((word) => {
      const joined: string[] = [];
      for (let i = 0; i < word.length; i++)
        joined.push(word[i] === a && word[i + 1] === b ? `${word[i]}${word[++i]}` : word[i]!);
      return joined;
    });
  }
  return merges;
}

test.each([2, 3, 8])('merges are those of counting every pair anew: %i letters', async (letters) => {
  const random = new Random(letters);
  const words = Array.from({ length: 300 }, () =>
    Array.from({ length: 1 + random.integer(12) }, () => 'abcdefgh'[random.integer(letters)]!).join(''),
  );
  const text = words.join('\n');
  const json = (await trainBpe([text], 257 + 60)) as { model: { merges: string[] } };
  const expected = plainMerges(words, 60);
  expect(expected.length).toBeGreaterThan(30);
  expect(json.model.merges.slice(0, expected.length)).toEqual(expected);
});

test('of more words than are counted, the rarest are forgotten', async () => {
  const once = Array.from(
    { length: 1000 },
    (_, i) => `zq${String.fromCharCode(97 + (i % 26), 97 + Math.floor(i / 26))}`,
  );
  const text = [...once, ...new Array(500).fill('river')].join('\n');
  const first = async (mostBytes: number) =>
    ((await trainBpe([text], 262, { mostBytes })) as { model: { merges: string[] } }).model.merges[0];
  expect(await first(1 << 20)).toBe('z q');
  expect(await first(100)).toBe('e r');
});

test('its progress goes to the number of merges, and it ends when a pause throws', async () => {
  const told: [number, number][] = [];
  await trainBpe(texts, 262, { onProgress: (...of) => told.push(of) });
  expect(told).toEqual([0, 1, 2, 3, 4, 5].map((merges) => [merges, 5]));
  const pause = () => Promise.reject(new Error('stopped'));
  await expect(trainBpe(texts, 270, { pause })).rejects.toThrow('stopped');
});
