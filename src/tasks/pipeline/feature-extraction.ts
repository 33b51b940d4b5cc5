import { InputError } from '../../core/errors.ts';
import type { Model } from '../../runtime/model.ts';
import { refuseUnknownOptions } from '../../runtime/sampler.ts';
import { embed, normalized } from '../embed.ts';
import { refuseEmpty } from '../refuse-empty.ts';
import { textsOf } from './texts.ts';

export interface FeatureExtractionOptions {
  /** How a text's hidden states become one: `none` keeps all of them (default). */
  readonly pooling?: 'none' | 'mean' | 'first_token' | 'cls' | 'last_token' | 'eos';
  /** Whether vectors are scaled to length 1. Default false. */
  readonly normalize?: boolean;
  readonly signal?: AbortSignal;
}

/** Numbers in rows, as transformers.js has them. */
export interface FeatureTensor {
  readonly type: 'float32';
  /** [texts, D]; with `pooling: 'none'` [texts, tokens of the longest, D], zeros after the ends of shorter ones. */
  readonly dims: readonly number[];
  readonly data: Float32Array;
  tolist(): unknown[];
}

export type FeatureExtractor = (
  texts: string | readonly string[],
  options?: FeatureExtractionOptions,
) => Promise<FeatureTensor>;

const poolings = { mean: 'mean', first_token: 'first', cls: 'first', last_token: 'last', eos: 'last' } as const;

export function featureExtractor(model: Model): FeatureExtractor {
  return async (texts, options = {}) => {
    refuseUnknownOptions(options, ['pooling', 'normalize', 'signal']);
    const { pooling = 'none', normalize = false, signal } = options;
    const list = textsOf(texts);
    const D = model.hiddenSize;
    if (pooling !== 'none') {
      const known = Object.hasOwn(poolings, pooling);
      if (!known) throw new InputError(`pooling is ${pooling}; known: none, ${Object.keys(poolings).join(', ')}`);
      const rows: Float32Array[] = [];
      for (const text of list)
        rows.push(await embed(model, text, { pooling: poolings[pooling], normalize, ...(signal && { signal }) }));
      return tensor([rows.length, D], rows, D);
    }
    const all: Float32Array[] = [];
    for (const text of list) all.push(await hiddenStates(model, text, normalize, signal));
    const longest = Math.max(0, ...all.map(({ length }) => length));
    return tensor([all.length, longest / D, D], all, longest);
  };
}

/** All hidden states of a text, [tokens, D]. */
async function hiddenStates(
  model: Model,
  text: string,
  normalize: boolean,
  signal: AbortSignal | undefined,
): Promise<Float32Array> {
  const D = model.hiddenSize;
  const blocks: Float32Array[] = [];
  const session = model.session();
  try {
    await session.read(text, { signal, onHidden: (hidden) => void blocks.push(hidden.slice()) });
    refuseEmpty(session, 'the text');
  } finally {
    session.dispose();
  }
  const all = new Float32Array(blocks.reduce((sum, { length }) => sum + length, 0));
  let at = 0;
  for (const block of blocks) {
    all.set(block, at);
    at += block.length;
  }
  if (normalize) for (let i = 0; i < all.length; i += D) all.set(normalized(all.slice(i, i + D)), i);
  return all;
}

/** Rows one after another, each filled up to `width` with zeros. */
function tensor(dims: readonly number[], rows: readonly Float32Array[], width: number): FeatureTensor {
  const data = new Float32Array(rows.length * width);
  for (const [i, row] of rows.entries()) data.set(row, i * width);
  const nested = (depth: number, from: number, length: number): unknown[] => {
    if (depth === dims.length - 1) return Array.from(data.subarray(from, from + length));
    const part = length / dims[depth]!;
    return Array.from({ length: dims[depth]! }, (_, i) => nested(depth + 1, from + i * part, part));
  };
  return { type: 'float32', dims, data, tolist: () => nested(0, 0, data.length) };
}
