import type { StepInputs } from '../core/step.ts';
import type { Tensor } from '../core/tensor.ts';
import type { Scope } from '../core/trace.ts';
import { normed } from '../layers/rwkv.ts';
import { selfAttention } from '../layers/self-attention.ts';
import { embed } from '../ops/embed.ts';
import { add } from '../ops/expr.ts';
import { linear, linearTransposed } from '../ops/linear.ts';
import { tokenPositions } from '../ops/token-positions.ts';
import { reshape, split } from '../ops/views.ts';
import { type Activation, activate, readActivation } from './activation.ts';
import type { Architecture } from './architecture.ts';
import { ConfigReader } from './config.ts';
import { hasTensors } from './fla-config.ts';

/**
 * GPT-2: the Transformer with learned positions. Radford et al. 2019. Its matrices are stored as [inputs, outputs].
 *
 * T tokens · D width · H heads of K channels · I inner width of the MLP · P positions · V vocabulary
 */
export interface Gpt2Config {
  readonly layers: number;
  readonly D: number;
  readonly H: number;
  readonly I: number;
  readonly P: number;
  readonly V: number;
  readonly epsilon: number;
  readonly activation: Activation;
  readonly tied: boolean;
}

const normal = { kind: 'normal', std: 0.02 } as const;

function body(p: Scope, c: Gpt2Config, step: StepInputs): Tensor {
  const positions = tokenPositions(step.tokens, step.positions, step.ends);
  const words = embed(step.tokens, p('transformer.wte.weight', [c.V, c.D], normal));
  let h = add(words, embed(positions, p('transformer.wpe.weight', [c.P, c.D], normal))); // [T, D]
  for (let layer = 0; layer < c.layers; layer++) {
    h = p.in(`transformer.h.${layer}`, (p) => {
      const x = normed(p, 'ln_1', h, c.epsilon);
      const mixed = add(
        h,
        p.in('attn', (p) => attend(p, c, x, step)),
      );
      const y = normed(p, 'ln_2', mixed, c.epsilon);
      return add(
        mixed,
        p.in('mlp', (p) => project(p, 'c_proj', activate(c.activation, project(p, 'c_fc', y, c.I)), c.D)),
      );
    });
  }
  return normed(p, 'transformer.ln_f', h, c.epsilon);
}

const project = (p: Scope, name: string, x: Tensor, O: number): Tensor =>
  linearTransposed(x, p(`${name}.weight`, [x.shape[1] as number, O], normal), p(`${name}.bias`, [O]));

function attend(p: Scope, { D, H }: Gpt2Config, x: Tensor, step: StepInputs): Tensor {
  const [q, k, v] = split(project(p, 'c_attn', x, 3 * D), [D, D, D]).map((part) => reshape(part, ['tokens', H, D / H]));
  return project(p, 'c_proj', selfAttention(p, { q: q!, k: k!, v: v! }, step), D);
}

export const gpt2: Architecture<Gpt2Config> = {
  type: 'gpt2',
  title: 'GPT-2 (Radford et al. 2019)',
  aliases: [],
  detect: (tensors) => hasTensors(tensors, ['.attn.c_attn.weight', 'wpe.weight']),
  config(json, tensors) {
    const c = new ConfigReader(json, tensors);
    c.only('scale_attn_weights', [true], 'scores are divided by √K');
    c.only('scale_attn_by_inverse_layer_idx', [false], 'scores do not depend on the layer');
    const D = c.integer(['n_embd', 'hidden_size'], c.axis('wte.weight', 1));
    const H = c.integer(['n_head', 'num_attention_heads']);
    c.integer('head_dim', D / H);
    return {
      layers: c.layers(['n_layer', 'num_hidden_layers']),
      D,
      H,
      I: c.integer('n_inner', c.axis('mlp.c_fc.weight', 1) ?? 4 * D),
      P: c.integer(['n_positions', 'max_position_embeddings'], c.axis('wpe.weight', 0) ?? 1024),
      V: c.integer('vocab_size', c.axis('wte.weight', 0)),
      epsilon: c.positive('layer_norm_epsilon', 1e-5),
      activation: readActivation(c, 'activation_function', 'gelu_new'),
      tied: c.tied('tie_word_embeddings', true),
    };
  },
  vocabulary: ({ V }) => V,
  longest: ({ P }) => P,
  body,
  head: (p, c, hidden) => linear(hidden, p(c.tied ? 'transformer.wte.weight' : 'lm_head.weight', [c.V, c.D], normal)),
  rename(name) {
    if (/\.attn\.(bias|masked_bias)$/.test(name)) return null;
    return name === 'lm_head.weight' || name.startsWith('transformer.') ? name : `transformer.${name}`;
  },
};
