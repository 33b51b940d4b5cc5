import type { WeightDeclaration, WeightFormat } from '../core/backend.ts';
import { nearest, WeightError } from '../core/errors.ts';
import { formatShape } from '../core/shape.ts';
import type { Checkpoint, StoredTensor } from '../formats/checkpoint.ts';
import type { Architecture, StoredParameter } from '../models/architecture.ts';
import { type Head, type ModelGraph, sharedValues } from './graph.ts';

/** Inputs or outputs below which a matrix is not quantised: it is little memory, and the ranks of RWKV and Mamba are precious. */
const NARROW = 64;

/** Whether a matrix of this shape is quantised where matrices are. */
export const isWide = (shape: readonly number[]): boolean => shape.length === 2 && Math.min(...shape) >= NARROW;

/**
 * How each parameter of a model is to be held: matrices in one format, or each in its own; and all that is no matrix in f32. Where
 * that one format is of integers, narrow matrices are in bf16, and where it is q4, those of shared values are in q8.
 *
 * @param inFour parameters whose numbers are of 4 bits already, so that q8 would gain nothing
 */
export function declareWeights(
  graph: ModelGraph,
  formats: WeightFormat | ReadonlyMap<string, WeightFormat>,
  inFour: ReadonlySet<string> = new Set(),
): WeightDeclaration[] {
  const isQuantised = formats === 'q8' || formats === 'q4';
  const shared = formats === 'q4' ? sharedValues(graph) : undefined;
  return [...graph.parameters.values()].map(({ name, shape }) => {
    const layout = graph.layouts.get(name) ?? 'rows';
    const one = typeof formats === 'string' ? formats : (formats.get(name) ?? 'f32');
    const isPrecious = shared?.has(name) && !inFour.has(name);
    const held = isQuantised && !isWide(shape) ? 'bf16' : isPrecious ? 'q8' : one;
    return { name, shape, layout, format: layout === 'rows' ? 'f32' : held };
  });
}

/** Where a parameter's numbers come from. */
export interface Origin {
  readonly stored: StoredTensor;
  readonly convert: StoredParameter['convert'];
}

/**
 * Matches a checkpoint's tensors with a model's parameters, strictly both ways: every parameter must be found, and every
 * tensor be used or be one that the architecture knows not to need.
 */
export function matchParameters<Config>(
  architecture: Architecture<Config>,
  config: Config,
  graph: ModelGraph,
  checkpoint: Checkpoint,
  head?: Head,
): Map<string, Origin> {
  // A head of our own has the names that it has, whatever the architecture calls its parameters.
  const own = new Set([head?.name, head?.bias]);
  const rename = (name: string) => (architecture.rename && !own.has(name) ? architecture.rename(name, config) : name);
  const origins = new Map<string, Origin>();
  const unexpected: string[] = [];
  for (const stored of checkpoint.tensors.values()) {
    const renamed = rename(stored.name);
    if (renamed === null) continue;
    const { name, convert } = typeof renamed === 'string' ? { name: renamed, convert: undefined } : renamed;
    if (!graph.parameters.has(name)) unexpected.push(stored.name);
    else if (origins.has(name))
      throw new WeightError(
        `${checkpoint.name}: ${stored.name} and ${origins.get(name)!.stored.name} are both ${name}`,
      );
    else origins.set(name, { stored, convert });
  }
  const missing = [...graph.parameters.keys()].filter((name) => !origins.has(name));
  if (missing.length > 0 || unexpected.length > 0) throw mismatch(architecture, checkpoint, missing, unexpected);
  for (const [name, { stored, convert }] of origins) {
    const expected = graph.parameters.get(name)!.shape;
    const product = (shape: readonly number[]) => shape.reduce((a, b) => a * b, 1);
    const fits = convert
      ? product(stored.shape) === product(expected)
      : formatShape(stored.shape) === formatShape(expected);
    if (!fits) {
      throw new WeightError(
        `${checkpoint.name}: ${stored.name} is ${formatShape(stored.shape)}, but the configuration makes it ${formatShape(expected)}`,
      );
    }
  }
  return origins;
}

function mismatch(
  architecture: Architecture,
  checkpoint: Checkpoint,
  missing: string[],
  unexpected: string[],
): WeightError {
  const list = (names: string[], describe: (name: string) => string) =>
    names.slice(0, 5).map(describe).join(', ') + (names.length > 5 ? ` and ${names.length - 5} more` : '');
  const like = (name: string, others: readonly string[]) => {
    const [near] = nearest(name, others, 1);
    return near ? `${name} (it has ${near})` : name;
  };
  const parts = [
    missing.length > 0 && `missing ${list(missing, (name) => like(name, unexpected))}`,
    unexpected.length > 0 && `unexpected ${list(unexpected, (name) => name)}`,
  ].filter(Boolean);
  return new WeightError(
    `${checkpoint.name} does not hold the parameters of ${architecture.title} with this configuration: ${parts.join('; ')}`,
  );
}
