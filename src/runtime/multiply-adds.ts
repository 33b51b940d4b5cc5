import type { WeightDeclaration, WeightFormat } from '../core/backend.ts';
import { reachable } from '../core/grad.ts';
import type { Tensor } from '../core/tensor.ts';
import { type ModelGraph, matrixOperand } from './graph.ts';

/** Multiply-adds of products with matrices, by how the matrices are held. */
export type MultiplyAdds = ReadonlyMap<WeightFormat, number>;

/**
 * O · I for each product y = W x with a matrix [O, I]: those that every token takes, and those of the head, which only tokens take whose
 * logits are asked for. What looks along time (attention, recurrence, convolution) is not among them.
 */
export function multiplyAddsOf(
  { logits, carries }: Pick<ModelGraph, 'logits' | 'carries'>,
  declarations: readonly WeightDeclaration[],
): { readonly token: MultiplyAdds; readonly head: MultiplyAdds } {
  const formats = new Map(declarations.map(({ name, format }) => [name, format]));
  const [token, head] = [new Map<WeightFormat, number>(), new Map<WeightFormat, number>()];
  for (const node of reachable([logits, ...carries.map(({ next }) => next)].map((root) => root.node))) {
    const { x, w } = node.inputs;
    if (!x || !w || matrixOperand(node, 'w') === undefined) continue;
    const counts = x.shape[0] === 'tokens' ? token : x.shape[0] === 'outputs' ? head : undefined;
    // Matrices that are computed from others, and parts of one, are f32.
    const format = (w.node.leaf?.kind === 'parameter' && formats.get(w.node.leaf.name)) || 'f32';
    counts?.set(format, (counts.get(format) ?? 0) + size(x.shape.slice(1, -1)) * size(w.shape));
  }
  return { token, head };
}

const size = (shape: Tensor['shape']): number => shape.reduce<number>((product, axis) => product * Number(axis), 1);
