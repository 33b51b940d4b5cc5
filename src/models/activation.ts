import type { Tensor } from '../core/tensor.ts';
import { expr } from '../ops/expr.ts';
import type { ConfigReader } from './config.ts';

/** The activations of an MLP without a gate, by Hugging Face's names. */
const activations = {
  gelu: (x: Tensor) => expr`gelu(${x})`,
  gelu_python: (x: Tensor) => expr`gelu(${x})`,
  gelu_new: (x: Tensor) => expr`gelutanh(${x})`,
  gelu_fast: (x: Tensor) => expr`gelutanh(${x})`,
  gelu_pytorch_tanh: (x: Tensor) => expr`gelutanh(${x})`,
  quick_gelu: (x: Tensor) => expr`${x} * sigmoid(1.702 * ${x})`,
  relu: (x: Tensor) => expr`relu(${x})`,
  silu: (x: Tensor) => expr`silu(${x})`,
} as const;

export type Activation = keyof typeof activations;

/** Reads the name of an activation. */
export function readActivation(c: ConfigReader, field: string, usual: Activation): Activation {
  const names = Object.keys(activations);
  c.only(field, names, 'no activation that is built');
  return c.string(field, usual) as Activation;
}

export const activate = (name: Activation, x: Tensor): Tensor => activations[name](x);
