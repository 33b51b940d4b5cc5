import { readFileSync } from 'node:fs';
import { referenceBackend } from '../src/backends/reference/index.ts';
import { reachable } from '../src/core/grad.ts';
import type { Node, Tensor } from '../src/core/tensor.ts';
import { architectureOf } from '../src/models/index.ts';
import { traceModel } from '../src/runtime/graph.ts';
import { evaluate } from '../src/verification/op-cases.ts';
import { type GoldenTensor, goldenFolder, readTensors } from './golden.ts';

export interface Edit {
  readonly config?: object;
  readonly tensors?: (tensors: Map<string, GoldenTensor>) => void;
}

/**
 * A fixture's model to look into, with its configuration or tensors changed: its ops by name and scope, and what any value of
 * it is, in float64, when the model reads `tokens` from the beginning. For fixtures whose tensors have the parameters' names.
 */
export function lookAt(name: string, { config, tensors: edit }: Edit = {}, tokens: readonly number[] = [3, 1, 4, 1]) {
  const stored = readTensors(`${goldenFolder(name)}model.safetensors`);
  edit?.(stored);
  const json = { ...JSON.parse(readFileSync(`${goldenFolder(name)}config.json`, 'utf8')), ...config };
  const architecture = architectureOf(json, stored);
  const graph = traceModel(architecture, architecture.config(json, stored));
  const roots = [graph.logits, ...graph.carries.map(({ next }) => next)].map(({ node }) => node);
  const nodes = [...reachable(roots)].sort((a, b) => a.id - b.id);
  const one = (found: Node | undefined, what: string): Node => {
    if (!found) throw new Error(`${name} has no ${what}`);
    return found;
  };
  return {
    /** The first op of this name in a scope whose path has `part`. */
    op: (op: string, part = ''): Node =>
      one(
        nodes.find((node) => node.op?.name === op && node.path.includes(part)),
        `${op} in ${part}`,
      ),
    /** The op that reads the parameter. */
    reader: (parameter: string): Node =>
      one(
        nodes.find(({ inputs }) =>
          Object.values(inputs).some(({ node }) => node.leaf?.kind === 'parameter' && node.leaf.name === parameter),
        ),
        `reader of ${parameter}`,
      ),
    values<Name extends string>(wanted: Readonly<Record<Name, Tensor>>): Record<Name, number[]> {
      const parameters = [...graph.parameters.values()].map((parameter) => ({
        name: parameter.name,
        shape: parameter.shape,
        format: 'f32' as const,
        layout: 'rows' as const,
        values: stored.get(parameter.name)!.data as Float32Array,
      }));
      const count = (shape: readonly number[]) => shape.reduce((a, b) => a * b, 1);
      const states = graph.carries.map(
        (carry) => [carry.name, new Array(count(carry.shape)).fill(carry.fill)] as const,
      );
      const found = evaluate(
        new Map(Object.entries<Tensor>(wanted)),
        graph.carries,
        { tokens: tokens.length, segments: 1, outputs: 1 },
        { ...Object.fromEntries(states), tokens, ends: [tokens.length], positions: [0], rows: [tokens.length - 1] },
        referenceBackend('f64'),
        parameters,
      );
      const names = Object.keys(wanted) as Name[];
      return Object.fromEntries(names.map((one) => [one, found[one]!])) as Record<Name, number[]>;
    },
  };
}
