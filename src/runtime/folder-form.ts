import type { Checkpoint } from '../formats/checkpoint.ts';
import type { Json } from '../models/config.ts';
import type { MatchedModel } from './matched.ts';
import type { Origin } from './parameters.ts';

/** How a model is written as a folder, whatever it was read from. */
export interface FolderForm {
  /** What its config.json says, but for the type of its numbers. */
  readonly config: Json;
  /**
   * Whether tensors have the names and layouts of the file that they were read from. Otherwise they have the architecture's own, which are those of
   * Hugging Face's class where there is one.
   */
  readonly asStored: boolean;
}

/** What is known of a model that is to be written. */
type Written = Pick<MatchedModel, 'architecture' | 'config'>;

/** RWKV-5, 6 and 7 have names by their author, by Hugging Face's remote code and by fla, with sizes, epsilons and layouts that go with them. */
const inSeveralDialects = ['rwkv5', 'rwkv6', 'rwkv7'];

/** Hugging Face's classes of what may come without a configuration of theirs. */
const classes: Readonly<Record<string, string>> = {
  mamba: 'MambaForCausalLM',
  falcon_mamba: 'FalconMambaForCausalLM',
  mamba2: 'Mamba2ForCausalLM',
  rwkv: 'RwkvForCausalLM',
  gpt2: 'GPT2LMHeadModel',
  gpt_neox: 'GPTNeoXForCausalLM',
  llama: 'LlamaForCausalLM',
  qwen2: 'Qwen2ForCausalLM',
};

/**
 * How a model is written as a folder. Files that come without Hugging Face's configuration (rwkv.cpp's, state-spaces', Codestral's, RWKV's author's, GGUF) get
 * one, of what was read from them.
 */
export function folderForm(json: Json, { format }: Pick<Checkpoint, 'format'>, model: Written): FolderForm {
  const { type } = model.architecture;
  const { dtype: _, torch_dtype: __, format: dialect, ...rest } = json;
  const isForeign = format === 'gguf' || format === 'rwkv.cpp' || dialect === 'rwkv.cpp';
  if (inSeveralDialects.includes(type) && !isForeign) return { config: { model_type: type, ...rest }, asStored: true };
  const parsed = model.config as Readonly<Record<string, unknown>>;
  const isOurs = json['model_type'] === undefined || json['dim'] !== undefined || json['d_model'] !== undefined;
  const own = isOurs ? rebuilt[type]?.(parsed, rest) : undefined;
  const architectures = classes[type] !== undefined && { architectures: [classes[type]] };
  const config = own ?? { ...(isForeign && architectures), model_type: type, ...rest };
  const { tied } = parsed;
  const isTold = typeof tied === 'boolean' && !inSeveralDialects.includes(type);
  return {
    config: { ...(own && architectures), ...config, ...(isTold && { tie_word_embeddings: tied }) },
    asStored: false,
  };
}

/** Names of tokens, which any configuration may have. */
const tokens = ({ bos_token_id, eos_token_id, pad_token_id }: Json): Json =>
  Object.fromEntries(
    Object.entries({ bos_token_id, eos_token_id, pad_token_id }).filter(([, value]) => value !== undefined),
  );

type Rebuild = (parsed: Readonly<Record<string, unknown>>, json: Json) => Json;

const mambaSizes: Rebuild = ({ D, layers, V, N, K, epsilon, bias, convBias }, json) => ({
  hidden_size: D,
  num_hidden_layers: layers,
  vocab_size: V,
  state_size: N,
  conv_kernel: K,
  hidden_act: 'silu',
  layer_norm_epsilon: epsilon,
  residual_in_fp32: json['residual_in_fp32'] ?? true,
  use_bias: bias,
  use_conv_bias: convBias,
  ...tokens(json),
});

/** Configurations as Hugging Face has them, of what was read. */
const rebuilt: Readonly<Record<string, Rebuild>> = {
  mamba: (c, json) => ({
    model_type: 'mamba',
    ...mambaSizes(c, json),
    expand: Number(c['E']) / Number(c['D']),
    intermediate_size: c['E'],
    time_step_rank: c['R'],
  }),
  mamba2: (c, json) => ({
    model_type: 'mamba2',
    ...mambaSizes(c, json),
    expand: (Number(c['H']) * Number(c['P'])) / Number(c['D']),
    num_heads: c['H'],
    head_dim: c['P'],
    n_groups: c['G'],
    time_step_limit: c['limit'],
  }),
  rwkv: ({ D, A, F, V, layers, epsilon }, json) => ({
    model_type: 'rwkv',
    hidden_size: D,
    attention_hidden_size: A,
    intermediate_size: F,
    vocab_size: V,
    num_hidden_layers: layers,
    layer_norm_epsilon: epsilon,
    // Hugging Face halves deep layers for f16, which leaves logits as they are.
    rescale_every: 0,
    ...tokens(json),
  }),
  rwkv5: ({ headEpsilon }, json) => ({ model_type: 'rwkv5', group_norm_eps: headEpsilon, ...tokens(json) }),
  rwkv6: (_, json) => ({ model_type: 'rwkv6', ...tokens(json) }),
  rwkv7: ({ N, epsilon, headEpsilon, keyEpsilon }, json) => ({
    model_type: 'rwkv7',
    head_size: N,
    norm_eps: epsilon,
    group_norm_eps: headEpsilon,
    key_norm_eps: keyEpsilon,
    ...tokens(json),
  }),
};

/**
 * A parameter's numbers in the order of the tensor that it was read from. What `convert` does is then an order of the same numbers, which is found by sending
 * their places through it: in two halves, since float32 holds whole numbers up to 2^24.
 */
export function inStoredOrder(values: Float32Array, { stored, convert }: Origin): Float32Array {
  if (!convert) return values;
  const HALF = 4096;
  const low = convert(
    Float32Array.from(values, (_, i) => i % HALF),
    stored.shape,
  );
  const high = convert(
    Float32Array.from(values, (_, i) => Math.floor(i / HALF)),
    stored.shape,
  );
  const ordered = new Float32Array(values.length);
  for (const [i, value] of values.entries()) ordered[high[i]! * HALF + low[i]!] = value;
  return ordered;
}
