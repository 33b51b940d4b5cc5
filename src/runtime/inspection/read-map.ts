import type { ReadMap } from './inspection.ts';

/** The mean of maps. */
export function meanMap(maps: Iterable<ReadMap>): ReadMap {
  let sum: { weights: Float64Array; before: Float64Array } | undefined;
  let count = 0;
  for (const { weights, before } of maps) {
    sum ??= { weights: new Float64Array(weights.length), before: new Float64Array(before.length) };
    for (let i = 0; i < weights.length; i++) sum.weights[i]! += weights[i]!;
    for (let i = 0; i < before.length; i++) sum.before[i]! += before[i]!;
    count++;
  }
  if (!sum) throw new Error('a layer has no heads');
  return {
    weights: Float32Array.from(sum.weights, (x) => x / count),
    before: Float32Array.from(sum.before, (x) => x / count),
  };
}

/** A map from what each token took from each other and from before, not yet shares. */
export function sharesOf(parts: Float64Array, before: Float64Array): ReadMap {
  const T = before.length;
  const weights = new Float32Array(T * T);
  const rest = new Float32Array(T);
  for (let t = 0; t < T; t++) {
    let sum = before[t]!;
    for (let s = 0; s <= t; s++) sum += parts[t * T + s]!;
    // A token that read nothing at all read, if anything, itself.
    if (sum === 0) weights[t * T + t] = 1;
    else {
      for (let s = 0; s <= t; s++) weights[t * T + s] = parts[t * T + s]! / sum;
      rest[t] = before[t]! / sum;
    }
  }
  return { weights, before: rest };
}
