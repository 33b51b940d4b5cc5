import { afterAll, describe, expect, test } from 'vitest';
import { guardedBackends } from '../../../test/guarded-backends.ts';
import type { WeightFormat, WeightLayout } from '../../core/backend.ts';
import { Random } from '../../core/random.ts';
import type { Tensor } from '../../core/tensor.ts';
import { input, leaf } from '../../core/trace.ts';
import { embed } from '../../ops/embed.ts';
import { linear, linearTransposed } from '../../ops/linear.ts';
import { slice } from '../../ops/views.ts';
import { evaluate, type GivenParameter } from '../../verification/op-cases.ts';
import { POISON } from './memory.ts';

const backends = await guardedBackends();
afterAll(() => {
  for (const backend of backends) backend.dispose();
});

const formats: readonly WeightFormat[] = ['f32', 'bf16', 'f16', 'q8', 'q4'];
/** None, too: a head where no logits are asked for. */
const rowCounts = [0, 1, 3, 4, 5, 65];
/** Outputs and inputs, with rests of every kind, and whole groups. */
const shapes: readonly (readonly [number, number])[] = [
  [1, 1],
  [3, 31],
  [31, 3],
  [33, 65],
  [63, 97],
  [65, 63],
  [97, 33],
  [1, 65],
  [65, 1],
  [19, 96],
  [64, 160],
  // More panels than are expanded together.
  [131, 33],
  [259, 40],
];

/** Rows that `evaluate` has room for beyond those that there are, and columns before and behind x in a wider tensor. */
const [SPARE, BEFORE, BEHIND] = [2, 3, 5];
/** What lies around x, in bits: NaN that must not even be read, and a number beside which a row's own are nothing, which shows in its scale. */
const poisons = { NaN: POISON, large: new Int32Array(Float32Array.of(1e30).buffer)[0]! };

/** Rows of x amid poison: `before` columns of it before each, `behind` behind each, and whole rows of it at the end. */
function amid(x: Float32Array, I: number, poison: number, before: number, behind: number): Float32Array {
  const [rows, width] = [x.length / I, before + I + behind];
  const result = new Float32Array(new Int32Array((rows + SPARE) * width).fill(poison).buffer);
  for (let r = 0; r < rows; r++) result.set(x.subarray(r * I, (r + 1) * I), r * width + before);
  return result;
}

/**
 * Half of what one step between x's integers is, where the products are those of integers: of 16 bits with a scale to a row beside
 * q8, of 8 bits with a scale to a group of 32 beside q4. The factor is for the rounding of the scale and of x · 1 / scale: their
 * relative 2⁻²³ of 32767 is 0.004 of a step.
 */
function halfSteps(format: WeightFormat, row: Float32Array): Float64Array {
  const largest = (values: Float32Array) => values.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
  return Float64Array.from(row, (_, i) => {
    if (format === 'q8') return (0.505 * largest(row)) / 32767;
    if (format === 'q4') return (0.505 * largest(row.subarray(i - (i % 32), i - (i % 32) + 32))) / 127;
    return 0;
  });
}

/** Fails where y is farther from x W + b in float64 than its arithmetic explains; W(o, i) are the numbers that are held. */
function check(
  y: readonly number[],
  x: Float32Array,
  held: (o: number, i: number) => number,
  bias: Float32Array | undefined,
  [O, I]: readonly [number, number],
  format: WeightFormat,
  what: string,
): void {
  for (let r = 0; r < x.length / I; r++) {
    const row = x.subarray(r * I, (r + 1) * I);
    const half = halfSteps(format, row);
    for (let o = 0; o < O; o++) {
      let [sum, size, quantisation] = [bias?.[o] ?? 0, Math.abs(bias?.[o] ?? 0), 0];
      for (let i = 0; i < I; i++) {
        sum += row[i]! * held(o, i);
        size += (Math.abs(row[i]!) + half[i]!) * Math.abs(held(o, i));
        quantisation += half[i]! * Math.abs(held(o, i));
      }
      // Each of the at most I + 1 additions, and of the few multiplications by scales, rounds by 2⁻²⁴ of what it is no larger than.
      const limit = quantisation + (I + 8) * 2 ** -24 * size;
      const error = Math.abs(y[r * O + o]! - sum);
      if (!(error <= limit))
        expect.fail(`${what}: row ${r}, output ${o} is ${y[r * O + o]}, ${error} from ${sum}; at most ${limit}`);
    }
  }
}

