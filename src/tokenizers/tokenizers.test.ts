import { existsSync, readFileSync } from 'node:fs';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { memoryLimit } from '../../test/mutate.ts';
import { FormatError, InputError, RiverrunError } from '../core/errors.ts';
import { Random } from '../core/random.ts';
import { encodeStream } from './encode-stream.ts';
import { huggingFaceTokenizer } from './hugging-face.ts';
import type { Tokenizer } from './tokenizer.ts';

const root = new URL('../../', import.meta.url).pathname;
const books = huggingFaceTokenizer(
  JSON.parse(readFileSync(`${root}models/tiny-books-mamba-13m/tokenizer.json`, 'utf8')),
);
const shared = `${root}../shared/`;
const available = existsSync(shared);
if (!available) console.warn('skipped: the tokenizers of ../shared are not here');

const unicode = fc.string({ unit: 'binary', maxLength: 60 }).map((text) => text.replace(/[\ud800-\udfff]/gu, ''));

/** All pieces that a stream decoder gives, joined. */
function streamed(tokenizer: Tokenizer, tokens: readonly number[]): string {
  const decoder = tokenizer.stream();
  return tokens.map((token) => decoder.push(token)).join('') + decoder.end();
}

describe.runIf(available).each(['gpt-neox-20b', 'gpt2'])('%s', (name) => {
  const tokenizer = available
    ? huggingFaceTokenizer(JSON.parse(readFileSync(`${shared}tokenizers/${name}.json`, 'utf8')))
    : books;
  const golden: { text: string; ids: number[] }[] = available
    ? JSON.parse(readFileSync(`${shared}goldens/tokenizers/${name}.json`, 'utf8'))
    : [];

  test.each(golden.map(({ text, ids }) => [JSON.stringify(text).slice(0, 60), text, ids] as const))(
    '%s',
    (_, text, ids) => {
      expect(tokenizer.encode(text, { addSpecialTokens: false })).toEqual(ids);
      // NeoX composes characters first, so decoding gives the composed form.
      expect(tokenizer.decode(ids)).toBe(name === 'gpt2' ? text : text.normalize('NFC'));
    },
  );

  test("white space is Unicode's, not JavaScript's: U+0085 is, U+FEFF is not", () => {
    const expected = {
      'gpt-neox-20b': [89, 41497, 340, 16643, 1182, 35762, 41497, 88, 16643, 16643, 87],
      gpt2: [87, 171, 119, 123, 331, 126, 227, 1976, 27332, 119, 123, 171, 119, 123, 86, 126, 227, 126, 227, 85],
    }[name];
    expect(tokenizer.encode('x\ufeff y\u0085 z \ufeff\ufeffw\u0085\u0085v')).toEqual(expected);
  });

  test('ends texts with <|endoftext|>', () => {
    expect(tokenizer.decode([tokenizer.endOfText!])).toBe('<|endoftext|>');
    expect(tokenizer.isSpecial(tokenizer.endOfText!)).toBe(true);
  });
});

describe('a byte-level vocabulary', () => {
  test('any text comes back, whole and streamed', () => {
    fc.assert(
      fc.property(unicode, (text) => {
        const tokens = books.encode(text);
        expect(books.decode(tokens)).toBe(text);
        expect(streamed(books, tokens)).toBe(text.replaceAll('<|endoftext|>', ''));
      }),
      { numRuns: 500, seed: 3 },
    );
  });

  test('any tokens stream to what they decode to, never breaking a character', () => {
    const random = new Random(9);
    for (let round = 0; round < 300; round++) {
      const tokens = Array.from({ length: 30 }, () => 1 + random.integer(books.vocabularySize - 1));
      expect(streamed(books, tokens)).toBe(books.decode(tokens));
    }
    const bytes = books.encode('🦊', { addSpecialTokens: false });
    expect(bytes.length).toBeGreaterThan(1);
    const decoder = books.stream();
    expect(bytes.slice(0, -1).map((token) => decoder.push(token))).toEqual(bytes.slice(0, -1).map(() => ''));
    expect(decoder.push(bytes.at(-1)!)).toBe('🦊');
    decoder.push(bytes[0]!);
    expect(decoder.end()).toBe('\ufffd');
  });

  test('special tokens are matched, skipped or shown', () => {
    const tokens = books.encode('a<|endoftext|>b');
    expect(tokens).toContain(0);
    expect(books.decode(tokens)).toBe('a<|endoftext|>b');
    expect(books.decode(tokens, { skipSpecialTokens: true })).toBe('ab');
    expect(streamed(books, tokens)).toBe('ab');
    expect(books.tokenBytes(0)).toHaveLength(0);
  });

  test.each([[-1], [4096], [0.5]])('token %s does not exist', (token) => {
    expect(() => books.decode([token])).toThrow(InputError);
    expect(() => books.tokenBytes(token)).toThrow(/out of range: the tokenizer has ids 0 to 4095/);
  });

  test('adds the beginning where the settings say so', () => {
    const json = JSON.parse(readFileSync(`${root}models/tiny-books-mamba-13m/tokenizer.json`, 'utf8'));
    const begins = huggingFaceTokenizer(json, { bos_token: '<|endoftext|>', add_bos_token: true });
    expect(begins.encode('a')).toEqual([0, ...books.encode('a')]);
    expect(begins.encode('a', { addSpecialTokens: false })).toEqual(books.encode('a'));
  });
});

