import { describe, expect, test } from 'vitest';
import { architectureOf } from '../models/index.ts';
import { traceModel } from '../runtime/graph.ts';
import { newModel } from './configurations.ts';
import { lastModule, learnedBy, loraTargets } from './method.ts';

const { config, tensors } = newModel('mamba', { width: 16, layers: 2, vocabulary: 20 });
const architecture = architectureOf(config, tensors);
const graph = traceModel(architecture, architecture.config(config, tensors));
const inner = 'backbone.layers.0.mixer.in_proj.weight';
const step = 'backbone.layers.1.mixer.x_proj.weight';
const norm = 'backbone.norm_f.weight';

describe('groups of parameters', () => {
  test('matrices decay, all else does not, and all learn at one rate', () => {
    const { trained } = learnedBy(graph, { weightDecay: 0.3 });
    expect(trained.get(inner)).toEqual({ decay: 0.3, rate: 1 });
    expect(trained.get(norm)).toEqual({ decay: 0, rate: 1 });
  });

  test('patterns of names say what does not decay, and how fast what learns', () => {
    const rates = { 'layers\\.1': 0.5, x_proj: 0.1 };
    const { trained } = learnedBy(graph, { weightDecay: 0.3, undecayed: ['in_proj'], rates });
    expect(trained.get(inner)).toEqual({ decay: 0, rate: 1 });
    expect(trained.get(step)!.decay).toBe(0.3);
    expect(trained.get(step)!.rate).toBeCloseTo(0.05, 12);
    expect(trained.get(norm)).toEqual({ decay: 0, rate: 1 });
  });

  test('rates are those of learned states too', () => {
    const { initialStates } = learnedBy(graph, { method: 'state', rates: { 'layers\\.0': 0.5 } });
    const found = [...initialStates!].map(([name, { rate }]) => [name.includes('layers.0'), rate]);
    expect(found.sort()).toEqual([
      [false, 1],
      [true, 0.5],
    ]);
  });

  test.each([
    [{ undecayed: ['nothing'] }, /undecayed: nothing fits no parameter/],
    [{ rates: { '(': 1 } }, /rates: /],
    [{ rates: { in_proj: -1 } }, /rates: the factor of in_proj is -1: it must be 0 or above/],
  ])('%j is refused', (options, message) => {
    expect(() => learnedBy(graph, options)).toThrow(message);
  });
});

describe('matrices that LoRA adds to', () => {
  const modulesOf = (targets?: string) =>
    [...loraTargets({ targets }, graph, 'mamba').keys()].map((name) => name.replace('backbone.layers.', ''));

  test('are maps between hidden states, but those that PEFT can not add to', () => {
    const modules = ['in_proj', 'x_proj'];
    const expected = ['0', '1'].flatMap((layer) => modules.map((name) => `${layer}.mixer.${name}.weight`));
    expect(modulesOf().sort()).toEqual(expected.sort());
    const left = (type: string) => new Set([...loraTargets({}, graph, type).keys()].map(lastModule));
    expect([...left('falcon_mamba')].sort()).toEqual(['in_proj', 'x_proj']);
    expect([...left('mamba2')].sort()).toEqual(['dt_proj', 'in_proj', 'x_proj']);
    expect([...left('llama')].sort()).toEqual(['dt_proj', 'in_proj', 'out_proj', 'x_proj']);
  });

  test('are those of linear products whose names fit a pattern, out_proj where it is asked for', () => {
    expect(modulesOf('layers\\.1\\.').sort()).toEqual(
      ['dt_proj', 'in_proj', 'out_proj', 'x_proj'].map((name) => `1.mixer.${name}.weight`),
    );
  });

  test.each(['A_log', 'embeddings', 'conv1d', 'norm', 'nothing'])('%s is refused with what fits', (targets) => {
    expect(() => modulesOf(targets)).toThrow(
      `targets: ${targets} fits no matrix of a linear product. Additions can be made to dt_proj, in_proj, out_proj, x_proj:`,
    );
  });
});
