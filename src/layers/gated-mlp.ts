import type { Tensor } from '../core/tensor.ts';
import type { Scope } from '../core/trace.ts';
import { expr } from '../ops/expr.ts';
import { linear } from '../ops/linear.ts';

/** SwiGLU: W_down (silu(W_gate x) ⊙ W_up x), with inner width I; with biases where `bias`. Shazeer 2020, arXiv 2002.05202. */
export function gatedMlp(p: Scope, x: Tensor, D: number, I: number, bias = false): Tensor {
  const normal = { kind: 'normal', std: 0.02 } as const;
  const project = (name: string, x: Tensor, outputs: number, inputs: number) =>
    linear(x, p(`${name}.weight`, [outputs, inputs], normal), bias ? p(`${name}.bias`, [outputs]) : undefined);
  const hidden = expr`silu(${project('gate_proj', x, I, D)}) * ${project('up_proj', x, I, D)}`;
  return project('down_proj', hidden, D, I);
}