describe('encodeStream', () => {
  test.each([1, 7, 1000, 50_000])('chunks of about %i characters give the ids of the whole', async (size) => {
    const random = new Random(size);
    const path = `${shared}data/books/held-out.txt`;
    const text = existsSync(path)
      ? readFileSync(path, 'utf8').slice(0, size < 10 ? 60_000 : 300_000)
      : 'The cat  sat.\n\nOn the\tmat, ’twas “said” 12 345. '.repeat(3000);
    const chunks: string[] = [];
    for (let at = 0; at < text.length; ) {
      const length = 1 + random.integer(2 * size);
      chunks.push(text.slice(at, at + length));
      at += length;
    }
    const ids: number[] = [];
    for await (const piece of encodeStream(books, chunks)) ids.push(...piece);
    expect(ids).toEqual(books.encode(text));
  });

  test.each([
    ['before-spaces', 'x', 1 << 16],
    ['never', 'x y', 1 << 20],
  ] as const)('text without a place to cut (%s) is held back, and then cut', async (cuts, text, longest) => {
    const pieces: number[] = [];
    const tokenizer = { ...books, encode: (piece: string) => [piece.length], cuts } as Tokenizer;
    const length = 1.5 * longest;
    for await (const [count] of encodeStream(tokenizer, [text.repeat(length).slice(0, length)])) pieces.push(count!);
    expect(pieces).toEqual([longest, length - longest]);
  });

  test('chunks that are no text are refused', async () => {
    await expect(encodeStream(books, [new Uint8Array(3)] as never).next()).rejects.toThrow(/TextDecoderStream/);
  });
});

