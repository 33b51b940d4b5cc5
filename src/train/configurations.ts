import { InputError } from '../core/errors.ts';
import type { TensorShapes } from '../models/architecture.ts';
import type { Json } from '../models/config.ts';
import { refuseIdle } from './option-limits.ts';

/** Sizes of a model to be trained from scratch. */
export interface ModelDimensions {
  /** Width D of the residual stream. */
  readonly width: number;
  readonly layers: number;
  readonly vocabulary: number;
  /** Channels of a head, where the architecture has heads. Default 64, or the width where it is less. */
  readonly headWidth?: number | undefined;
  /** Inner width of the MLP or channel mixing, where there is one. Default: 4 times the width in RWKV-7, elsewhere 8/3, in multiples of 64. */
  readonly inner?: number | undefined;
  /** Size N of the state: per channel in Mamba (16), per head in Mamba-2 (64). */
  readonly state?: number | undefined;
  /** DeltaNet and Gated DeltaNet: eigenvalues from −1 to 1 instead of 0 to 1 (Grazzi et al. 2024). */
  readonly negativeEigenvalues?: boolean | undefined;
}

/** The dimensions that only some architectures have. */
export type OwnDimension = 'headWidth' | 'inner' | 'state' | 'negativeEigenvalues';

/** Which of them each architecture has, beside width, layers and vocabulary. */
export const ownDimensions = {
  mamba: ['state'],
  mamba2: ['headWidth', 'state'],
  rwkv7: ['headWidth', 'inner'],
  llama: ['headWidth', 'inner'],
  linear_attn: ['headWidth', 'inner'],
  retnet: ['headWidth', 'inner'],
  gla: ['headWidth', 'inner'],
  delta_net: ['headWidth', 'inner', 'negativeEigenvalues'],
  gated_deltanet: ['headWidth', 'inner', 'negativeEigenvalues'],
} as const satisfies Readonly<Record<string, readonly OwnDimension[]>>;

type NewArchitecture = keyof typeof ownDimensions;

/** Those whose heads are turned in pairs of channels, or have half as many keys as values: their heads have an even number of channels. */
const evenHeads: readonly NewArchitecture[] = ['llama', 'retnet', 'gla'];

/** A configuration as config.json has it, and the shapes of tensors from which some architectures tell their sizes. */
export interface NewModel {
  readonly config: Json;
  readonly tensors: TensorShapes;
}

type Maker = (
  sizes: Required<Omit<ModelDimensions, 'inner' | 'state'>> & Pick<ModelDimensions, 'inner' | 'state'>,
) => Json;

/** The token that ends a text, and begins one, is the first of the vocabulary, as in the tokenizers that `train` makes. */
const common = { bos_token_id: 0, eos_token_id: 0, pad_token_id: 0 };

