import { readFileSync } from 'node:fs';
import { afterAll, describe, expect, test } from 'vitest';
import { referenceBackend } from '../src/backends/reference/index.ts';
import { wasmBackend } from '../src/backends/wasm/index.ts';
import type { Backend } from '../src/core/backend.ts';
import { InputError, UnsupportedError } from '../src/core/errors.ts';
import { float16Table, float16ToNumber, numberToFloat16 } from '../src/core/float16.ts';
import { plan } from '../src/core/plan.ts';
import { Random } from '../src/core/random.ts';
import type { StateFormat } from '../src/core/state-format.ts';
import { type Carry, input, leaf } from '../src/core/trace.ts';
import { inspect, load, PrefixCache } from '../src/index.ts';
import { attention } from '../src/ops/attention.ts';
import { spawnThread } from '../src/platform/node.ts';
import type { Model } from '../src/runtime/model.ts';
import type { Session } from '../src/runtime/session.ts';
import { State } from '../src/runtime/state.ts';
import { type StateSize, stateBytesAt } from '../src/runtime/state-size.ts';
import { HalfTensor } from '../src/runtime/state-tensor.ts';
import { goldenModel, goldenNames } from './assembled.ts';
import { errorRatio, tolerance } from './tolerance.ts';

/*
 * Keys and values of attention in f16.
 */

const f64 = referenceBackend('f64');
const simd = await wasmBackend({ relaxed: false, guards: true });
const relaxed = await wasmBackend({ relaxed: true, poison: true });
const two = await wasmBackend({ threads: 2, spawn: spawnThread, guards: true });
const three = await wasmBackend({ threads: 3, spawn: spawnThread });
const backends: [string, Backend][] = [
  ['reference', f64],
  ['wasm simd', simd],
  ['wasm relaxed', relaxed],
  ['wasm, 2 threads', two],
];
afterAll(() => {
  for (const backend of [simd, relaxed, two, three]) backend.dispose();
});

/** Attention over one sequence, `step` tokens at a time, with keys and values kept in f16: what comes out, and what is kept. */
function attend(
  backend: Backend,
  { q, k, v, width, window, step }: Record<'q' | 'k' | 'v', Float32Array> & Record<'width' | 'window' | 'step', number>,
): { y: number[]; keys: Float32Array; values: Float32Array } {
  const state = (name: string) => leaf({ kind: 'state', name, fill: 0 }, ['segments', 1, width]);
  const [keys, values] = [state('keys'), state('values')];
  const tensors = Object.fromEntries(['q', 'k', 'v'].map((name) => [name, input(name, ['tokens', 1, width])]));
  const [y, nextKeys, nextValues] = attention({
    ...(tensors as Record<'q' | 'k' | 'v', ReturnType<typeof input>>),
    keys,
    values,
    positions: input('positions', ['segments'], 'i32'),
    ends: input('ends', ['segments'], 'i32'),
    scale: 1,
    window,
  });
  const carry = (name: string, previous: typeof keys, next: typeof keys): Carry => ({
    name,
    shape: [1, width],
    fill: 0,
    growing: true,
    format: 'f16',
    previous,
    next,
  });
  const carries = [carry('keys', keys, nextKeys), carry('values', values, nextValues)];
  const weights = backend.weights([]);
  const made = plan(new Map([['y', y]]), carries, { tokens: step, segments: 1, outputs: 1 }, backend.layout(weights));
  const executable = backend.compile(made, weights, carries);
  const slot = backend.slot(carries);
  const count = q.length / width;
  const result: number[] = [];
  try {
    for (let at = 0; at < count; at += step) {
      const tokens = Math.min(step, count - at);
      slot.reserve(at + tokens, at);
      for (const [name, data] of Object.entries({ q, k, v }))
        executable.input(name).set(data.subarray(at * width, (at + tokens) * width));
      executable.input('ends')[0] = tokens;
      executable.input('positions')[0] = at;
      executable.run({ tokens, segments: 1, outputs: 1 }, [slot]);
      result.push(...executable.output('y').subarray(0, tokens * width));
    }
    return { y: result, keys: slot.read('keys'), values: slot.read('values') };
  } finally {
    slot.dispose();
    executable.dispose();
  }
}

