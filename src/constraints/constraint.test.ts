import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { InputError, UnsupportedError } from '../core/errors.ts';
import { byteTokenizer } from '../tokenizers/bytes.ts';
import type { Tokenizer } from '../tokenizers/tokenizer.ts';
import { type Constraint, type ConstraintState, constrain } from './constraint.ts';

const bytes = byteTokenizer();
const start = (constraint: Constraint): ConstraintState => constrain(constraint, bytes, 256);

/** Whether all of a text is allowed, and may end there. */
function accepts(from: ConstraintState, text: string): boolean {
  let state = from;
  for (const byte of bytes.encode(text)) {
    if (!isAllowed(state, byte)) return false;
    state = state.advance(byte);
  }
  return state.isComplete;
}

const isAllowed = ({ allowed }: ConstraintState, token: number): boolean =>
  (allowed[token >> 5]! & (1 << (token & 31))) !== 0;

describe('regular expressions', () => {
  const expressions = [
    /[ab]{2,3}/u,
    /(a|bc)*d?/u,
    /a+?b{2}|c{1,}/u,
    /^(x|y.)$|z/u,
    /[^a-c]b|\d\w\s\D/u,
    /[é-ü]*€?[😀-😂]/u,
    /\p{Lu}\P{L}\u{1f600}?/u,
    /(?<name>[\]\-a])(?:b|)\x41?\u0042?\n?/u,
    /[\w.-]+/u,
    /a.b/su,
    /(a*)*(b{0,2}){2}/u,
  ];
  const characters = [...'abcdxyzABé€ü😀😁 .-]1_\n', 'bc', 'ab', '\u2028'];

  test.each(expressions)('%s allows what JavaScript matches', (regex) => {
    const state = start({ regex });
    const whole = new RegExp(`^(?:${regex.source})$`, regex.flags);
    const texts = fc.array(fc.constantFrom(...characters), { maxLength: 6 }).map((parts) => parts.join(''));
    fc.assert(
      fc.property(texts, (text) => {
        expect(accepts(state, text), JSON.stringify(text)).toBe(whole.test(text));
      }),
      { numRuns: 1500, seed: 4 },
    );
  });

  test('nothing else than what can be finished is allowed', () => {
    const state = start({ regex: 'ab|cd' });
    expect([...'abcd'].map((letter) => isAllowed(state, letter.charCodeAt(0)))).toEqual([true, false, true, false]);
    const end = state.advance(97).advance(98);
    expect(end.isComplete && !end.canContinue).toBe(true);
    expect(end.allowed.every((word) => word === 0)).toBe(true);
    expect(() => state.advance(98)).toThrow(/token 98 is not allowed/);
  });

  test.each<[string | RegExp, RegExp]>([
    ['(a', /invalid regular expression.*Unterminated group/],
    ['[z-a]', /out of order/],
    ['a{2,1}', /out of order/],
    ['(?=a)b', /at character 2: a group that looks around/],
    ['(a)\\1', /\\1 is not supported/],
    ['\\bx', /\\b is not supported/],
    ['a^b', /understood only at the very ends/],
    [/a/i, /has the flag i/],
    ['[]', /has no characters/],
    ['(a{1000}){1000}', /too large/],
  ])('%s is refused', (regex, message) => {
    expect(() => start({ regex })).toThrow(message);
  });
});

describe('choices', () => {
  test('are allowed as they are, even where one begins another', () => {
    const state = start({ choices: ['yes', 'yes please', 'nö.*'] });
    for (const text of ['yes', 'yes please', 'nö.*']) expect(accepts(state, text)).toBe(true);
    for (const text of ['', 'ye', 'yes p', 'no', 'nö.x']) expect(accepts(state, text)).toBe(false);
  });

  test('may be many', () => {
    const state = start({ choices: Array.from({ length: 20_000 }, (_, i) => `number ${i}`) });
    expect(accepts(state, 'number 19999')).toBe(true);
    expect(accepts(state, 'number 20000')).toBe(false);
  });

  test.each([
    [{ choices: [] }, /list of texts/],
    [{ choices: ['a', ''] }, /none of them empty/],
    [{ choice: ['a'] }, /one of \{ regex \}/],
    [{ choices: ['a'], regex: 'a' }, /one of \{ regex \}/],
    [{ regex: 7 }, /must be a text or a RegExp/],
    [null, /a constraint is one of/],
  ])('%j is refused', (constraint, message) => {
    expect(() => start(constraint as never)).toThrow(message);
    expect(() => start(constraint as never)).toThrow(InputError);
  });
});

