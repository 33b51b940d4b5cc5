import type { StepInputs } from '../core/step.ts';
import type { Tensor } from '../core/tensor.ts';
import type { Scope } from '../core/trace.ts';
import { embed } from '../ops/embed.ts';
import { add } from '../ops/expr.ts';
import { linear } from '../ops/linear.ts';
import { rmsNorm } from '../ops/norm.ts';
import { gatedMlp } from './gated-mlp.ts';

/** Sizes that all models of the flash-linear-attention library share. */
export interface FlaConfig {
  readonly layers: number;
  readonly D: number;
  readonly V: number;
  /** Inner width of the gated MLP. */
  readonly I: number;
  readonly epsilon: number;
  readonly tied: boolean;
}

/** A mixer: hidden states [T, D] → [T, D], its parameters under `attn`. */
export type FlaMixer<Config> = (p: Scope, config: Config, x: Tensor, step: StepInputs) => Tensor;

/** The frame of fla's models: x ← x + attn(norm(x)), x ← x + mlp(norm(x)), for each layer. */
export const flaBody =
  <Config extends FlaConfig>(mixer: FlaMixer<Config>) =>
  (p: Scope, c: Config, step: StepInputs): Tensor => {
    let h = embed(step.tokens, p('model.embeddings.weight', [c.V, c.D], { kind: 'normal', std: 0.02 }));
    for (let layer = 0; layer < c.layers; layer++) {
      h = p.in(`model.layers.${layer}`, (p) => {
        const x = rmsNorm(h, p('attn_norm.weight', [c.D], { kind: 'ones' }), c.epsilon);
        const mixed = add(
          h,
          p.in('attn', (p) => mixer(p, c, x, step)),
        );
        const y = rmsNorm(mixed, p('mlp_norm.weight', [c.D], { kind: 'ones' }), c.epsilon);
        return add(
          mixed,
          p.in('mlp', (p) => gatedMlp(p, y, c.D, c.I)),
        );
      });
    }
    return rmsNorm(h, p('model.norm.weight', [c.D], { kind: 'ones' }), c.epsilon);
  };

/** Logits by `lm_head`, or by the embeddings where they are tied. */
export const flaHead = (p: Scope, c: FlaConfig, hidden: Tensor): Tensor =>
  linear(hidden, p(c.tied ? 'model.embeddings.weight' : 'lm_head.weight', [c.V, c.D], { kind: 'normal', std: 0.02 }));
