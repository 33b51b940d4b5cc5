import { afterAll, describe, expect, test } from 'vitest';
import { wasmBackend } from '../src/backends/wasm/index.ts';
import { Random } from '../src/core/random.ts';
import { spawnThread } from '../src/platform/node.ts';
import { byteTokenizer } from '../src/tokenizers/bytes.ts';
import { goldenModel } from './assembled.ts';

const wasm = await wasmBackend({ threads: 1, spawn: spawnThread });
const mamba = await goldenModel('mamba', wasm, { tokenizer: byteTokenizer() });
afterAll(() => {
  mamba.dispose();
  wasm.dispose();
});

const tokensOf = (count: number, below: number): number[] => {
  const random = new Random(3);
  return Array.from({ length: count }, () => random.integer(below));
};

describe('checkpoints', () => {
  test('a ring, every n tokens and where marked', async () => {
    const session = mamba.session({ checkpoints: { every: 10, capacity: 4 } });
    await session.read(tokensOf(5, mamba.vocabularySize));
    session.checkpoints.mark('turn');
    for (let i = 0; i < 30; i++) await session.step(i);
    expect(session.checkpoints.list).toEqual([
      { position: 5, label: 'turn' },
      ...[10, 20, 30].map((position) => ({ position })),
    ]);
    await session.step(1);
    for (let i = 0; i < 4; i++) await session.step(i);
    expect(session.checkpoints.list.map(({ position }) => position)).toEqual([10, 20, 30, 40]);
    expect(session.checkpoints.size).toBeGreaterThan(4 * session.state.size);
  });

  test('rewinding is as if what came after had not been', async () => {
    const session = mamba.session({ checkpoints: { every: 10 } });
    await session.read(tokensOf(8, mamba.vocabularySize));
    session.checkpoints.mark('a');
    const expected = session.state.save();
    await session.read(tokensOf(100, mamba.vocabularySize));
    session.checkpoints.mark('b');
    for (let i = 0; i < 25; i++) await session.step(i);
    expect(session.checkpoints.rewind(109)).toBe(108);
    expect(session.checkpoints.rewind('a')).toBe(8);
    expect(session.state.save()).toEqual(expected);
    expect(session.checkpoints.list).toEqual([{ position: 8, label: 'a' }]);
    expect(() => session.checkpoints.rewind('b')).toThrow(/there is no checkpoint "b"; kept: 8 "a"/);
    expect(() => session.checkpoints.rewind(7)).toThrow(/at or before position 7/);
    for (let i = 0; i < 2; i++) await session.step(i);
    expect(session.checkpoints.list.at(-1)).toEqual({ position: 10 });
  });

  test('forks have them too, and restoring another state forgets them', async () => {
    const session = mamba.session();
    await session.read([1, 2]);
    session.checkpoints.mark('two');
    const fork = session.fork();
    await fork.read([3]);
    expect(fork.checkpoints.rewind('two')).toBe(2);
    await session.state.restore(fork.state.save());
    expect(session.checkpoints.list).toEqual([]);
  });

  test('turns are kept where generations end', async () => {
    const session = mamba.session({ checkpoints: { turns: true } });
    await session.read([1, 2]);
    for (let turn = 0; turn < 2; turn++)
      for await (const _ of session.generate([5, 6], { maxTokens: 3, temperature: 0 }));
    expect(session.checkpoints.list).toEqual([{ position: 7 }, { position: 12 }]);
    const fork = session.fork();
    expect(session.checkpoints.rewind(11)).toBe(7);
    const again: number[] = [];
    for await (const _ of session.generate([5, 6], { maxTokens: 3, temperature: 0, onToken: (t) => again.push(t) }));
    expect(session.state.save()).toEqual(fork.state.save());
    expect(() => mamba.session({ checkpoints: { turn: true } as never })).toThrow(/did you mean turns/);
  });

  test.each([[{ every: 0 }], [{ capacity: 0 }], [{ capacity: 1.5 }]])('%j is refused', (checkpoints) => {
    expect(() => mamba.session({ checkpoints })).toThrow(/checkpoints\.(every|capacity) is/);
  });
});