describe('a tokenizer.json that is not in order', () => {
  const valid = () => ({
    model: { type: 'BPE', vocab: { a: 0, b: 1, ab: 2 } as Record<string, unknown>, merges: ['a b'] as unknown },
    pre_tokenizer: { type: 'ByteLevel' } as unknown,
    decoder: { type: 'ByteLevel' } as unknown,
    normalizer: null as unknown,
    added_tokens: [] as unknown,
  });

  test('one that is in order works', () => {
    expect(huggingFaceTokenizer(valid()).encode('abab')).toEqual([2, 2]);
  });

  test.each<[string, (json: ReturnType<typeof valid>) => unknown, RegExp]>([
    ['a list', () => [], /is \[\], not an object/],
    ['no model', (json) => ({ ...json, model: undefined }), /model is missing/],
    ['an unknown model', (json) => ({ ...json, model: { ...json.model, type: 'Legacy' } }), /model\.type is "Legacy"/],
    [
      'an unknown pre-tokenizer',
      (json) => ({ ...json, pre_tokenizer: { type: 'Magic' } }),
      /pre_tokenizer\.type is "Magic"/,
    ],
    [
      'an unknown one in a sequence',
      (json) => ({ ...json, pre_tokenizer: { type: 'Sequence', pretokenizers: [{ type: 'x' }] } }),
      /pretokenizers\[0\]\.type is "x"/,
    ],
    [
      'a broken pattern',
      (json) => ({ ...json, normalizer: { type: 'Replace', pattern: 5, content: '' } }),
      /normalizer\.pattern is 5/,
    ],
    ['no vocabulary', (json) => ({ ...json, model: { ...json.model, vocab: null } }), /model\.vocab is null/],
    ['an empty vocabulary', (json) => ({ ...json, model: { ...json.model, vocab: {}, merges: [] } }), /vocab is empty/],
    [
      'an id twice',
      (json) => ({ ...json, model: { ...json.model, vocab: { a: 0, b: 0, ab: 1 } } }),
      /"b" and "a" both have the id 0/,
    ],
    [
      'a negative id',
      (json) => ({ ...json, model: { ...json.model, vocab: { a: -1, b: 1, ab: 2 } } }),
      /"a" has the id -1/,
    ],
    [
      'a huge id',
      (json) => ({ ...json, model: { ...json.model, vocab: { a: 1e12, b: 1, ab: 2 } } }),
      /"a" has the id 1000000000000/,
    ],
    [
      'a fractional id',
      (json) => ({ ...json, model: { ...json.model, vocab: { a: 0.5, b: 1, ab: 2 } } }),
      /"a" has the id 0.5/,
    ],
    ['merges that are no list', (json) => ({ ...json, model: { ...json.model, merges: 'a b' } }), /merges is "a b"/],
    [
      'a merge of an unknown token',
      (json) => ({ ...json, model: { ...json.model, merges: ['a c'] } }),
      /merges\[0\] is "a c", but "c" is not in/,
    ],
    [
      'an added token without text',
      (json) => ({ ...json, added_tokens: [{ id: 3 }] }),
      /added_tokens\[0\]\.content is missing/,
    ],
    [
      'an added token of another id',
      (json) => ({ ...json, added_tokens: [{ id: 3, content: 'a' }] }),
      /has the id 3, but 0 in/,
    ],
  ])('%s is refused', (_, edit, message) => {
    const attempt = () => huggingFaceTokenizer(edit(valid()));
    expect(attempt).toThrow(FormatError);
    expect(attempt).toThrow(message);
  });
});

test('10,000 damaged tokenizer.json files give a tokenizer or one of our errors', () => {
  const random = new Random(8);
  const vocab = Object.fromEntries([...'abcdef ', 'ab', 'abc', 'de'].map((text, id) => [text.replace(' ', 'Ġ'), id]));
  const original = JSON.stringify({
    version: '1.0',
    added_tokens: [{ id: 10, content: '<s>', special: true }],
    normalizer: { type: 'NFC' },
    pre_tokenizer: { type: 'Sequence', pretokenizers: [{ type: 'ByteLevel', add_prefix_space: false }] },
    post_processor: null,
    decoder: { type: 'ByteLevel' },
    model: { type: 'BPE', vocab, merges: ['a b', ['ab', 'c'], 'd e'] },
  });
  const hostile = ['null', '-1', '1e9', '"x"', '[]', '{}', 'true', '0.5', '"__proto__"', '[["a"]]'];
  let worked = 0;
  for (let round = 0; round < 10_000; round++) {
    // Values and names are swapped for hostile ones, so that what is damaged is still JSON.
    const values = [...original.matchAll(/"[^"]*"|\d+|true|false|null/g)];
    let text = original;
    for (let n = 1 + random.integer(2); n > 0; n--) {
      const chosen = values[random.integer(values.length)]!;
      const isName = original[chosen.index + chosen[0].length] === ':';
      const replacement = isName ? '"other"' : hostile[random.integer(hostile.length)]!;
      text = text.slice(0, chosen.index) + replacement + text.slice(chosen.index + chosen[0].length);
    }
    let json: unknown;
    try {
      json = JSON.parse(text);
    } catch {
      continue;
    }
    const checkMemory = memoryLimit(text.length);
    try {
      const tokenizer = huggingFaceTokenizer(json);
      tokenizer.decode(tokenizer.encode('abc de<s>'));
      worked++;
    } catch (error) {
      expect(error, `${text}\n${(error as Error).stack}`).toBeInstanceOf(RiverrunError);
    }
    checkMemory();
  }
  expect(worked).toBeGreaterThan(100);
});
