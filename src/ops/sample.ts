import { InputError } from '../core/errors.ts';
import type { Op } from '../core/op.ts';
import { negativeExponential } from './exponential.ts';
import { Ranking } from './ranking.ts';

/** How a token is drawn from logits. The filters apply in the order of the fields, each to what the last one left. */
export interface SampleOptions {
  /** Divides the logits; 0 takes the most probable token. */
  readonly temperature: number;
  /** Keeps the k most probable tokens; 0 keeps all. */
  readonly topK: number;
  /** Keeps the most probable tokens that together reach probability p (Holtzman et al. 2020); 1 keeps all. */
  readonly topP: number;
  /** Keeps tokens at least this fraction as probable as the best (Nguyen et al. 2024); 0 keeps all. */
  readonly minP: number;
  /** Keeps tokens whose surprise is nearest the entropy, until they reach this mass (Meister et al. 2023); 1 keeps all. */
  readonly typicalP: number;
}

export const greedy: SampleOptions = { temperature: 0, topK: 0, topP: 1, minP: 0, typicalP: 1 };

/** Draws one token per row of logits, by a uniform number in [0, 1) per row. */
export const sampleOp: Op = {
  name: 'sample',
  inputs: { logits: 'R V', uniform: 'R' },
  outputs: { token: 'R' },
  dtypes: { token: 'i32' },
  reference({ logits, uniform }, { token }, attributes) {
    const V = logits!.shape[1]!;
    for (let r = 0; r < logits!.shape[0]!; r++) {
      const row = logits!.data.subarray(logits!.row(r), logits!.row(r) + V);
      token!.data[token!.row(r)] = sample(row, attributes as unknown as SampleOptions, uniform!.data[uniform!.row(r)]!);
    }
  },
  cases: [
    { axes: { V: 1 }, segments: [1], attributes: { ...greedy }, fill: { uniform: 'unit' } },
    { axes: { V: 63 }, segments: [3], attributes: { ...greedy }, fill: { uniform: 'unit' } },
    { axes: { V: 63 }, segments: [3], attributes: { ...greedy, temperature: 0.8, topK: 5 }, fill: { uniform: 'unit' } },
    {
      axes: { V: 256 },
      segments: [3],
      attributes: { ...greedy, temperature: 1, topP: 0.9, minP: 0.05 },
      fill: { uniform: 'unit' },
    },
    {
      axes: { V: 256 },
      segments: [3],
      attributes: { ...greedy, temperature: 1, typicalP: 0.5 },
      fill: { uniform: 'unit' },
    },
  ],
};

/** The index of the largest logit, the first of equals. NaN anywhere is an error: a model that broke must not babble. */
export function argmax(logits: ArrayLike<number>): number {
  let best = 0;
  let largest = logits[0]!;
  for (let v = 0; v < logits.length; v++) {
    const logit = logits[v]!;
    if (logit > largest) {
      best = v;
      largest = logit;
    } else if (!(logit <= largest)) {
      throw new InputError(`logit ${v} is NaN: the weights or the state are broken`);
    }
  }
  return best;
}

/** The place for keys and weights, kept between tokens: a vocabulary of 65,536 takes a megabyte of them. */
let kept = new Ranking(0);

/** Draws a token from `logits` by the uniform number `u`. InputError where all are −∞. */
export function sample(logits: ArrayLike<number>, options: SampleOptions, u: number): number {
  const best = argmax(logits);
  if (logits[best] === -Infinity)
    throw new InputError('no token is left to choose: the constraint or logitBias forbids every one');
  const { temperature, topP, minP, typicalP } = options;
  if (temperature === 0) return best;
  const topK = options.topK < logits.length ? options.topK : 0;
  if (kept.keys.length !== logits.length) kept = new Ranking(logits.length);
  const ranking = kept;
  const whole = weigh(logits, logits[best]!, temperature, ranking);
  // Where no filter asks for an order, the ids' does.
  if (topK === 0 && topP === 1 && minP === 0 && typicalP === 1) return inOrderOfIds(ranking.weights, u * whole);
  ranking.rank();
  let count = topK > 0 ? Math.min(topK, ranking.count) : ranking.count;
  count = countToMass(ranking, topP, count);
  if (minP > 0) count = Math.min(count, Math.max(1, ranking.countUpTo(-Math.log(minP))));
  if (typicalP < 1) {
    byTypicality(ranking, count);
    count = countToMass(ranking, typicalP, ranking.count);
  }
  const mass = u * ranking.massOf(count);
  const rank = ranking.rankWhere((sum) => sum > mass);
  return ranking.tokenAt(Math.min(rank, count - 1));
}

/** A token's key is how far its logit lies below the largest, by the temperature; its weight is e^−key, its probability but for a factor. */
function weigh(logits: ArrayLike<number>, largest: number, temperature: number, { keys, weights }: Ranking): number {
  let sum = 0;
  for (let v = 0; v < logits.length; v++) {
    const key = (largest - logits[v]!) / temperature;
    const weight = negativeExponential(key);
    keys[v] = key;
    weights[v] = weight;
    sum += weight;
  }
  return sum;
}

function inOrderOfIds(weights: Float64Array, mass: number): number {
  let left = mass;
  for (let v = 0; v < weights.length; v++) {
    left -= weights[v]!;
    if (left < 0) return v;
  }
  // Rounding left a little over: the last that can come at all.
  return weights.findLastIndex((weight) => weight > 0);
}

/** How many of the first `count` tokens reach the share `p` of what these have together, at least one. */
function countToMass(ranking: Ranking, p: number, count: number): number {
  if (p === 1) return count;
  const mass = p * ranking.massOf(count);
  return Math.min(count, ranking.rankWhere((sum) => sum >= mass) + 1);
}

/**
 * Ranks the first `count` tokens anew, by how far their surprise is from the entropy. A token's surprise is its key and log ∑ e^−key,
 * which the entropy, the mean surprise, has too: what is left is the distance of its key from the mean key.
 */
function byTypicality(ranking: Ranking, count: number): void {
  const { keys, weights } = ranking;
  const last = ranking.tokenAt(count - 1);
  const lastKey = keys[last]!;
  let mean = 0;
  for (let v = 0; v < keys.length; v++) {
    if (keys[v]! > lastKey || (keys[v] === lastKey && v > last)) weights[v] = 0;
    if (weights[v]! > 0) mean += weights[v]! * keys[v]!;
  }
  mean /= ranking.massOf(count);
  for (let v = 0; v < keys.length; v++) keys[v] = Math.abs(keys[v]! - mean);
  ranking.rank();
}
