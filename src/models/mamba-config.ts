import type { TensorShapes } from './architecture.ts';
import { ConfigReader, type Json } from './config.ts';

/** Fields of `ssm_cfg` in the state-spaces dialect, by Hugging Face's names. */
const ssmFields: Readonly<Record<string, string>> = {
  expand: 'expand',
  state_size: 'd_state',
  conv_kernel: 'd_conv',
  time_step_rank: 'dt_rank',
  head_dim: 'headdim',
  n_groups: 'ngroups',
  time_step_limit: 'dt_limit',
};

/**
 * Reads a configuration of Mamba or Mamba-2 in either dialect under Hugging Face's names, and the sizes that both have. Codestral
 * Mamba's `params.json` is the state-spaces dialect with `dim` and `n_layers` for `d_model` and `n_layer`.
 */
export function readMambaConfig(json: Json, tensors: TensorShapes) {
  const ssm = new ConfigReader(json).object('ssm_cfg');
  const nested = (json['ssm_cfg'] ?? {}) as Json;
  const fields = Object.entries(ssmFields).map(([name, own]) => [name, json[name] ?? nested[own]] as const);
  const set = fields.filter(([, value]) => value !== undefined && value !== 'auto');
  const c = new ConfigReader({ ...json, time_step_rank: undefined, ...Object.fromEntries(set) }, tensors);
  c.only('hidden_act', ['silu'], 'the gate is SiLU');
  const embeddings = ['embeddings.weight', 'embedding.weight'];
  const common = {
    layers: c.layers(['num_hidden_layers', 'n_layer', 'n_layers']),
    D: c.integer(['hidden_size', 'd_model', 'dim'], c.axis(embeddings, 1)),
    K: c.integer('conv_kernel', c.axis('conv1d.weight', 2) ?? 4, 2),
    V: c.integer('vocab_size', c.axis(embeddings, 0)),
    epsilon: c.positive(['layer_norm_epsilon', 'norm_epsilon'], 1e-5),
    bias: c.boolean('use_bias', false),
    convBias: c.boolean('use_conv_bias', true),
  };
  // The state-spaces dialect pads the vocabulary that it names; the padded size is that of the stored matrix.
  const multiple = c.integer('pad_vocab_size_multiple', c.has('d_model') ? 8 : 1);
  const V = c.has('vocab_size') ? Math.ceil(common.V / multiple) * multiple : common.V;
  return { c, ssm, common: { ...common, V } };
}

/** What a configuration calls the sizes of Mamba-2's mixer. */
export interface Mamba2Fields {
  readonly heads: string;
  readonly width: string;
  readonly state: string;
  readonly groups: string;
}

/** Sizes where neither configuration nor tensors tell; heads of E / H channels where no width is given. */
interface Mamba2Defaults {
  readonly E: number;
  readonly H?: number;
  readonly P?: number;
  readonly N: number;
}

/**
 * Heads H of P channels, state size N and groups G of a Mamba-2 mixer: those that the configuration has, the others from the
 * shapes of the mixer's tensors. Of N and G these tell the product alone.
 */
export function mamba2Sizes(c: ConfigReader, mixer: string, field: Mamba2Fields, defaults: Mamba2Defaults) {
  const E = c.axis(`${mixer}.out_proj.weight`, 1);
  const C = c.axis(`${mixer}.conv1d.weight`, 0);
  const inner = E ?? defaults.E;
  const given = (name: string) => (c.has(name) ? c.integer(name) : undefined);
  const width = given(field.width) ?? (E === undefined ? defaults.P : undefined);
  const H = c.integer(field.heads, c.axis(`${mixer}.A_log`, 0) ?? defaults.H ?? inner / (width ?? 1));
  const P = c.integer(field.width, width ?? inner / H);
  if (E === undefined || C === undefined)
    return { H, P, N: c.integer(field.state, defaults.N), G: c.integer(field.groups, 1) };
  const both = (C - E) / 2;
  // params.json has a model_type too, and not Hugging Face's.
  const isHuggingFace = c.has('model_type') && !c.has('dim');
  const groups = given(field.groups) ?? (c.has(field.state) || isHuggingFace ? undefined : 1);
  const N = c.integer(field.state, groups === undefined ? undefined : both / groups);
  return { H, P, N, G: c.integer(field.groups, groups ?? both / N) };
}