const makers: Readonly<Record<NewArchitecture, Maker>> = {
  mamba: ({ width, layers, vocabulary, state = 16 }) => ({
    architectures: ['MambaForCausalLM'],
    model_type: 'mamba',
    hidden_size: width,
    num_hidden_layers: layers,
    vocab_size: vocabulary,
    state_size: state,
    expand: 2,
    intermediate_size: 2 * width,
    conv_kernel: 4,
    time_step_rank: Math.ceil(width / 16),
    hidden_act: 'silu',
    layer_norm_epsilon: 1e-5,
    residual_in_fp32: true,
    use_bias: false,
    use_conv_bias: true,
    tie_word_embeddings: true,
  }),
  mamba2: ({ width, layers, vocabulary, headWidth, state = 64 }) => ({
    architectures: ['Mamba2ForCausalLM'],
    model_type: 'mamba2',
    hidden_size: width,
    num_hidden_layers: layers,
    vocab_size: vocabulary,
    state_size: state,
    expand: 2,
    head_dim: headWidth,
    num_heads: (2 * width) / headWidth,
    n_groups: 1,
    conv_kernel: 4,
    hidden_act: 'silu',
    layer_norm_epsilon: 1e-5,
    residual_in_fp32: true,
    use_bias: false,
    use_conv_bias: true,
    tie_word_embeddings: true,
  }),
  rwkv7: ({ width, layers, vocabulary, headWidth }) => ({
    architectures: ['RWKV7ForCausalLM'],
    model_type: 'rwkv7',
    hidden_size: width,
    num_hidden_layers: layers,
    vocab_size: vocabulary,
    head_dim: headWidth,
    num_heads: width / headWidth,
    head_size: headWidth,
    norm_eps: 1e-5,
    tie_word_embeddings: true,
  }),
  llama: ({ width, layers, vocabulary, headWidth, inner = multiple((8 / 3) * width, 64) }) => ({
    architectures: ['LlamaForCausalLM'],
    model_type: 'llama',
    hidden_size: width,
    intermediate_size: inner,
    num_hidden_layers: layers,
    vocab_size: vocabulary,
    head_dim: headWidth,
    num_attention_heads: width / headWidth,
    num_key_value_heads: width / headWidth,
    max_position_embeddings: 2048,
    rope_theta: 10000,
    rms_norm_eps: 1e-6,
    hidden_act: 'silu',
    tie_word_embeddings: true,
  }),
  linear_attn: (sizes) => ({
    ...fla(sizes, 'linear_attn', 'LinearAttentionForCausalLM'),
    num_heads: sizes.width / sizes.headWidth,
    expand_k: 1,
    expand_v: 1,
    feature_map: 'elementwise_product',
    norm_q: false,
    norm_k: false,
    norm_feature_map: false,
  }),
  retnet: (sizes) => ({
    ...fla(sizes, 'retnet', 'RetNetForCausalLM'),
    num_heads: sizes.width / sizes.headWidth,
    expand_k: 1,
    expand_v: 2,
    use_short_conv: false,
    use_output_gate: true,
  }),
  gla: (sizes) => ({
    ...fla(sizes, 'gla', 'GLAForCausalLM'),
    num_heads: sizes.width / sizes.headWidth,
    expand_k: 0.5,
    expand_v: 1,
    use_short_conv: false,
    use_gk: true,
    use_gv: false,
    use_output_gate: true,
  }),
  delta_net: (sizes) => ({
    ...fla(sizes, 'delta_net', 'DeltaNetForCausalLM'),
    num_heads: sizes.width / sizes.headWidth,
    expand_k: 1,
    expand_v: 1,
    use_short_conv: true,
    conv_size: 4,
    use_beta: true,
    use_gate: false,
    qk_activation: 'silu',
    qk_norm: 'l2',
    allow_neg_eigval: sizes.negativeEigenvalues,
  }),
  gated_deltanet: (sizes) => ({
    ...fla(sizes, 'gated_deltanet', 'GatedDeltaNetForCausalLM'),
    num_heads: sizes.width / sizes.headWidth,
    head_dim: sizes.headWidth,
    expand_v: 1,
    use_short_conv: true,
    conv_size: 4,
    use_gate: true,
    allow_neg_eigval: sizes.negativeEigenvalues,
  }),
};

/** What the models of the flash-linear-attention library share. */
const fla = (
  { width, layers, vocabulary, inner = multiple((8 / 3) * width, 64) }: Parameters<Maker>[0],
  type: string,
  architecture: string,
): Json => ({
  architectures: [architecture],
  model_type: type,
  hidden_size: width,
  num_hidden_layers: layers,
  vocab_size: vocabulary,
  intermediate_size: inner,
  hidden_act: 'swish',
  norm_eps: 1e-6,
  attn: null,
  tie_word_embeddings: true,
});

const multiple = (n: number, of: number): number => of * Math.ceil(n / of);

/** The architectures that can be trained from scratch, by `model_type`. */
export const newArchitectures: readonly string[] = Object.keys(ownDimensions);

