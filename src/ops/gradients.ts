import { gradients as reverse } from '../core/grad.ts';
import type { Node, Tensor } from '../core/tensor.ts';
import { constant } from '../core/trace.ts';
import { addWithin } from './expr.ts';

/** Gradients of a scalar `loss` [1] with respect to each of `wanted`; `undefined` where it does not depend on one. */
export const gradients = (
  loss: Tensor,
  wanted: readonly Tensor[],
  blockOf?: (node: Node) => string | undefined,
): (Tensor | undefined)[] => reverse(loss, constant([1]), wanted, addWithin, blockOf);
