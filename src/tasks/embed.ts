import { InputError } from '../core/errors.ts';
import type { Model } from '../runtime/model.ts';
import { refuseUnknownOptions } from '../runtime/sampler.ts';
import type { ReadOptions } from '../runtime/session.ts';
import type { Source } from '../runtime/source.ts';
import { refuseEmpty } from './refuse-empty.ts';

export interface EmbedOptions extends Pick<ReadOptions, 'signal' | 'onProgress'> {
  /** `mean` of the hidden states of all tokens (default), or the `last`'s, or the `first`'s. */
  readonly pooling?: 'mean' | 'last' | 'first';
  /** Whether it is scaled to length 1, so that a product of two is their cosine. Default true. */
  readonly normalize?: boolean;
}

/** A text of any length as a vector [D]: its hidden states after the last norm, pooled. */
export async function embed(model: Model, source: Source, options: EmbedOptions = {}): Promise<Float32Array> {
  refuseUnknownOptions(options, ['pooling', 'normalize', 'signal', 'onProgress']);
  const { pooling = 'mean', normalize = true, signal, onProgress } = options;
  if (!['mean', 'last', 'first'].includes(pooling))
    throw new InputError(`pooling is ${String(pooling)}; known: mean, last, first`);
  const pool = new Pool(model.hiddenSize, pooling);
  const session = model.session();
  try {
    await session.read(source, { signal, onProgress, onHidden: (hidden) => pool.add(hidden) });
    refuseEmpty(session, 'the text');
  } finally {
    session.dispose();
  }
  const pooled = pool.result();
  return normalize ? normalized(pooled) : pooled;
}

/** Pools rows that come in blocks. */
class Pool {
  readonly #sum: Float64Array;
  readonly #pooling: 'mean' | 'last' | 'first';
  #rows = 0;

  constructor(D: number, pooling: 'mean' | 'last' | 'first') {
    this.#sum = new Float64Array(D);
    this.#pooling = pooling;
  }

  add(hidden: Float32Array): void {
    const D = this.#sum.length;
    const rows = hidden.length / D;
    if (this.#pooling === 'last') this.#sum.set(hidden.subarray(hidden.length - D));
    else if (this.#pooling === 'mean') for (let i = 0; i < hidden.length; i++) this.#sum[i % D]! += hidden[i]!;
    else if (this.#rows === 0) this.#sum.set(hidden.subarray(0, D));
    this.#rows += rows;
  }

  result(): Float32Array {
    return Float32Array.from(this.#sum, (x) => (this.#pooling === 'mean' ? x / this.#rows : x));
  }
}

/** A vector scaled to length 1; one of zeros stays. */
export function normalized(vector: Float32Array): Float32Array {
  const length = Math.sqrt(vector.reduce((sum, x) => sum + x * x, 0));
  return length > 0 ? vector.map((x) => x / length) : vector;
}