/** The architectures that have a dimension. */
export const architecturesWith = (dimension: OwnDimension): readonly string[] =>
  newArchitectures.filter((type) => has(type as NewArchitecture, dimension));

const has = (type: NewArchitecture, dimension: OwnDimension): boolean =>
  (ownDimensions[type] as readonly OwnDimension[]).includes(dimension);

/** InputError for an unknown architecture, a dimension that it does not have, or sizes that do not go together. */
export function refuseDimensions(
  type: string,
  dimensions: Omit<ModelDimensions, 'vocabulary'>,
): asserts type is NewArchitecture {
  if (!newArchitectures.includes(type))
    throw new InputError(`no new model of architecture ${type} can be made; there are ${newArchitectures.join(', ')}`);
  const known = type as NewArchitecture;
  const { headWidth, inner, state } = dimensions;
  // Eigenvalues that are not negative are those of every other architecture.
  const own = { headWidth, inner, state, negativeEigenvalues: dimensions.negativeEigenvalues || undefined };
  const names = Object.keys(own) as OwnDimension[];
  refuseIdle(
    own,
    names.filter((name) => !has(known, name)),
    `beside width and layers a new ${type} has only ${ownDimensions[known].join(' and ')}`,
  );
  const { width, layers } = dimensions;
  for (const [name, value] of Object.entries({ width, layers, headWidth, inner, state }))
    if (value !== undefined && (!Number.isSafeInteger(value) || value < 1))
      throw new InputError(`${name} is ${value}: it must be a whole number above 0`);
  const channels = headWidthOf(dimensions);
  if (has(known, 'headWidth') && width % channels !== 0)
    throw new InputError(`the width ${width} is not a multiple of the heads' ${channels} channels`);
  if (evenHeads.includes(known) && channels % 2 !== 0)
    throw new InputError(`headWidth is ${channels}: a new ${type} has heads of an even number of channels`);
}

const headWidthOf = ({ width, headWidth }: Pick<ModelDimensions, 'width' | 'headWidth'>): number =>
  headWidth ?? Math.min(64, width);

/** The configuration of a new model. InputError for an unknown architecture, or dimensions that do not go together or that it does not have. */
export function newModel(type: string, dimensions: ModelDimensions): NewModel {
  refuseDimensions(type, dimensions);
  const { vocabulary, negativeEigenvalues = false } = dimensions;
  if (!Number.isSafeInteger(vocabulary) || vocabulary < 1)
    throw new InputError(`vocabulary is ${vocabulary}: it must be a whole number above 0`);
  const sizes = { ...dimensions, headWidth: headWidthOf(dimensions), negativeEigenvalues };
  const config = { ...makers[type](sizes), ...common };
  return { config, tensors: type === 'rwkv7' ? rwkv7Tensors(sizes) : new Map() };
}

/** Tensors from which RWKV-7 tells its sizes; ranks as the reference implementation's for small widths. */
function rwkv7Tensors({
  width,
  layers,
  vocabulary,
  headWidth,
  inner,
}: ModelDimensions & { headWidth: number }): TensorShapes {
  const rank = (factor: number, power: number) => Math.max(32, multiple(factor * width ** power, 32));
  const shapes: Record<string, number[]> = {
    'emb.weight': [vocabulary, width],
    'blocks.0.ffn.key.weight': [inner ?? 4 * width, width],
    'blocks.0.att.r_k': [width / headWidth, headWidth],
    'blocks.0.att.w1': [width, rank(1.8, 0.5)],
    'blocks.0.att.a1': [width, rank(1.8, 0.5)],
    'blocks.0.att.g1': [width, rank(0.6, 0.8)],
    [`blocks.${Math.max(1, layers - 1)}.att.v1`]: [width, rank(1.3, 0.5)],
  };
  if (layers === 1) delete shapes['blocks.1.att.v1'];
  return new Map(Object.entries(shapes).map(([name, shape]) => [name, { shape }]));
}
