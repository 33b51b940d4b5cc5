import { afterAll, describe, expect, test } from 'vitest';
import { guardedBackends } from '../../../test/guarded-backends.ts';
import { errorRatio, tolerance } from '../../../test/tolerance.ts';
import type { Backend } from '../../core/backend.ts';
import { plan } from '../../core/plan.ts';
import { Random } from '../../core/random.ts';
import type { StateFormat } from '../../core/state-format.ts';
import { type Carry, input, leaf } from '../../core/trace.ts';
import { attention } from '../../ops/attention.ts';
import { referenceBackend } from '../reference/index.ts';

/*
 * Attention that goes on with keys and values of earlier steps: full pages, pages that begin and end within a step, few queries and many.
 */

const f64 = referenceBackend('f64');
const backends = await guardedBackends();
afterAll(() => {
  for (const backend of backends) backend.dispose();
});

interface Sizes {
  readonly H: number;
  readonly G: number;
  readonly K: number;
  readonly V: number;
  readonly window: number;
}

/** y [T, H, V] of one sequence of T tokens, in steps of so many, the last number again and again. */
function attend(
  backend: Backend,
  { H, G, K, V, window }: Sizes,
  format: StateFormat,
  data: Readonly<Record<'q' | 'k' | 'v', Float32Array>>,
  steps: readonly number[],
): number[] {
  const state = (name: string, width: number) => leaf({ kind: 'state', name, fill: 0 }, ['segments', G, width]);
  const [keys, values] = [state('keys', K), state('values', V)];
  const [y, nextKeys, nextValues] = attention({
    q: input('q', ['tokens', H, K]),
    k: input('k', ['tokens', G, K]),
    v: input('v', ['tokens', G, V]),
    keys,
    values,
    positions: input('positions', ['segments'], 'i32'),
    ends: input('ends', ['segments'], 'i32'),
    scale: 0.4,
    window,
  });
  const carry = (name: string, width: number, previous: typeof keys, next: typeof keys): Carry => ({
    name,
    shape: [G, width],
    fill: 0,
    growing: true,
    window,
    format,
    previous,
    next,
  });
  const carries = [carry('keys', K, keys, nextKeys), carry('values', V, values, nextValues)];
  const weights = backend.weights([]);
  const capacity = { tokens: Math.max(...steps), segments: 1, outputs: 1 };
  const made = plan(new Map([['y', y]]), carries, capacity, backend.layout(weights));
  const executable = backend.compile(made, weights, carries);
  const slot = backend.slot(carries);
  const count = data.q.length / (H * K);
  const result: number[] = [];
  try {
    for (let [at, n] = [0, 0]; at < count; n++) {
      const tokens = Math.min(steps[n] ?? steps.at(-1)!, count - at);
      slot.reserve(at + tokens, at);
      for (const [name, width] of [
        ['q', H * K],
        ['k', G * K],
        ['v', G * V],
      ] as const)
        executable.input(name).set(data[name].subarray(at * width, (at + tokens) * width));
      executable.input('ends')[0] = tokens;
      executable.input('positions')[0] = at;
      executable.run({ tokens, segments: 1, outputs: 1 }, [slot]);
      result.push(...executable.output('y').subarray(0, tokens * H * V));
      at += tokens;
    }
    return result;
  } finally {
    slot.dispose();
    executable.dispose();
    weights.dispose();
  }
}

const shapes: readonly Sizes[] = [
  { H: 1, G: 1, K: 5, V: 55, window: 0 },
  // Two queries of a group beside each other, and an odd one.
  { H: 4, G: 2, K: 8, V: 20, window: 0 },
  { H: 3, G: 1, K: 17, V: 3, window: 0 },
  { H: 2, G: 2, K: 16, V: 48, window: 65 },
  { H: 2, G: 1, K: 9, V: 33, window: 66 },
];
/** One at a time; a page, and then one; few; as many as go together, and more; steps that end where pages do, and beside that. */
const steps: readonly (readonly number[])[] = [
  [1],
  [64, 1],
  [63, 2, 3],
  [60, 4, 5],
  [61, 12],
  [65, 13],
  [128, 7],
  [129],
];

describe.each(['f32', 'f16'] as const)('keys and values in %s', (format) => {
  test.each(shapes)('of %o: a text in any steps, amid poison', (sizes) => {
    const { H, G, K, V } = sizes;
    const random = new Random(H + K);
    const normal = (length: number) => Float32Array.from({ length }, () => random.normal());
    const T = 140;
    const data = { q: normal(T * H * K), k: normal(T * G * K), v: normal(T * G * V) };
    const truth = attend(f64, sizes, format, data, [T]);
    for (const backend of backends)
      for (const some of steps)
        expect(
          errorRatio(attend(backend, sizes, format, data, some), truth),
          `steps of ${some} on ${backend.name}, ${backend.threads} threads`,
        ).toBeLessThan(tolerance.op);
  });
});
