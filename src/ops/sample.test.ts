import { expect, test } from 'vitest';
import { Random } from '../core/random.ts';
import { negativeExponential } from './exponential.ts';
import { type SampleOptions, sample } from './sample.ts';

/** What the options say, word for word, with a sort of everything. */
function bySorting(logits: readonly number[], options: SampleOptions, u: number): number {
  const largest = Math.max(...logits);
  const all = logits.map((logit, token) => ({
    token,
    logit,
    weight: Math.exp((logit - largest) / options.temperature),
  }));
  const isFiltered =
    (options.topK > 0 && options.topK < logits.length) || options.topP < 1 || options.minP > 0 || options.typicalP < 1;
  const total = (candidates: typeof all) => candidates.reduce((sum, { weight }) => sum + weight, 0);
  const toMass = (candidates: typeof all, p: number) => {
    const mass = p * total(candidates);
    let sum = 0;
    const end = candidates.findIndex(({ weight }) => {
      sum += weight;
      return sum >= mass;
    });
    return p === 1 || end < 0 ? candidates : candidates.slice(0, end + 1);
  };
  let candidates = all;
  if (isFiltered) {
    candidates = all.toSorted((a, b) => (a.logit === b.logit ? a.token - b.token : b.logit - a.logit));
    if (options.topK > 0) candidates = candidates.slice(0, options.topK);
    candidates = toMass(candidates, options.topP);
    candidates = candidates.filter(({ weight }, i) => i === 0 || weight >= options.minP);
    if (options.typicalP < 1) {
      const sum = total(candidates);
      const surprises = candidates.map(({ weight }) => -Math.log(weight / sum));
      const entropy = candidates.reduce((h, { weight }, i) => (weight > 0 ? h + (weight / sum) * surprises[i]! : h), 0);
      const distance = new Map(candidates.map(({ token }, i) => [token, Math.abs(surprises[i]! - entropy)]));
      candidates = candidates.toSorted((a, b) => distance.get(a.token)! - distance.get(b.token)!);
      candidates = toMass(candidates, options.typicalP);
    }
  }
  let left = u * total(candidates);
  for (const { token, weight } of candidates) {
    left -= weight;
    if (left < 0) return token;
  }
  return candidates.findLast(({ weight }) => weight > 0)!.token;
}

const random = new Random(7);
const between = (low: number, high: number) => low + (high - low) * random.uniform();
const oneOf = <T>(values: readonly T[]) => values[Math.floor(random.uniform() * values.length)]!;
const normal = () => Math.sqrt(-2 * Math.log(random.uniform() + 1e-12)) * Math.cos(2 * Math.PI * random.uniform());

test.each([
  [6000, 1, 12],
  [200, 13, 700],
])('%i draws are those of a sort of everything, from %i to %i tokens', (draws, least, most) => {
  for (let n = 0; n < draws; n++) {
    const V = Math.floor(between(least, most + 1));
    const spread = oneOf([0, 0.01, 1, 30]);
    const logits = Array.from({ length: V }, (_, v) =>
      v > 0 && random.uniform() < 0.1 ? -Infinity : Math.fround(spread * normal()),
    );
    // Some are equal: of these the first comes first.
    if (V > 3) logits[V - 1] = logits[1]!;
    const options: SampleOptions = {
      temperature: oneOf([0.05, 0.8, 1, 50]),
      topK: oneOf([0, 1, 3, V, 2 * V]),
      topP: oneOf([1, between(0.01, 1)]),
      minP: oneOf([0, between(0, 1)]),
      typicalP: oneOf([1, between(0.01, 1)]),
    };
    const u = random.uniform();
    const expected = bySorting(logits, options, u);
    if (sample(Float32Array.from(logits), options, u) !== expected)
      expect.fail(`token ${expected} expected of ${JSON.stringify({ logits, options, u })}`);
  }
});

