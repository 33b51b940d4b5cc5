import type { Tensor } from '../core/tensor.ts';
import type { Scope } from '../core/trace.ts';
import { expr } from '../ops/expr.ts';
import { linear } from '../ops/linear.ts';

/** SwiGLU: W_down (silu(W_gate x) ⊙ W_up x), with inner width I. Shazeer 2020, arXiv 2002.05202. */
export function gatedMlp(p: Scope, x: Tensor, D: number, I: number): Tensor {
  const normal = { kind: 'normal', std: 0.02 } as const;
  const gate = linear(x, p('gate_proj.weight', [I, D], normal));
  const up = linear(x, p('up_proj.weight', [I, D], normal));
  return linear(expr`silu(${gate}) * ${up}`, p('down_proj.weight', [D, I], normal));
}