/** Where two arrays first differ; nothing where they are the same. */
function difference(a: ArrayLike<number>, b: ArrayLike<number>): string | undefined {
  if (a.length !== b.length) return `${a.length} numbers against ${b.length}`;
  for (let i = 0; i < a.length; i++) if (a[i] !== b[i]) return `${a[i]} against ${b[i]} at ${i} of ${a.length}`;
  return undefined;
}

/** All finite numbers of f16, those half-way between two of them, and the numbers of f32 beside these; filled up to rows of 63. */
function everyNumber(): Float32Array {
  const table = float16Table();
  const found: number[] = [];
  for (let half = 0; half < 0x7c00; half++) {
    const [own, next] = [table[half]!, half === 0x7bff ? 65520 : table[half + 1]!];
    const middle = Math.fround((own + next) / 2);
    const bits = new Int32Array(Float32Array.of(middle).buffer)[0]!;
    const beside = new Float32Array(Int32Array.of(bits - 1, bits + 1).buffer);
    // Beyond the last of all there is no number half-way.
    for (const value of half === 0x7bff ? [own, 65519.99609375] : [own, middle, ...beside]) found.push(value, -value);
  }
  const width = 63;
  return Float32Array.from({ length: Math.ceil(found.length / width) * width }, (_, i) => found[i] ?? 0);
}

const every = everyNumber();

describe.each(backends)('%s', (_, backend) => {
  test.each([3, 65])('every number is rounded to the nearest, and read back exactly, %i tokens at a time', (step) => {
    const v = every;
    // With a window of one token, what comes out is the token's own value.
    const given = { q: v.map(() => 0), k: v.toReversed(), v, width: 63, window: 1, step };
    const { y, keys, values } = attend(backend, given);
    const rounded = v.map((value) => float16ToNumber(numberToFloat16(value)));
    expect(difference(y, rounded)).toBeUndefined();
    expect(difference(values, rounded)).toBeUndefined();
    expect(difference(keys, rounded.toReversed())).toBeUndefined();
  });

  test('the smallest keys count, beside large queries', () => {
    const random = new Random(4);
    const [width, count] = [20, 70];
    const numbers = (scale: number) => Float32Array.from({ length: width * count }, () => scale * random.normal());
    const given = { q: numbers(3e5), k: numbers(1e-6), v: numbers(1), width, window: 0 };
    const truth = attend(f64, { ...given, step: 70 });
    for (const step of [1, 3, 70])
      expect(errorRatio(attend(backend, { ...given, step }).y, truth.y), `by ${step}`).toBeLessThan(tolerance.op);
  });

  test.each([65520, 1e6, Number.POSITIVE_INFINITY, Number.NaN])('%d is refused by name', (value) => {
    const zeros = () => new Float32Array(63 * 4);
    const given = { q: zeros(), k: zeros(), v: zeros(), width: 63, window: 0 };
    expect(() => attend(backend, { ...given, step: 1 })).not.toThrow();
    for (const [name, at] of [
      ['k', 0],
      ['v', 63 + 62],
      ['k', 3 * 63 + 40],
    ] as const)
      for (const step of [1, 4]) {
        const wrong = zeros();
        wrong[at] = -value;
        const run = () => attend(backend, { ...given, [name]: wrong, step });
        expect(run, `${name} ${at} by ${step}`).toThrow(UnsupportedError);
        expect(run).toThrow(/in f16, which ends at 65504: load the model with kvCache: 'f32'/);
        if (backend !== f64) expect(run).toThrow(name === 'k' ? /^keys/ : /^values/);
      }
  });
});

const tokensOf = (count: number, below: number, seed = 3): number[] => {
  const random = new Random(seed);
  return Array.from({ length: count }, () => random.integer(below));
};

/** All carried states of a session, end to end. */
const stateOf = (session: Session): number[] =>
  session.stateNames.flatMap((name) => Array.from(session.readState(name)));

const half = (name: string, backend: Backend): Promise<Model> => goldenModel(name, backend, { kvCache: 'f16' });
const withAttention: string[] = [];
for (const name of goldenNames) {
  const model = await goldenModel(name, f64);
  if (model.kvCache) withAttention.push(name);
  model.dispose();
}

test('there are Transformers and hybrids among the fixtures', () => {
  expect(withAttention).toEqual(expect.arrayContaining(['bamba', 'gpt2', 'gpt_neox', 'llama', 'qwen2']));
});

