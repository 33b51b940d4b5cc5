import { describe, expect, test } from 'vitest';
import { Digest } from './digest.ts';
import { Random } from './random.ts';

const random = new Random(5);
const words = Uint32Array.from({ length: 1000 }, () => random.uint32());

describe('Digest', () => {
  test('does not depend on the pieces', () => {
    const whole = new Digest().words(words).hex();
    expect(whole).toMatch(/^[0-9a-f]{32}$/);
    for (let round = 0; round < 50; round++) {
      const digest = new Digest();
      for (let at = 0; at < words.length; ) {
        const length = 1 + random.integer(30);
        digest.words(words.subarray(at, at + length));
        at += length;
      }
      expect(digest.hex()).toBe(whole);
    }
  });

  test('differs for every word, bit, order and length', () => {
    const seen = new Set([new Digest().hex(), new Digest().words(words).hex()]);
    for (let i = 0; i < words.length; i++) {
      const changed = words.slice();
      changed[i]! ^= 2 ** random.integer(31);
      seen.add(new Digest().words(changed).hex());
      seen.add(new Digest().words(words.subarray(0, i + 1)).hex());
    }
    // The whole is one of its beginnings.
    expect(seen.size).toBe(2 + 2 * words.length - 1);
    const swapped = words.slice();
    [swapped[0], swapped[4]] = [words[4]!, words[0]!];
    expect(seen.has(new Digest().words(swapped).hex())).toBe(false);
  });

  test('texts one after another are told apart by where they end', () => {
    expect(new Digest().text('ab').text('c').hex()).not.toBe(new Digest().text('a').text('bc').hex());
    expect(new Digest().text('a').hex()).not.toBe(new Digest().text('a\0').hex());
  });

  test('a copy goes its own way', () => {
    const digest = new Digest().words(words);
    const copy = digest.copy();
    expect(copy.words(words).hex()).toBe(new Digest().words(words).words(words).hex());
    expect(digest.hex()).toBe(new Digest().words(words).hex());
  });
});
