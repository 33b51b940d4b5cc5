import { existsSync, readFileSync } from 'node:fs';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { memoryLimit } from '../../test/mutate.ts';
import { FormatError } from '../core/errors.ts';
import { Random } from '../core/random.ts';
import { byteTokenizer } from './bytes.ts';
import { encodeStream } from './encode-stream.ts';
import { pythonLiteral } from './python-literal.ts';
import { worldTokenizer } from './rwkv-world.ts';

const shared = new URL('../../../shared/', import.meta.url).pathname;
const available = existsSync(shared);
if (!available) console.warn('skipped: the RWKV World vocabulary of ../shared is not here');
const file = available ? readFileSync(`${shared}tokenizers/rwkv_vocab_v20230424.txt`, 'utf8') : '';

/** All bytes and a few words. */
const small = [
  ...Array.from({ length: 256 }, (_, byte) => `${byte + 1} b'\\x${byte.toString(16).padStart(2, '0')}' 1`),
  "257 'the' 3",
  "258 ' the' 4",
  "259 'then' 4",
  "260 '你' 3",
].join('\n');

describe.runIf(available)('the World vocabulary', () => {
  const tokenizer = available ? worldTokenizer(file) : byteTokenizer();
  const golden: { text: string; ids: number[] }[] = available
    ? JSON.parse(readFileSync(`${shared}goldens/tokenizers/rwkv-world.json`, 'utf8'))
    : [];

  test.each(golden.map(({ text, ids }) => [JSON.stringify(text).slice(0, 60), text, ids] as const))(
    '%s',
    (_, text, ids) => {
      expect(tokenizer.encode(text)).toEqual(ids);
      expect(tokenizer.decode(ids)).toBe(text);
    },
  );

  test('ends texts with id 0, which stands for no text', () => {
    expect(tokenizer.endOfText).toBe(0);
    expect(tokenizer.vocabularySize).toBe(65530);
    expect(tokenizer.decode([0, ...tokenizer.encode('a'), 0])).toBe('a');
  });

  test('a stream of chunks gives the ids of the whole', async () => {
    const text = readFileSync(`${shared}data/books/held-out.txt`, 'utf8').slice(0, 200_000);
    const random = new Random(1);
    const chunks: string[] = [];
    for (let at = 0; at < text.length; at += chunks.at(-1)!.length)
      chunks.push(text.slice(at, at + 1 + random.integer(3000)));
    const ids: number[] = [];
    for await (const piece of encodeStream(tokenizer, chunks)) ids.push(...piece);
    expect(ids).toEqual(tokenizer.encode(text));
  });
});

describe.each([
  ['World', worldTokenizer(small)],
  ['bytes', byteTokenizer()],
])('%s', (_, tokenizer) => {
  test('any text comes back, whole and streamed', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'grapheme', maxLength: 40 }), (text) => {
        const ids = tokenizer.encode(text);
        expect(tokenizer.decode(ids)).toBe(text);
        const decoder = tokenizer.stream();
        expect(ids.map((id) => decoder.push(id)).join('') + decoder.end()).toBe(text);
      }),
      { numRuns: 200, seed: 1 },
    );
  });
});

test('the longest token that fits is taken', () => {
  expect(worldTokenizer(small).encode('then the 你')).toEqual([259, 258, 33, 260]);
});

test.each([
  ["'a'", [97]],
  ['"it\'s"', [105, 116, 39, 115]],
  ["b'\\xff\\n'", [255, 10]],
  ["'\\u00e9'", [195, 169]],
  ["'\\\\'", [92]],
])('%s is a Python literal', (source, bytes) => {
  expect([...pythonLiteral(source)!]).toEqual(bytes);
});

test.each(["'a", 'a', "'a'b'", "b'é'", "'\\q'", "'\\x1'", "'\\U99999999'"])('%s is none', (source) => {
  expect(pythonLiteral(source)).toBeUndefined();
});

test.each<[string, string, RegExp]>([
  ['no line', '', /no token for byte 0/],
  ['words', 'hello world', /line 1: an id, a Python literal/],
  ['id 0', `0 'a' 1\n${small}`, /line 1: the id 0/],
  ['an id twice', `${small}\n5 'zz' 2`, /line 261: the id 5 was given before/],
  ['a wrong length', `${small}\n300 'zz' 3`, /the literal has 2 bytes, not 3/],
  ['a huge id', `${small}\n9999999 'zz' 2`, /the id 9999999/],
  ['a missing byte', small.split('\n').slice(1).join('\n'), /no token for byte 0/],
])('a vocabulary with %s is refused', (_, text, message) => {
  expect(() => worldTokenizer(text)).toThrow(FormatError);
  expect(() => worldTokenizer(text)).toThrow(message);
});

test('10,000 damaged vocabularies give a tokenizer or a FormatError', () => {
  const random = new Random(4);
  let worked = 0;
  const tail = small.split('\n').slice(250);
  for (let round = 0; round < 10_000; round++) {
    let text = tail.join('\n');
    for (let n = 1 + random.integer(3); n > 0; n--) {
      const at = random.integer(text.length);
      text = text.slice(0, at) + String.fromCharCode(random.integer(128)) + text.slice(at + random.integer(3));
    }
    const checkMemory = memoryLimit(text.length);
    try {
      worldTokenizer(`${small.split('\n').slice(0, 250).join('\n')}\n${text}`);
      worked++;
    } catch (error) {
      expect(error).toBeInstanceOf(FormatError);
    }
    checkMemory();
  }
  expect(worked).toBeGreaterThan(0);
});