describe.each(withAttention)('%s', (name) => {
  test('is close to f32, and not the same', async () => {
    const [full, rounded] = [await goldenModel(name, relaxed), await half(name, relaxed)];
    const tokens = tokensOf(63, full.vocabularySize);
    const [expected, found] = [await full.session().logitsOf(tokens), await rounded.session().logitsOf(tokens)];
    expect([full.kvCache, rounded.kvCache]).toEqual(['f32', 'f16']);
    const error = errorRatio(found, expected);
    expect(error).toBeGreaterThan(0);
    expect(error).toBeLessThan(tolerance.halves);
    for (const model of [full, rounded]) model.dispose();
  });

  test.each([1, 3, 63, 65])('a text in pieces of %i has the same logits and state', async (piece) => {
    const models = [await half(name, f64), await half(name, simd), await half(name, relaxed)];
    const tokens = tokensOf(Math.min(150, models[0]!.longest), models[0]!.vocabularySize);
    const expected = models[0]!.session();
    const logits = await expected.logitsOf(tokens);
    for (const model of models) {
      const session = model.session();
      const found: number[] = [];
      for (let at = 0; at < tokens.length; at += piece)
        found.push(...(await session.logitsOf(tokens.slice(at, at + piece))));
      // A difference in the last bit of a key may be one in the last of its 11.
      const limit = model === models[0] ? tolerance.exact : tolerance.rounded;
      expect(errorRatio(found, logits), `logits on ${model.backend}`).toBeLessThan(limit);
      expect(errorRatio(stateOf(session), stateOf(expected)), `state on ${model.backend}`).toBeLessThan(limit);
    }
    for (const model of models) model.dispose();
  });

  test('neither threads nor other sequences of a batch change a bit', async () => {
    const results: string[] = [];
    for (const backend of [relaxed, two, three]) {
      const model = await half(name, backend);
      const texts = [1, 70, 3, 65].map((length, n) =>
        tokensOf(Math.min(length, model.longest - 2), model.vocabularySize, n),
      );
      const alone: number[][] = [];
      for (const text of texts) {
        const session = model.session();
        await session.read(text);
        await session.step(7);
        alone.push([...session.logits, ...stateOf(session)]);
      }
      const sessions = texts.map(() => model.session());
      for (const [n, session] of sessions.entries()) await session.read(texts[n]!);
      await model.readTogether(
        sessions,
        sessions.map(() => [7]),
      );
      for (const [n, session] of sessions.entries())
        expect(difference([...session.logits, ...stateOf(session)], alone[n]!)).toBeUndefined();
      results.push(JSON.stringify(alone));
      model.dispose();
    }
    expect(new Set(results).size).toBe(1);
  });

  test('saved, forked and rewound, it goes on as if nothing had been', async () => {
    for (const backend of [referenceBackend('f32'), relaxed]) {
      const model = await half(name, backend);
      const [first, second] = [tokensOf(40, model.vocabularySize), tokensOf(9, model.vocabularySize, 4)];
      const session = model.session({ checkpoints: { capacity: 2 } });
      await session.read(first);
      session.checkpoints.mark('here');
      const saved = session.state.save();
      const fork = session.fork();
      const again = await half(name, backend);
      const restored = again.session();
      await restored.state.restore(saved);
      expect(difference(restored.state.save(), saved)).toBeUndefined();
      await session.read(second);
      for (const other of [fork, restored]) {
        await other.read(second);
        expect(difference(other.state.save(), session.state.save())).toBeUndefined();
      }
      session.checkpoints.rewind('here');
      await session.read(second);
      expect(difference(session.state.save(), fork.state.save())).toBeUndefined();
      for (const one of [model, again]) one.dispose();
    }
  });

  test('a copy in memory takes no more than a file, and goes on to the last bit', async () => {
    const sizes = await sizesOf(name, 'f16');
    for (const backend of [referenceBackend('f32'), simd, relaxed]) {
      const model = await half(name, backend);
      for (const length of [1, 7, 63, 65, 129].filter((one) => one + 3 <= model.longest)) {
        const session = model.session();
        await session.read(tokensOf(length, model.vocabularySize, length));
        const copy = session.state.copy();
        // The numbers of the next token's logits are of f32.
        const size = stateBytesAt(sizes, length) + 4 * model.vocabularySize;
        expect(copy.size, `${length} tokens`).toBe(size);
        expect((await State.load(copy.save())).size).toBe(size);
        for (const carry of session.stateNames)
          expect(difference(copy.tensors.get(carry)!.values, session.readState(carry))).toBeUndefined();
        // Of more tokens than the copy: what it is of must go.
        const other = model.session();
        await other.read(tokensOf(Math.min(length + 70, model.longest), model.vocabularySize));
        await other.state.restore(copy);
        const fork = session.fork();
        const next = tokensOf(3, model.vocabularySize, 5);
        await session.read(next);
        for (const one of [fork, other]) {
          await one.read(next);
          expect(difference(one.logits, session.logits)).toBeUndefined();
          expect(difference(stateOf(one), stateOf(session))).toBeUndefined();
        }
      }
      model.dispose();
    }
  });

  test('a state is of one kind of cache, in memory and on disk', async () => {
    const [full, rounded] = [await goldenModel(name, relaxed), await half(name, relaxed)];
    const tokens = tokensOf(64, full.vocabularySize);
    const sizes: Record<string, number[]> = {};
    for (const model of [full, rounded]) {
      const session = model.session();
      await session.read(tokens);
      const file = session.state.save();
      const other = model === full ? rounded : full;
      const refused = other.session().state.restore(file);
      await expect(refused).rejects.toThrow(InputError);
      await expect(refused).rejects.toThrow(
        `keys and values kept in ${model.kvCache}, and here they are kept in ${other.kvCache}: load the model with kvCache: '${model.kvCache}'`,
      );
      // The file of a state with logits, names and all.
      sizes[model.kvCache!] = [session.state.size, file.length];
      const state = await State.load(file);
      expect(state.model).toEqual(model.fingerprint);
      for (const carry of session.stateNames)
        expect(state.tensors.get(carry)!.values).toEqual(session.readState(carry));
      expect((await State.load(state.save())).save()).toEqual(file);
    }
    const { stateBytesPerToken, stateBytes } = await sizesOf(name, 'f32');
    const rounds = await sizesOf(name, 'f16');
    expect(rounds).toMatchObject({ stateBytes, stateBytesPerToken: stateBytesPerToken / 2 });
    expect(full.bytesPerToken.statePerToken).toBe(stateBytesPerToken);
    expect(rounded.bytesPerToken.statePerToken).toBe(stateBytesPerToken / 2);
    const saved = sizes['f32']![1]! - sizes['f16']![1]!;
    expect(Math.abs(saved - 32 * stateBytesPerToken)).toBeLessThan(500);
    // Rows in a page are padded to eight numbers.
    expect(sizes['f32']![0]! - sizes['f16']![0]!).toBeGreaterThanOrEqual(32 * stateBytesPerToken);
    expect(stateBytesAt(rounds, 100)).toBe(stateBytes + 50 * stateBytesPerToken);
    for (const model of [full, rounded]) model.dispose();
  });

  test('what it is seen to read are the numbers that are kept', async () => {
    const model = await half(name, f64);
    const tokens = tokensOf(30, model.vocabularySize);
    const whole = await model.session().inspect(tokens, { maps: 'layers' });
    const session = model.session();
    const reads = whole.layers.map(() => [] as number[]);
    for (const token of tokens)
      for (const [n, layer] of (await session.inspect([token], { maps: 'none' })).layers.entries())
        reads[n]!.push(...layer.read);
    for (const [n, layer] of whole.layers.entries()) expect(errorRatio(reads[n]!, layer.read)).toBeLessThan(1e-6);
    model.dispose();
  });
});