describe('vocabularies', () => {
  /** Tokens of several bytes, some of which end inside a character. */
  const tokens = ['', 'a', 'b', 'ab', 'abc', '1', '12', '€'].map((text) => new TextEncoder().encode(text));
  const euro = tokens[7]!;
  tokens.push(euro.slice(0, 2), euro.slice(2), new TextEncoder().encode('ab'));
  const tokenizer: Tokenizer = {
    ...bytes,
    vocabularySize: tokens.length,
    endOfText: 0,
    tokenBytes: (id) => tokens[id]!,
    isSpecial: (id) => id === 0,
  };
  const allowed = (state: ConstraintState) => [...tokens.keys()].filter((token) => isAllowed(state, token));

  test('every token that goes on is allowed, and the end where the text may end', () => {
    const state = constrain({ regex: '(ab?|€)+' }, tokenizer, tokens.length);
    expect(allowed(state)).toEqual([1, 3, 7, 8, 10]);
    expect(allowed(state.advance(1))).toEqual([0, 1, 2, 3, 7, 8, 10]);
    expect(allowed(state.advance(8))).toEqual([9]);
  });

  test('tokens that the model has no logits for are not', () => {
    const state = constrain({ regex: 'ab' }, tokenizer, 4);
    expect(allowed(state)).toEqual([1, 3]);
  });

  test('states do not change', () => {
    const state = constrain({ regex: 'a(b|c)' }, tokenizer, tokens.length);
    const [first, second] = [state.advance(1), state.advance(3)];
    expect(first.isComplete).toBe(false);
    expect(second.isComplete).toBe(true);
    expect(allowed(first)).toEqual([2]);
  });
});

