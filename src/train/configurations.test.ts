import { expect, test } from 'vitest';
import { Random } from '../core/random.ts';
import { architectureOf } from '../models/index.ts';
import { traceModel } from '../runtime/graph.ts';
import { newArchitectures, newModel } from './configurations.ts';
import { initialise } from './initialise.ts';

test.each(newArchitectures)('a new %s has a configuration that its architecture takes', (type) => {
  const { config, tensors } = newModel(type, { width: 64, layers: 2, vocabulary: 8, headWidth: 32, inner: 128 });
  const architecture = architectureOf(config, tensors);
  expect(architecture.type).toBe(type);
  const { parameters } = traceModel(architecture, architecture.config(config, tensors));
  expect(parameters.size).toBeGreaterThan(10);
});

test.each([
  ['mamba', /dt_proj\.bias$/],
  ['mamba2', /dt_bias$/],
  ['gated_deltanet', /dt_bias$/],
])('a new %s keeps what it reads: its step sizes begin between 0.001 and 0.1', (type, pattern) => {
  const { config, tensors } = newModel(type, { width: 128, layers: 2, vocabulary: 8, headWidth: 16 });
  const architecture = architectureOf(config, tensors);
  const { parameters } = traceModel(architecture, architecture.config(config, tensors));
  const biases = [...parameters.values()].filter(({ name }) => pattern.test(name));
  expect(biases).toHaveLength(2);
  for (const { initial, shape } of biases) {
    const steps = [...initialise(initial, shape, new Random(1))].map((bias) => Math.log1p(Math.exp(bias)));
    expect(Math.min(...steps)).toBeGreaterThan(0.00099);
    expect(Math.max(...steps)).toBeLessThan(0.101);
    expect(Math.max(...steps) / Math.min(...steps)).toBeGreaterThan(3);
  }
});