/** What a sequence of a model takes. */
const sizeOf = ({ bytesPerToken: { statePerToken, windows } }: Model): StateSize => ({
  stateBytes: 0,
  stateBytesPerToken: statePerToken,
  stateWindows: windows,
});

async function sizesOf(name: string, kvCache: StateFormat) {
  return await inspect(new URL(`goldens/${name}/`, import.meta.url).pathname, { kvCache });
}

describe('a window', () => {
  test('of odd length, in f16, lets go what it has passed', async () => {
    const results: number[][] = [];
    for (const backend of [f64, simd, relaxed]) {
      const model = await goldenModel('llama', backend, { kvCache: 'f16', config: { sliding_window: 65 } });
      const session = model.session();
      const tokens = tokensOf(300, model.vocabularySize);
      await session.read(tokens.slice(0, 131));
      for (const token of tokens.slice(131, 200)) await session.step(token);
      const saved = session.state.save();
      const other = model.session();
      await other.state.restore(saved);
      await other.read(tokens.slice(200));
      await session.read(tokens.slice(200));
      expect(difference(other.state.save(), session.state.save())).toBeUndefined();
      expect(session.readState(session.stateNames[0]!).length).toBe(
        (65 *
          (stateBytesAt({ stateBytes: 0, stateBytesPerToken: 0, stateWindows: model.bytesPerToken.windows }, 1) / 2)) /
          session.stateNames.length,
      );
      results.push([...session.logits]);
      model.dispose();
    }
    for (const result of results.slice(1)) expect(errorRatio(result, results[0]!)).toBeLessThan(tolerance.rounded);
  });
});

