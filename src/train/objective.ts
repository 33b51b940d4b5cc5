import type { Tensor } from '../core/tensor.ts';
import { input } from '../core/trace.ts';
import { crossEntropy } from '../ops/cross-entropy.ts';
import { expr, sumTo } from '../ops/expr.ts';
import type { ModelGraph } from '../runtime/graph.ts';
import type { Objective } from './learner.ts';

/** Sum of the surprise of `targets` [outputs] under the logits, each times its weight; nats. */
export const weightedSurprise = (logits: Tensor): Tensor =>
  sumTo(expr`${crossEntropy(logits, input('targets', ['outputs'], 'i32'))} * ${input('weights', ['outputs'])}`, [1]);

/** Prediction of every next token, or of every row's label: inputs `targets` i32 [outputs] and `weights` [outputs]. */
export function prediction(
  { logits, carries, parameters }: ModelGraph,
  learned: Pick<Objective, 'trained' | 'initialStates'>,
): Objective {
  return { loss: weightedSurprise(logits), carries, parameters, ...learned, outputs: new Map([['logits', logits]]) };
}
