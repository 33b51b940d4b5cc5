import type { WeightFormat } from '../core/backend.ts';
import { plan } from '../core/plan.ts';
import { Random } from '../core/random.ts';
import { input, leaf } from '../core/trace.ts';
import { linear } from '../ops/linear.ts';
import { makeBackend } from './node-load.ts';

/** Columns of a matrix of 192 MB, which is more than caches hold, and its rows by format. */
const COLUMNS = 2048;
const ROWS = { f32: 24_576, bf16: 49_152, q8: 90_112 } as const;
/** Of one that stays in them. */
const SMALL = [3072, 768] as const;
const RUNS = 12;

/** Bytes a second that products of one row with a large matrix read, in whichever format reads fastest: what generating is bound by. */
export async function measureBandwidth(threads: number): Promise<number> {
  const rates: number[] = [];
  for (const format of ['f32', 'bf16', 'q8'] as const) {
    const { seconds, bytes } = await timeProduct([ROWS[format], COLUMNS], 1, format, threads);
    rates.push(bytes / seconds);
  }
  return Math.max(...rates);
}

/** Multiply-adds a second of products of 256 rows with a matrix in a format: what reading is bound by. */
export async function measureProducts(format: WeightFormat, threads: number): Promise<number> {
  return (256 * SMALL[0] * SMALL[1]) / (await timeProduct(SMALL, 256, format, threads)).seconds;
}

/** The shortest of some runs of a product of `rows` rows with a random matrix, and the matrix's bytes. */
async function timeProduct(
  [O, I]: readonly [number, number],
  rows: number,
  format: WeightFormat,
  threads: number,
): Promise<{ seconds: number; bytes: number }> {
  const backend = await makeBackend({ threads });
  try {
    const weights = backend.weights([{ name: 'w', shape: [O, I], format, layout: 'linear' }]);
    const random = new Random(2);
    const piece = Float32Array.from({ length: 256 * I }, () => random.normal());
    for (let row = 0; row < O; row += 64) weights.write('w', piece.subarray(0, 64 * I), row * I);
    const w = leaf({ kind: 'parameter', name: 'w', initial: { kind: 'zeros' } }, [O, I]);
    const y = linear(input('x', ['tokens', I]), w);
    const counts = { tokens: rows, segments: 1, outputs: 1 };
    const executable = backend.compile(plan(new Map([['y', y]]), [], counts, backend.layout(weights)), weights, []);
    let best = Infinity;
    for (let n = 0; n < RUNS; n++) {
      executable.input('x').set(piece.subarray(0, rows * I));
      const start = performance.now();
      await executable.run(counts, []);
      best = Math.min(best, (performance.now() - start) / 1000);
    }
    return { seconds: best, bytes: weights.bytes };
  } finally {
    backend.dispose();
  }
}