test('a cache of prefixes does not mix the two', async () => {
  const cache = new PrefixCache();
  const tokens = tokensOf(100, 200);
  const [full, rounded] = [await goldenModel('llama', relaxed), await half('llama', relaxed)];
  for (const model of [full, rounded, full, rounded]) {
    const [session, plain] = [model.session(), model.session()];
    await session.read(tokens, { cache });
    await plain.read(tokens);
    expect(session.logits).toEqual(plain.logits);
  }
  expect(cache.size).toBe(2);
  const [inFull, inHalf] = [full, rounded].map((model) => stateBytesAt(sizeOf(model), tokens.length));
  expect(cache.bytes).toBe(inFull! + inHalf! + 8 * full.vocabularySize);
  expect(inHalf).toBe(inFull! / 2);
  for (const model of [full, rounded]) model.dispose();
});

describe('refused is', () => {
  test('a model without attention, and a format that is none', async () => {
    for (const kvCache of ['f16', 'f32'] as const) {
      await expect(goldenModel('mamba', f64, { kvCache })).rejects.toThrow(
        new RegExp(`^kvCache is ${kvCache}, but Mamba.* has no attention layer`),
      );
      await expect(load('tiny-books-mamba-13m', { threads: 1, kvCache })).rejects.toThrow(InputError);
      await expect(sizesOf('rwkv7', kvCache)).rejects.toThrow(/has no attention layer/);
    }
    await expect(goldenModel('llama', f64, { kvCache: 'q8' as StateFormat })).rejects.toThrow(
      'kvCache is q8; known: f32, f16',
    );
  });
});

test.each([0x7c00, 0xfc00, 0x7e01])('bits that are no finite number, %i, are refused by name', async (bits) => {
  for (const backend of [f64, relaxed]) {
    const model = await half('llama', backend);
    const session = model.session();
    await session.read(tokensOf(5, model.vocabularySize));
    const copy = session.state.copy();
    const [name, { shape, halves }] = [...copy.tensors].at(-1)!;
    const damaged = new HalfTensor(
      shape,
      halves!.map((one, i) => (i === halves!.length - 1 ? bits : one)),
    );
    const restored = session.state.restore(
      new State({ ...copy, tensors: new Map([...copy.tensors, [name, damaged]]) }),
    );
    await expect(restored).rejects.toThrow(UnsupportedError);
    await expect(restored).rejects.toThrow(`${name} is to keep a number of magnitude`);
    model.dispose();
  }
});

test('the loss of a trained Transformer moves by less than 0.01 %', async () => {
  const text = readFileSync(new URL('../README.md', import.meta.url), 'utf8')
    .repeat(2)
    .slice(0, 6000);
  const losses: number[] = [];
  for (const kvCache of ['f32', 'f16'] as const) {
    const model = await load('books-llama', { kvCache, weights: 'f32' });
    const tokens = model.tokenizer.encode(text).slice(0, 1500);
    const logits = await model.session().logitsOf(tokens);
    const V = model.vocabularySize;
    let loss = 0;
    for (let t = 0; t + 1 < tokens.length; t++) {
      const row = logits.subarray(t * V, (t + 1) * V);
      const largest = row.reduce((a, b) => Math.max(a, b));
      loss += Math.log(row.reduce((sum, value) => sum + Math.exp(value - largest), 0)) + largest - row[tokens[t + 1]!]!;
    }
    losses.push(loss / (tokens.length - 1));
    model.dispose();
  }
  expect(losses[1]).not.toBe(losses[0]);
  expect(Math.abs(losses[1]! / losses[0]! - 1)).toBeLessThan(1e-4);
});
