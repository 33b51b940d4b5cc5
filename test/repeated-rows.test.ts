import { expect, test } from 'vitest';
import { load } from '../src/index.ts';

/** How often each kernel is called for one token. */
async function callsOf(weights: 'q4' | 'q8'): Promise<Map<string, number>> {
  const model = await load('books-llama', { weights, threads: 1 });
  const calls = new Map<string, number>();
  // What is profiled adds its seconds to those of a kernel's calls before.
  class Counted extends Map<string, number> {
    override set(kernel: string, seconds: number): this {
      calls.set(kernel, (calls.get(kernel) ?? 0) + 1);
      return super.set(kernel, seconds);
    }
  }
  const session = model.session();
  await session.read([1, 2, 3]);
  model.profile(new Counted());
  await session.step(5);
  model.dispose();
  return calls;
}

test.each([
  ['q8', 'quantiseRowsQ8', 'linearQ8'],
  ['q4', 'quantiseRowsQ4', 'linearQ4'],
] as const)(
  '%s: rows that several products read, such as those of q, k and v, become integers once',
  async (weights, quantise, product) => {
    const calls = await callsOf(weights);
    const layers = 4;
    // q, k, v, o, gate, up, down; and the head.
    expect(calls.get(product)).toBe(7 * layers + 1);
    // What q, k and v read; o; gate and up; down; and the head.
    expect(calls.get(quantise)).toBe(4 * layers + 1);
  },
);