describe('JSON schemas', () => {
  const person = {
    type: 'object',
    properties: {
      name: { type: 'string', minLength: 1, maxLength: 5 },
      age: { type: 'integer', minimum: 0, maximum: 120 },
      tags: { type: 'array', items: { enum: ['a', 'b'] }, minItems: 1, maxItems: 2 },
    },
    required: ['name'],
  };
  const tree = {
    $ref: '#/$defs/node',
    $defs: {
      node: {
        type: 'object',
        properties: { value: { type: 'boolean' }, children: { type: 'array', items: { $ref: '#/$defs/node' } } },
        required: ['value'],
      },
    },
  };
  const shape = {
    oneOf: [
      { type: 'object', properties: { kind: { const: 'circle' }, r: { type: 'number' } }, required: ['kind', 'r'] },
      { type: 'object', properties: { kind: { const: 'dot' } }, required: ['kind'] },
    ],
  };
  test.each<[string, object | boolean, string[], string[]]>([
    [
      'objects',
      person,
      [
        '{"name":"Tom"}',
        '{"name": "T", "age":120}',
        '{"name":"é\\"\\n","tags":["a", "b"]}',
        '{"name":"😀", "age":7,"tags":["b"]}',
      ],
      [
        '{}',
        '{"name":""}',
        '{"name":"abcdef"}',
        '{"name":"T","age":121}',
        '{"name":"T","age":01}',
        '{"name":"T","tags":[]}',
        '{"age":1,"name":"T"}',
        '{"name":"T","x":1}',
        '{"name":"T",}',
      ],
    ],
    [
      'optional first',
      { properties: { a: { type: 'null' }, b: { type: 'null' } } },
      ['{}', '{"a":null}', '{"b":null}', '{"a":null, "b":null}'],
      ['{,"b":null}', '{"b":null,"a":null}'],
    ],
    [
      'recursion',
      tree,
      ['{"value":true}', '{"value":true,"children":[{"value":false}, {"value":true,"children":[]}]}'],
      ['{"value":true,"children":[{}]}', '{"value":true,"children":[{"value":true]}}'],
    ],
    ['one of', shape, ['{"kind":"circle","r":1.5}', '{"kind":"dot"}'], ['{"kind":"circle"}', '{"kind":"square"}']],
    [
      'anything',
      true,
      ['null', '-1.5e3', '"x"', '[1, [], {"a": {}}]', '{"a":[true, false],"b":""}'],
      ['', 'nul', '01', '[1,]', '{a:1}', '"\n"', '1.'],
    ],
    [
      'maps',
      { type: 'object', additionalProperties: { type: 'integer' }, minProperties: 1, maxProperties: 2 },
      ['{"a":1}', '{"":-3,"b":0}'],
      ['{}', '{"a":1.5}', '{"a":1,"b":2,"c":3}'],
    ],
    [
      'further properties',
      { properties: { ab: { const: 1 } }, required: ['ab'], additionalProperties: { type: 'null' } },
      ['{"ab":1}', '{"ab":1,"a":null,"abc":null,"":null,"x":null}'],
      ['{"ab":1,"ab":null}', '{"a":null}'],
    ],
    [
      'names that look like places',
      {
        properties: {
          'a/properties/b': { type: 'integer' },
          a: { properties: { b: { type: 'null' } }, required: ['b'] },
          'a 0 true': { $ref: '#/properties/a~1properties~1b' },
        },
        required: ['a/properties/b', 'a', 'a 0 true'],
      },
      ['{"a/properties/b":1,"a":{"b":null},"a 0 true":2}'],
      ['{"a/properties/b":null', '{"a/properties/b":1,"a":{"b":1', '{"a/properties/b":1,"a":{"b":null},"a 0 true":{'],
    ],
    ['required but not described', { required: ['x'] }, ['{"x":[1]}'], ['{}', '{"y":1}']],
    [
      'tuples',
      { prefixItems: [{ type: 'integer' }, { type: 'string' }], items: { type: 'null' }, maxItems: 3 },
      ['[1,"a"]', '[1, "a",null]'],
      ['[]', '[1]', '[1,"a",null,null]', '[1,"a",2]'],
    ],
    ['patterns', { type: 'string', pattern: '^a"?b' }, ['"ab"', '"a\\"bc"', '"ab\\\\"'], ['"xab"', '"a"b"']],
    [
      'dates',
      { type: 'string', format: 'date-time' },
      ['"2024-02-28T23:59:59Z"', '"1999-12-31T00:00:00.5+01:00"'],
      ['"2024-13-01T00:00:00Z"', '"2024-04-31T00:00:00Z"', '"2024-01-01"'],
    ],
    ['types', { type: ['integer', 'null'] }, ['null', '-12'], ['1.5', 'true']],
    ['enumerations of a type', { type: 'string', enum: ['a', 1, null] }, ['"a"'], ['1', 'null']],
    ['annotations', { $schema: 'x', title: 'y', description: 'z', default: 1, type: 'boolean' }, ['true'], ['1']],
  ])('%s', (_, jsonSchema, valid, invalid) => {
    const state = start({ jsonSchema });
    for (const text of valid) expect(accepts(state, text), text).toBe(true);
    for (const text of invalid) expect(accepts(state, text), text).toBe(false);
  });

  test('bounds of whole numbers are kept', () => {
    const bound = fc.integer({ min: -1200, max: 1200 });
    fc.assert(
      fc.property(bound, bound, fc.boolean(), fc.boolean(), (a, b, isLowOut, isHighOut) => {
        const [low, high] = [Math.min(a, b) - 2, Math.max(a, b)];
        const state = start({
          jsonSchema: {
            type: 'integer',
            [isLowOut ? 'exclusiveMinimum' : 'minimum']: low,
            [isHighOut ? 'exclusiveMaximum' : 'maximum']: high,
          },
        });
        for (const x of [low - 1, low, low + 1, high - 1, high, high + 1, 0, (low + high) >> 1]) {
          const isIn = (isLowOut ? x > low : x >= low) && (isHighOut ? x < high : x <= high);
          expect(accepts(state, String(x)), `${x} in ${low} … ${high}`).toBe(isIn);
        }
      }),
      { numRuns: 60, seed: 2 },
    );
  });

  test('bounds of numbers are kept', () => {
    const state = start({ jsonSchema: { type: 'number', exclusiveMinimum: -1, maximum: 1.5 } });
    for (const text of ['0', '0.5', '1', '0.25']) expect(accepts(state, text), text).toBe(true);
    for (const text of ['-1', '2', '1.75', '-1.5', '1.0']) expect(accepts(state, text), text).toBe(false);
    expect(accepts(start({ jsonSchema: { type: 'number', minimum: 10 } }), '12.5')).toBe(true);
  });

  test.each<[unknown, RegExp, typeof InputError | typeof UnsupportedError]>([
    [{ type: 'object', property: {} }, /at # has an unknown keyword property: did you mean properties/, InputError],
    [{ items: { type: 'text' } }, /at #\/items has type "text"; known: object/, InputError],
    [{ type: 'string', minimum: 3 }, /minimum says nothing of the type string/, InputError],
    [{ properties: { a: { multipleOf: 2 } } }, /at #\/properties\/a: multipleOf is not supported/, UnsupportedError],
    [{ not: {} }, /not is not supported/, UnsupportedError],
    [{ $ref: 'http://x' }, /leads out of the schema/, UnsupportedError],
    [{ $ref: '#/$defs/none' }, /leads nowhere/, InputError],
    [{ type: 'string', pattern: '(' }, /invalid regular expression/, InputError],
    [{ type: 'string', pattern: 'a', maxLength: 3 }, /pattern together with maxLength/, UnsupportedError],
    [{ type: 'string', format: 'colour' }, /format colour is not supported; known: date/, UnsupportedError],
    [{ oneOf: [{ type: 'integer' }, { type: 'number' }] }, /oneOf is supported where/, UnsupportedError],
    [{ oneOf: [{ const: { a: 1, b: 2 } }, { const: { b: 2, a: 1 } }] }, /oneOf is supported where/, UnsupportedError],
    [{ type: 'object', additionalProperties: true, minProperties: 2 }, /a name that comes twice/, UnsupportedError],
    [{ allOf: [{}, {}] }, /merge them/, UnsupportedError],
    [{ anyOf: [{}], type: 'string' }, /anyOf together with type/, UnsupportedError],
    [{ type: 'array', minItems: -1 }, /minItems is -1/, InputError],
    [{ type: 'array', minItems: 2, maxItems: 1 }, /allows no text that ever ends/, InputError],
    [{ enum: [] }, /list of at least one/, InputError],
    [false, /allows no text/, InputError],
    [{ properties: { a: { $ref: '#' } }, required: ['a'] }, /allows no text that ever ends/, InputError],
    [{ anyOf: [{ $ref: '#' }, { type: 'null' }] }, /contains itself without an end/, InputError],
    ['text', /neither an object/, InputError],
  ])('%j is refused', (jsonSchema, message, type) => {
    expect(() => start({ jsonSchema } as never)).toThrow(message);
    expect(() => start({ jsonSchema } as never)).toThrow(type);
  });

  test('what is allowed is valid JSON, however a text is drawn', () => {
    const state = start({
      jsonSchema: { type: 'object', properties: { a: true, b: person }, additionalProperties: true },
    });
    fc.assert(
      fc.property(fc.infiniteStream(fc.nat()), (choices) => {
        let [at, text] = [state, [] as number[]];
        while (!(at.isComplete && !at.canContinue) && text.length < 200) {
          const options = Array.from({ length: 256 }, (_, byte) => byte).filter((byte) => isAllowed(at, byte));
          expect(options.length).toBeGreaterThan(0);
          const byte = options[choices.next().value! % options.length]!;
          text.push(byte);
          at = at.advance(byte);
        }
        if (at.isComplete) JSON.parse(bytes.decode(text));
      }),
      { numRuns: 150, seed: 3 },
    );
  });
});
