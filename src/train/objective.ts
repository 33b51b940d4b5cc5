import type { Tensor } from '../core/tensor.ts';
import { input, type Parameter } from '../core/trace.ts';
import { crossEntropy } from '../ops/cross-entropy.ts';
import { expr, sumTo } from '../ops/expr.ts';
import type { ModelGraph } from '../runtime/graph.ts';
import type { Learning, Objective } from './learner.ts';

/** Sum of the surprise of `targets` [outputs] under the logits, each times its weight; nats. */
export const weightedSurprise = (logits: Tensor): Tensor =>
  sumTo(expr`${crossEntropy(logits, input('targets', ['outputs'], 'i32'))} * ${input('weights', ['outputs'])}`, [1]);

/** Prediction of every next token: inputs `targets` i32 [outputs] and `weights` [outputs]. */
export function languageModelling(
  { logits, carries, parameters }: ModelGraph,
  trained: ReadonlyMap<string, Learning>,
): Objective {
  return { loss: weightedSurprise(logits), carries, parameters, trained, outputs: new Map([['logits', logits]]) };
}

/**
 * All parameters, with weight decay for matrices only: not for norms, biases, decays (`A_log`, `w0` …), mixing weights, nor
 * RWKV's low-rank maps.
 */
export function allParameters(parameters: ReadonlyMap<string, Parameter>, decay: number): Map<string, Learning> {
  return new Map(
    [...parameters.values()].map(({ name, shape }) => [name, { decay: isDecayed(name, shape) ? decay : 0, rate: 1 }]),
  );
}

const isDecayed = (name: string, shape: readonly number[]): boolean =>
  name.endsWith('weight') && !/conv1d/.test(name) && shape.filter((length) => length > 1).length >= 2;
