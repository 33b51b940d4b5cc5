import { afterEach, expect, test, vi } from 'vitest';
import { Random } from '../core/random.ts';
import type { Model } from '../runtime/model.ts';
import { costsAt } from './bench.ts';

afterEach(() => void vi.restoreAllMocks());

/** A model whose steps take a millisecond until it has worked for `cold` milliseconds, and half of it from then on; time is what it says. */
function slowAtFirst(cold: number): Model {
  let [now, steps] = [0, 0];
  vi.spyOn(performance, 'now').mockImplementation(() => now);
  const session = () => {
    let position = 0;
    const one = {
      get position() {
        return position;
      },
      bytes: 64,
      read: async (tokens: readonly number[]) => void (position += tokens.length),
      step: async () => void (now += steps++ < cold ? 1 : 0.5),
      fork: session,
      dispose: () => {},
    };
    return one;
  };
  return { session, longest: Infinity, vocabularySize: 8 } as unknown as Model;
}

test('the curve is warm from its first length on', async () => {
  const { costs } = await costsAt(slowAtFirst(450), [64, 8], 1, new Random(1), {});
  expect(costs.map(({ length, millisecondsPerToken }) => [length, millisecondsPerToken])).toEqual([
    [8, 0.5],
    [64, 0.5],
  ]);
});

test('a signal ends the warming up', async () => {
  const controller = new AbortController();
  const model = slowAtFirst(450);
  const { session } = model;
  let forks = 0;
  const opened = () => {
    const one = session.call(model);
    return Object.assign(Object.create(one), {
      fork: () => {
        if (++forks === 3) controller.abort();
        return one.fork();
      },
    });
  };
  const watched = { ...model, session: opened } as unknown as Model;
  await expect(costsAt(watched, [8], 1, new Random(1), { signal: controller.signal })).rejects.toThrow(/abort/i);
  expect(forks).toBe(3);
});