describe.each(formats)('products with matrices in %s', (format) => {
  test.each(shapes)('[%i, %i] amid poison are as near float64 as their arithmetic allows', (O, I) => {
    const random = new Random(O * 1000 + I);
    const normal = (length: number) => Float32Array.from({ length }, () => random.normal());
    const declare = (name: string, shape: readonly number[], layout: WeightLayout): GivenParameter => ({
      name,
      shape,
      format: layout === 'rows' ? 'f32' : format,
      layout,
      values: normal(shape.reduce((a, b) => a * b, 1)),
    });
    const parameters = [
      declare('w', [O, I], 'linear'),
      declare('turned', [I, O], 'linearTransposed'),
      declare('bias', [O], 'rows'),
    ];
    const [w, turned, bias] = parameters.map(({ name, shape }) =>
      leaf({ kind: 'parameter', name, initial: { kind: 'zeros' } }, [...shape]),
    );
    const wide = ['tokens', BEFORE + I + BEHIND] as const;
    const given = Object.fromEntries(Object.keys(poisons).map((name) => [name, input(name, [...wide])]));
    const views = Object.entries(given).map(([name, x]) => [name, slice(x, 1, BEFORE, I)] as const);
    const outputs = new Map<string, Tensor>([['embed', embed(input('ids', ['tokens'], 'i32'), w!)]]);
    for (const [name, x] of [['dense', input('dense', ['tokens', I])] as const, ...views]) {
      outputs.set(`linear ${name}`, linear(x, w!, name === 'dense' ? bias : undefined));
      outputs.set(`linearTransposed ${name}`, linearTransposed(x, turned!, name === 'dense' ? bias : undefined));
    }
    for (const rows of rowCounts) {
      // Rows of sizes far apart, so that a number of the next row shows, too.
      const x = normal(rows * I).map((value, n) => value * 10 ** (((Math.floor(n / I) * 5) % 9) - 4));
      const ids = Int32Array.from({ length: rows + SPARE }, (_, n) => (n < rows ? (n * 7 + 2) % O : 0x7fffffff));
      const data = {
        ids,
        dense: amid(x, I, POISON, 0, 0),
        ...Object.fromEntries(Object.entries(poisons).map(([name, one]) => [name, amid(x, I, one, BEFORE, BEHIND)])),
      };
      for (const backend of backends) {
        const weights = backend.weights(parameters);
        for (const { name, values } of parameters) weights.write(name, values);
        const [matrix, transposed] = [weights.read('w'), weights.read('turned')];
        weights.dispose();
        const counts = { tokens: rows, segments: 1, outputs: rows };
        const result = evaluate(outputs, [], counts, data, backend, parameters);
        for (const [name, y] of Object.entries(result)) {
          const what = `${name} on ${backend.name}, ${backend.threads} threads, ${rows} rows`;
          if (name === 'embed')
            expect(y, what).toEqual(
              [...ids.subarray(0, rows)].flatMap((id) => [...matrix.slice(id * I, (id + 1) * I)]),
            );
          else {
            const held = name.startsWith('linear ')
              ? (o: number, i: number) => matrix[o * I + i]!
              : (o: number, i: number) => transposed[i * O + o]!;
            check(y, x, held, name.endsWith('dense') ? parameters[2]!.values : undefined, [O, I], format, what);
          }
        }
      }
    }
  });
});
