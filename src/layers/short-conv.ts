import type { Tensor } from '../core/tensor.ts';
import type { Scope } from '../core/trace.ts';
import { conv } from '../ops/conv.ts';
import { expr } from '../ops/expr.ts';
import { reshape } from '../ops/views.ts';

/** silu of a causal depthwise convolution over K tokens, weights `<name>_conv1d` [C, 1, K], state `conv_<name>` [C, K − 1]. */
export function shortConv(p: Scope, name: string, x: Tensor, K: number, ends: Tensor): Tensor {
  const C = x.shape[1] as number;
  const w = reshape(p(`${name}_conv1d.weight`, [C, 1, K], { kind: 'uniform', low: -(K ** -0.5), high: K ** -0.5 }), [
    C,
    K,
  ]);
  return expr`silu(${p.carry(`conv_${name}`, [C, K - 1], (state) => conv(x, w, undefined, state, ends))})`;
}
