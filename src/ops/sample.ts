import { InputError } from '../core/errors.ts';
import type { Op } from '../core/op.ts';

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
  for (let v = 0; v < logits.length; v++) {
    const logit = logits[v]!;
    if (logit > logits[best]!) best = v;
    else if (Number.isNaN(logit)) throw new InputError(`logit ${v} is NaN: the weights or the state are broken`);
  }
  return best;
}

/** Candidate tokens, most probable first, with their unnormalised probabilities. */
interface Candidates {
  ids: number[];
  weights: number[];
}

/** Draws a token from `logits` by the uniform number `u`. InputError where all are −∞. */
export function sample(logits: ArrayLike<number>, options: SampleOptions, u: number): number {
  const best = argmax(logits);
  if (logits[best] === -Infinity)
    throw new InputError('no token is left to choose: the constraint or logitBias forbids every one');
  if (options.temperature === 0) return best;
  let candidates = mostProbable(logits, logits[best]!, options);
  if (options.topP < 1) candidates = upToMass(candidates, options.topP);
  if (options.minP > 0) candidates = whileTrue(candidates, (weight) => weight >= options.minP * candidates.weights[0]!);
  if (options.typicalP < 1) candidates = typical(candidates, options.typicalP);
  let left = u * total(candidates.weights);
  for (const [i, weight] of candidates.weights.entries()) {
    left -= weight;
    if (left < 0) return candidates.ids[i]!;
  }
  // Rounding left a little over: the last that can come at all.
  return candidates.ids[candidates.weights.findLastIndex((weight) => weight > 0)]!;
}

/**
 * The candidates that any of the filters can keep, sorted. Sorting all of a vocabulary costs milliseconds, so only tokens
 * above a floor are sorted, and the floor is lowered until what lies below it can't matter.
 */
function mostProbable(logits: ArrayLike<number>, max: number, options: SampleOptions): Candidates {
  const { temperature, topK, topP, minP, typicalP } = options;
  const weights = new Float64Array(logits.length);
  let sum = 0;
  for (let v = 0; v < logits.length; v++) sum += weights[v] = Math.exp((logits[v]! - max) / temperature);
  const limit = topK > 0 ? Math.min(topK, logits.length) : logits.length;
  // Without a filter that looks at order, order does not matter.
  if (limit === logits.length && topP === 1 && minP === 0 && typicalP === 1) {
    return { ids: Array.from(weights.keys()), weights: Array.from(weights) };
  }
  for (let floor = 1e-3; ; floor = floor < 1e-30 ? 0 : floor * floor) {
    const ids: number[] = [];
    let mass = 0;
    for (let v = 0; v < weights.length; v++) {
      if (weights[v]! < floor) continue;
      ids.push(v);
      mass += weights[v]!;
    }
    const enough =
      ids.length >= limit ||
      (typicalP === 1 && limit === logits.length && ((topP < 1 && mass >= topP * sum) || floor <= minP));
    if (!enough && floor > 0) continue;
    ids.sort((a, b) => weights[b]! - weights[a]! || a - b);
    const kept = ids.slice(0, limit);
    // Mass is relative to everything that top-k kept, counted in full even where it was not sorted.
    return { ids: kept, weights: kept.map((id) => weights[id]! / (limit < logits.length ? 1 : sum)) };
  }
}

const total = (weights: readonly number[]): number => weights.reduce((a, b) => a + b, 0);

const take = ({ ids, weights }: Candidates, count: number): Candidates => ({
  ids: ids.slice(0, count),
  weights: weights.slice(0, count),
});

function whileTrue(candidates: Candidates, keep: (weight: number) => boolean): Candidates {
  const end = candidates.weights.findIndex((weight) => !keep(weight));
  return end < 0 ? candidates : take(candidates, Math.max(1, end));
}

/** The first candidates that together reach `mass` of the whole, at least one. */
function upToMass(candidates: Candidates, mass: number): Candidates {
  const { weights } = candidates;
  // Weights from an untruncated vocabulary are already probabilities, of which some may be unlisted.
  const whole = Math.max(1, total(weights));
  let sum = 0;
  for (const [i, weight] of weights.entries()) {
    sum += weight;
    if (sum >= mass * whole) return take(candidates, i + 1);
  }
  return candidates;
}

function typical(candidates: Candidates, mass: number): Candidates {
  const sum = total(candidates.weights);
  const surprise = candidates.weights.map((weight) => -Math.log(weight / sum));
  let entropy = 0;
  for (const [i, weight] of candidates.weights.entries()) if (weight > 0) entropy += (weight / sum) * surprise[i]!;
  const order = [...candidates.ids.keys()].sort(
    (a, b) => Math.abs(surprise[a]! - entropy) - Math.abs(surprise[b]! - entropy) || a - b,
  );
  const sorted = { ids: order.map((i) => candidates.ids[i]!), weights: order.map((i) => candidates.weights[i]! / sum) };
  return upToMass(sorted, mass);
}
