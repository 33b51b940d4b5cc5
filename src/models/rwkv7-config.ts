import { UnsupportedError } from '../core/errors.ts';
import type { TensorShapes } from './architecture.ts';
import { ConfigReader, type Json } from './config.ts';
import { type RwkvSizes, rwkvSizes, shapeOf } from './rwkv-shapes.ts';

export interface Rwkv7Config extends RwkvSizes {
  readonly H: number;
  readonly N: number;
  /** Ranks of the low-rank maps w, a, v and g. */
  readonly ranks: Readonly<Record<string, number>>;
  readonly epsilon: number;
  /** ε of the norm of each head's output. */
  readonly headEpsilon: number;
  /** ε under the root of the keys' norm. */
  readonly keyEpsilon: number;
  readonly tied: boolean;
  /** Which dialect names the tensors. */
  readonly dialect: 'blinkdl' | 'fla' | 'rwkv.cpp';
}

/** All sizes come from the tensors; fla's configuration adds the epsilons. */
export function rwkv7Config(json: Json, tensors: TensorShapes): Rwkv7Config {
  const c = new ConfigReader(json, tensors);
  const names = [...tensors.keys()];
  const foreign = names.find((name) => /rosa|s_emb/.test(name));
  if (foreign) throw new UnsupportedError(`${foreign}: RWKV-7 variants with DeepEmbed and RWKV-8's ROSA are not built`);
  c.only('attn', [null], 'layers of full attention in between are not built');
  const dialect =
    json['format'] === 'rwkv.cpp' ? 'rwkv.cpp' : names.some((name) => name.includes('.attn.')) ? 'fla' : 'blinkdl';
  const sizes = rwkvSizes(tensors);
  const flat = shapeOf(tensors, /0\.att[n]?\.r_k$/);
  const N = flat.length === 2 && flat[1] !== 1 ? flat[1]! : c.integer('head_size', 64);
  const epsilon = c.positive('norm_eps', 1e-5);
  // BlinkDL stores a low-rank map's first matrix as [D, rank], the others as [rank, D].
  const axis = dialect === 'blinkdl' ? 1 : 0;
  const rank = (letter: string) =>
    shapeOf(tensors, new RegExp(`\\.(att\\.${letter}1|attn\\.${letter}_lora\\.lora\\.0\\.weight)$`))[axis]!;
  return {
    ...sizes,
    H: sizes.D / N,
    N,
    ranks: { w: rank('w'), a: rank('a'), g: rank('g'), v: sizes.layers > 1 ? rank('v') : 0 },
    epsilon,
    headEpsilon: c.positive('group_norm_eps', dialect === 'fla' ? N * epsilon : 64e-5),
    // BlinkDL divides by max(‖k‖, 10⁻¹²), which differs only for keys shorter than that.
    keyEpsilon: c.positive('key_norm_eps', dialect === 'fla' && c.boolean('fuse_norm', true) ? 1e-6 : 1e-24),
    tied: c.tied('tie_word_embeddings', false),
    dialect,
  };
}
