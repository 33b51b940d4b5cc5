import { expect, test } from 'vitest';
import { load } from '../src/index.ts';

/** How often each kernel is called to read some tokens. */
async function callsOf(weights: 'q4' | 'q8', tokens: readonly number[]): Promise<Map<string, number>> {
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
  if (tokens.length === 1) await session.step(tokens[0]!);
  else await session.read(tokens);
  model.dispose();
  return calls;
}

test.each([
  ['q8', 'quantiseRowsQ8', 'linearQ8'],
  ['q4', 'quantiseRowsQ4', 'linearQ4'],
] as const)(
  '%s: rows that several products read, such as those of q, k and v, become integers once',
  async (weights, quantise, product) => {
    const layers = 4;
    const several = await callsOf(weights, [1, 2, 3]);
    // q, k, v, o, gate, up, down; and the head.
    expect(several.get(product)).toBe(7 * layers + 1);
    // What q, k and v read; o; gate and up; down. The head, of one row, makes its own.
    expect(several.get(quantise)).toBe(4 * layers);
    // Sums are part of products: what is left are the gates.
    expect(several.get('expr')).toBe(layers);
    expect(several.get('rmsNorm')).toBe(2 * layers + 1);
  },
);

test.each(['q8', 'q4'] as const)(
  '%s: of one token, products make integers of their row, and norms are part of that',
  async (weights) => {
    const layers = 4;
    const one = await callsOf(weights, [5]);
    expect(Object.fromEntries(one)).toEqual({
      embedPanels: 1,
      [weights === 'q8' ? 'linearQ8' : 'linearQ4']: 7 * layers + 1,
      rope: 2 * layers,
      appendRows: 2 * layers,
      attention: layers,
      expr: layers,
      // The last, whose rows the head selects from.
      rmsNorm: 1,
      selectRows: 1,
    });
  },
);