test('no filter sorts more than 256 tokens, whatever the shape of the logits and the temperature', () => {
  const V = 50_000;
  const sort = Array.prototype.sort;
  let most = 0;
  Array.prototype.sort = function (this: unknown[], order) {
    most = Math.max(most, this.length);
    return sort.call(this, order);
  };
  try {
    const shapes = [0, 1e-13, 0.001, 0.3, 3, 100].map((spread) => () => spread * normal());
    // One above the rest, which are in one bin; clusters within clusters; and a level of equal ones below others.
    shapes.push(
      (
        (n = 0) =>
        () =>
          n++ === 7 ? 8 : 0.02 * normal()
      )(),
      () => oneOf([1, 3]) + oneOf([0, 1e-2]) + 1e-6 * normal(),
      () => (random.uniform() < 0.01 ? normal() : -1),
    );
    for (const logit of shapes) {
      const logits = Float32Array.from({ length: V }, logit);
      for (const temperature of [0.1, 0.8, 1e4])
        for (const filter of [{ topK: 40 }, { topK: 20_000 }, { topP: 0.9 }, { minP: 0.05 }, { typicalP: 0.9 }])
          sample(logits, { temperature, topK: 0, topP: 1, minP: 0, typicalP: 1, ...filter }, random.uniform());
    }
  } finally {
    Array.prototype.sort = sort;
  }
  expect(most).toBeGreaterThan(0);
  expect(most).toBeLessThanOrEqual(256);
});

test.each([
  ['equal', () => 0],
  ['a spread of 10⁻¹³', () => 1e-13 * normal()],
  ['one above a narrow rest', (v: number) => (v === 7 ? 8 : 0.02 * normal())],
  ['many equal ones below others', () => (random.uniform() < 0.3 ? normal() : -1)],
  ['clusters', () => oneOf([1, 3]) + oneOf([0, 1e-3]) + 1e-6 * normal()],
])('tokens of full bins are those of a sort of everything: %s', (shape, logit) => {
  for (let n = 0; n < 60; n++) {
    const logits = Array.from({ length: 3000 }, (_, v) => Math.fround(logit(v)));
    const filter = oneOf<Partial<SampleOptions>>([
      { topK: 700 },
      { topP: between(0.1, 1) },
      { minP: between(0.01, 1) },
      // Logarithms of probabilities can't tell apart what is nearer than 10⁻¹⁵ of them.
      ...(shape.startsWith('a spread') ? [] : [{ typicalP: between(0.2, 1) }]),
    ]);
    const options: SampleOptions = { temperature: 0.8, topK: 0, topP: 1, minP: 0, typicalP: 1, ...filter };
    const u = random.uniform();
    expect(sample(Float32Array.from(logits), options, u), JSON.stringify({ options, u })).toBe(
      bySorting(logits, options, u),
    );
  }
});

test('tokens come as often as their probabilities say', () => {
  const logits = Float32Array.of(0, 1, -1, 2, -Infinity, 0.5);
  const weights = logits.map((logit) => Math.exp(logit / 0.8));
  const sum = weights.reduce((a, b) => a + b);
  const draws = 100_000;
  const counts = new Uint32Array(logits.length);
  const plain = { temperature: 0.8, topK: 0, topP: 1, minP: 0, typicalP: 1 };
  for (let n = 0; n < draws; n++) counts[sample(logits, plain, random.uniform())]!++;
  expect(counts[4]).toBe(0);
  for (const [token, weight] of weights.entries()) expect(counts[token]! / draws).toBeCloseTo(weight / sum, 2);
});

test('e^−x is Math.exp to 10⁻¹³ of its size, and 0 where that is none', () => {
  for (const x of [0, 1e-300, 1e-9, 0.5, Math.LN2, 1, 700]) for (let i = 0; i < 200; i++) expectExp(x * (1 + i / 199));
  for (const x of [745, 746, 1e9, Infinity]) expect(negativeExponential(x)).toBe(0);
  expect(negativeExponential(0)).toBe(1);

  function expectExp(x: number) {
    const expected = Math.exp(-x);
    // Below the smallest normal number there are fewer digits.
    if (expected > 1e-307) expect(Math.abs(negativeExponential(x) / expected - 1)).toBeLessThan(1e-13);
    else expect(Math.abs(negativeExponential(x) - expected)).toBeLessThan(1e-320);
  }
});
