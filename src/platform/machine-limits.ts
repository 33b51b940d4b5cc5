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
const ROWS_READ = 256;
const RUNS = 12;

/** What a machine did in one turn. */
export interface Limits {
  /** Bytes a second that products of one row with a large matrix read, in whichever format reads fastest: what generating is bound by. */
  readonly bandwidth: number;
  /** Multiply-adds a second of products of 256 rows, by the matrix's format: what reading is bound by. */
  readonly multiplyAdds: ReadonlyMap<WeightFormat, number>;
}

/**
 * What the machine allows. Its speed changes from one tenth of a second to the next and from minute to minute, so it is measured in
 * turns with what is compared to it, and the best turns of both count.
 */
export class MachineLimits {
  readonly #threads: number;
  readonly #products = new Map<WeightFormat, TimedProduct>();
  #large: TimedProduct | undefined;

  constructor(threads: number) {
    this.#threads = threads;
  }

  /** A turn: the best of some runs of each product, of about a tenth of a second together. */
  async measure(formats: Iterable<WeightFormat>): Promise<Limits> {
    const { bytes, seconds } = this.#large ? await this.#large.time() : await this.#openLarge();
    const multiplyAdds = new Map<WeightFormat, number>();
    for (const format of formats) {
      let product = this.#products.get(format);
      if (!product) {
        product = await openProduct(SMALL, ROWS_READ, format, this.#threads);
        this.#products.set(format, product);
      }
      multiplyAdds.set(format, (ROWS_READ * SMALL[0] * SMALL[1]) / (await product.time()).seconds);
    }
    return { bandwidth: bytes / seconds, multiplyAdds };
  }

  /** Finds the format that reads fastest, and keeps its matrix for the turns that follow. */
  async #openLarge(): Promise<Time> {
    let best: Time = { bytes: 0, seconds: 1 };
    for (const format of ['f32', 'bf16', 'q8'] as const) {
      const product = await openProduct([ROWS[format], COLUMNS], 1, format, this.#threads);
      const time = await product.time();
      const isBetter = time.bytes / time.seconds > best.bytes / best.seconds;
      (isBetter ? this.#large : product)?.dispose();
      if (isBetter) [best, this.#large] = [time, product];
    }
    return best;
  }

  dispose(): void {
    for (const product of [this.#large, ...this.#products.values()]) product?.dispose();
    this.#large = undefined;
    this.#products.clear();
  }
}

/** The shortest of some runs, and the bytes of the matrix. */
interface Time {
  readonly seconds: number;
  readonly bytes: number;
}

interface TimedProduct {
  time(): Promise<Time>;
  dispose(): void;
}

/** A product of `rows` rows with a random matrix. */
async function openProduct(
  [O, I]: readonly [number, number],
  rows: number,
  format: WeightFormat,
  threads: number,
): Promise<TimedProduct> {
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
    const time = async () => {
      let seconds = Infinity;
      for (let n = 0; n < RUNS; n++) {
        executable.input('x').set(piece.subarray(0, rows * I));
        const start = performance.now();
        await executable.run(counts, []);
        seconds = Math.min(seconds, (performance.now() - start) / 1000);
      }
      return { seconds, bytes: weights.bytes };
    };
    return { time, dispose: () => backend.dispose() };
  } catch (error) {
    backend.dispose();
    throw error;
  }
}
