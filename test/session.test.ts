import { afterAll, describe, expect, test } from 'vitest';
import { DisposedError, InputError, load } from '../src/index.ts';
import { errorRatio, tolerance } from './tolerance.ts';

const model = await load(undefined, { threads: 1 });
afterAll(() => model.dispose());

/** All pieces of a generation, and its result. */
async function collect(
  generation: AsyncGenerator<string, { text: string; tokens: readonly number[]; finishReason: string }>,
) {
  const pieces: string[] = [];
  for (;;) {
    const next = await generation.next();
    if (next.done) return { pieces, ...next.value };
    pieces.push(next.value);
  }
}

describe('read', () => {
  test('text, tokens and streams of either end in the same state', async () => {
    const text = 'Once upon a time there was a small dog. '.repeat(40);
    const a = model.session();
    await a.read(text);
    const b = model.session();
    await b.read(model.tokenizer.encode(text));
    const c = model.session();
    await c.read(
      (async function* () {
        for (let i = 0; i < text.length; i += 7) yield text.slice(i, i + 7);
      })(),
    );
    for (const session of [b, c]) {
      expect(session.position).toBe(a.position);
      expect(errorRatio(session.logits, a.logits)).toBeLessThan(tolerance.model);
    }
  });

  test('reports progress and keeps what was read when aborted', async () => {
    const session = model.session();
    const controller = new AbortController();
    const seen: number[] = [];
    const reading = session.read(new Array(1000).fill(5), {
      signal: controller.signal,
      onProgress: (tokens) => {
        seen.push(tokens);
        if (tokens >= 512) controller.abort(new Error('enough'));
      },
    });
    await expect(reading).rejects.toThrow('enough');
    expect(session.position).toBe(512);
    expect(seen).toEqual([256, 512]);
    await session.read([1, 2, 3]);
    expect(session.position).toBe(515);
  });

  test('sessions at the same time know what each knows alone', async () => {
    const texts = ['Once upon a time', 'The king of the hill was old.', 'A dog. '.repeat(60), 'One, two, three'];
    const reading = async (text: string) => {
      const session = model.session();
      await session.read(text);
      const read = session.logits.slice();
      const { tokens } = await collect(session.generate(undefined, { maxTokens: 9, seed: 2 }));
      const rows = await session.logitsOf(model.tokenizer.encode(text).slice(0, 20));
      return { read, tokens, rows, end: session.logits.slice() };
    };
    const together = await Promise.all(texts.map(reading));
    for (const [i, text] of texts.entries()) expect(together[i], text).toEqual(await reading(text));
  });

  test('what is disposed while it reads stops, and touches no other', async () => {
    const text = 'The king had a dog. '.repeat(200);
    const [expected, one, two, three] = [model.session(), model.session(), model.session(), model.session()];
    await expected.read('One day, in a wood');
    const readings = [one.read(text), two.read(text), three.read(text)];
    // They may end before they are waited for.
    for (const reading of readings) reading.catch(() => {});
    await new Promise((resolve) => setTimeout(resolve));
    one.dispose();
    two.dispose();
    const later = model.session();
    await later.read('One day, in a wood');
    await expect(readings[0]).rejects.toThrow(DisposedError);
    await expect(readings[1]).rejects.toThrow(DisposedError);
    await readings[2];
    expect(later.logits).toEqual(expected.logits);
    expect(later.state.save()).toEqual(expected.state.save());
  });

  test('what is told of hidden states and fails leaves the session where it has come to', async () => {
    const session = model.session();
    const tokens = new Array(1000).fill(5);
    const onHidden = () => {
      throw new Error('mine');
    };
    await expect(session.read(tokens, { onHidden })).rejects.toThrow('mine');
    const whole = model.session();
    await whole.read(tokens.slice(0, session.position));
    expect(session.state.save()).toEqual(whole.state.save());
  });

  test('what is nothing to read is refused', async () => {
    for (const source of [null, 5, {}, undefined])
      await expect(model.session().read(source as never)).rejects.toThrow(/is nothing to read: a source is text/);
  });

  test('two readers of one session are refused', async () => {
    const session = model.session();
    const first = session.read(new Array(500).fill(5));
    await expect(session.read([1])).rejects.toThrow(/already reading/);
    expect(() => session.fork()).toThrow(/already reading/);
    await first;
  });

  test.each([[-1], [4096], [1.5], [Number.NaN]])('token %s is out of range', async (token) => {
    const session = model.session();
    await expect(session.read([1, token])).rejects.toThrow(/out of range: the model's vocabulary is 0 to 4095/);
    await expect(session.step(token)).rejects.toThrow(InputError);
    expect(session.position).toBe(0);
  });

  test('nothing can be predicted before the first token', () => {
    expect(() => model.session().logits).toThrow(/has read nothing/);
  });
});

describe('fork', () => {
  test('goes its own way from the same state', async () => {
    const session = model.session();
    await session.read('The king');
    const before = session.logits.slice();
    const fork = session.fork();
    await fork.read(' was very old and');
    expect(session.logits).toEqual(before);
    expect(session.position).toBeLessThan(fork.position);
    await session.read(' was very old and');
    expect(errorRatio(session.logits, fork.logits)).toBe(0);
  });
});

describe('generate', () => {
  test('the same seed gives the same text, another seed another', async () => {
    const text = async (seed: number) =>
      (await collect(model.session().generate('Once upon', { seed, maxTokens: 30, temperature: 1 }))).text;
    expect(await text(1)).toBe(await text(1));
    expect(await text(1)).not.toBe(await text(2));
  });

  test('pieces joined are the text, of at most maxTokens tokens', async () => {
    const { pieces, text, tokens, finishReason } = await collect(
      model.session().generate('Once upon', { seed: 3, maxTokens: 20 }),
    );
    expect(pieces.join('')).toBe(text);
    expect(tokens).toHaveLength(20);
    expect(finishReason).toBe('length');
    expect(model.tokenizer.decode(tokens)).toBe(text);
  });

  test('ends before a stop text, wherever token boundaries fall', async () => {
    const whole = (await collect(model.session().generate('Once upon a time', { temperature: 0, maxTokens: 40 }))).text;
    for (const stop of [whole.slice(9, 10), whole.slice(7, 19), whole.slice(20, 23)]) {
      const { text, pieces, finishReason } = await collect(
        model.session().generate('Once upon a time', { temperature: 0, maxTokens: 40, stop: ['§§', stop] }),
      );
      expect(text).toBe(whole.slice(0, whole.indexOf(stop)));
      expect(pieces.join('')).toBe(text);
      expect(finishReason).toBe('stop');
    }
  });

  test('text held back for a stop text that does not come is given in the end', async () => {
    const plain = await collect(model.session().generate('Once upon a time', { temperature: 0, maxTokens: 12 }));
    const stop = `${plain.text.slice(-3)}never`;
    const held = await collect(model.session().generate('Once upon a time', { temperature: 0, maxTokens: 12, stop }));
    expect(held.text).toBe(plain.text);
  });

  test('an abort rejects with its reason, and the session can go on', async () => {
    const session = model.session();
    const controller = new AbortController();
    const generation = session.generate('Once upon', { signal: controller.signal, maxTokens: 1000, seed: 1 });
    await generation.next();
    controller.abort(new Error('stop it'));
    await expect(collect(generation)).rejects.toThrow('stop it');
    await session.read('.');
  });

  test('timers run while it computes', async () => {
    let ticks = 0;
    const timer = setInterval(() => ticks++, 5);
    await collect(model.session().generate('Once upon', { maxTokens: 200, seed: 1 }));
    clearInterval(timer);
    expect(ticks).toBeGreaterThan(2);
  });

  test.each([
    [{ temprature: 1 }, /unknown option temprature: did you mean temperature/],
    [{ temperature: -1 }, /temperature is -1/],
    [{ topK: 1.5 }, /topK is 1.5/],
    [{ topP: 0 }, /topP is 0/],
    [{ minP: 2 }, /minP is 2/],
    [{ typicalP: 0 }, /typicalP is 0/],
    [{ repetitionPenalty: 0 }, /repetitionPenalty is 0/],
    [{ seed: 0.5 }, /seed is 0.5/],
    [{ maxTokens: -1 }, /maxTokens is -1/],
    [{ stop: [''] }, /stop must be/],
    [{ logitBias: { 9999: 1 } }, /token 9999 is not in the vocabulary/],
    [{ logitBias: { x: 1 } as never }, /logitBias maps token ids/],
  ])('%j is refused', async (options, message) => {
    await expect(async () => await collect(model.session().generate('Once', options as never))).rejects.toThrow(
      message,
    );
  });

  test('an empty prompt is refused', () => {
    expect(() => model.session().generate('')).toThrow(/prompt is empty/);
    expect(() => model.session().generate([])).toThrow(/prompt is empty/);
  });

  test('penalties, bias and filters change the choice as they say', async () => {
    const run = async (options: object) =>
      (
        await collect(
          model.session().generate('One day the dog and the', { maxTokens: 30, temperature: 0, ...options }),
        )
      ).tokens;
    const plain = await run({});
    const first = plain[0]!;
    expect((await run({ logitBias: { [first]: Number.NEGATIVE_INFINITY } })).includes(first)).toBe(false);
    expect((await run({ logitBias: { 7: 1000 } })).every((token) => token === 7)).toBe(true);
    expect(await run({ presencePenalty: 1000 })).toSatisfy(
      (tokens: number[]) => new Set(tokens).size === tokens.length,
    );
    expect(await run({ frequencyPenalty: 1000 })).toSatisfy(
      (tokens: number[]) => new Set(tokens).size === tokens.length,
    );
    expect(await run({ repetitionPenalty: 5 })).not.toEqual(plain);
    for (const filter of [{ topK: 1 }, { topP: 1e-6 }, { minP: 1 }])
      expect(await run({ temperature: 1, seed: 4, ...filter })).toEqual(plain);
  });
});

test('a disposed model or session says so', async () => {
  const other = await load(undefined, { threads: 1 });
  const session = other.session();
  other.dispose();
  expect(() => other.session()).toThrow(DisposedError);
  await expect(session.step(1)).rejects.toThrow(DisposedError);
});

test('a model that is disposed while sessions read tells each of them', async () => {
  const other = await load(undefined, { threads: 1 });
  const reading = [1, 2, 3].map(() => other.session().read(new Array(2000).fill(5)));
  const told = Promise.allSettled(reading);
  await new Promise((resolve) => setTimeout(resolve));
  other.dispose();
  for (const one of await told) expect(one).toMatchObject({ reason: expect.any(DisposedError) });
});
