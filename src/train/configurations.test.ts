import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { Random } from '../core/random.ts';
import { architectureOf } from '../models/index.ts';
import { traceModel } from '../runtime/graph.ts';
import { architecturesWith, newArchitectures, newModel, type OwnDimension, ownDimensions } from './configurations.ts';
import { initialise } from './initialise.ts';

test.each(newArchitectures)('a new %s has a configuration that its architecture takes', (type) => {
  const { config, tensors } = newModel(type, { width: 64, layers: 2, vocabulary: 8 });
  const architecture = architectureOf(config, tensors);
  expect(architecture.type).toBe(type);
  const { parameters } = traceModel(architecture, architecture.config(config, tensors));
  expect(parameters.size).toBeGreaterThan(10);
});

test.each(newArchitectures)(
  'heads of any whole number of channels make a %s that can be traced, or are refused',
  (type) => {
    for (const width of [1, 2, 3, 6, 15, 35])
      for (let headWidth = 1; headWidth <= width; headWidth++) {
        const own = architecturesWith('headWidth').includes(type) ? { headWidth } : {};
        const made = () => newModel(type, { width, layers: 1, vocabulary: 8, ...own });
        const isRefused = width % headWidth !== 0 || (headWidth % 2 === 1 && ['llama', 'retnet', 'gla'].includes(type));
        if (isRefused && type !== 'mamba')
          expect(made).toThrow(/not a multiple of the heads|an even number of channels/);
        else {
          const { config, tensors } = made();
          const architecture = architectureOf(config, tensors);
          const { logits } = traceModel(architecture, architecture.config(config, tensors));
          expect(logits.shape).toEqual(['outputs', 8]);
        }
      }
  },
);

/** Other values than the defaults of a width of 64. */
const others = { headWidth: 32, inner: 80, state: 24, negativeEigenvalues: true } as const;
const dimensions = Object.keys(others) as OwnDimension[];

describe.each(newArchitectures)('of the dimensions that only some architectures have, a new %s', (type) => {
  const sizes = { width: 64, layers: 2, vocabulary: 8 };
  const own: readonly OwnDimension[] = ownDimensions[type as keyof typeof ownDimensions];
  const made = (more: object) => {
    const { config, tensors } = newModel(type, { ...sizes, ...more });
    const architecture = architectureOf(config, tensors);
    const parsed = architecture.config(config, tensors);
    const shapes = [...traceModel(architecture, parsed).parameters.values()].map(({ name, shape }) => [name, shape]);
    return JSON.stringify([parsed, shapes]);
  };

  test.each(dimensions.filter((name) => own.includes(name)))('takes %s, and is another with it', (name) => {
    expect(architecturesWith(name)).toContain(type);
    expect(made({ [name]: others[name] })).not.toBe(made({}));
  });

  test.each(dimensions.filter((name) => !own.includes(name)))('refuses %s, and says what it has', (name) => {
    expect(architecturesWith(name)).not.toContain(type);
    expect(() => newModel(type, { ...sizes, [name]: others[name] })).toThrow(
      `${name} is given, but beside width and layers a new ${type} has only ${own.join(' and ')}: leave it out`,
    );
  });
});

test.each([
  ['mamba', /dt_proj\.bias$/],
  ['mamba2', /dt_bias$/],
  ['gated_deltanet', /dt_bias$/],
])('a new %s keeps what it reads: its step sizes begin between 0.001 and 0.1', (type, pattern) => {
  const heads = architecturesWith('headWidth').includes(type) ? { headWidth: 16 } : {};
  const { config, tensors } = newModel(type, { width: 128, layers: 2, vocabulary: 8, ...heads });
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

test('the documentation has the same table of dimensions', () => {
  const docs = readFileSync(new URL('../../docs/training.md', import.meta.url), 'utf8');
  const rows = [...docs.matchAll(/^\| (`[a-z0-9_`, ]+`) \| (`--[a-z`, -]+`) \|$/gm)].map(([, types, flags]) => [
    types!.match(/\w+/g)!,
    flags!.match(/(?<=--)[\w-]+/g)!.map((flag) => flag.replace(/-(\w)/g, (_, letter) => letter.toUpperCase())),
  ]);
  const documented = Object.fromEntries(rows.flatMap(([types, names]) => types!.map((type) => [type, names])));
  expect(documented).toEqual(ownDimensions);
});
