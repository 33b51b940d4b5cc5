import type { WeightFormat } from '../core/backend.ts';
import type { StateFormat } from '../core/state-format.ts';
import type { Checkpoint, StoredType } from '../formats/checkpoint.ts';
import { scalesSuffix } from '../formats/quantised.ts';
import { typesInFile } from '../formats/types-in-file.ts';
import type { Json } from '../models/config.ts';
import type { ModelGraph } from './graph.ts';
import { withKvCache } from './kv-cache.ts';
import { matchModel } from './matched.ts';
import { declareWeights } from './parameters.ts';
import { type StateSize, stateSize } from './state-size.ts';
import { formatsAsStored } from './stored-formats.ts';

/** What a model is and what it takes, known from its files' headers alone: nothing is loaded. */
export interface ModelSizes extends StateSize {
  readonly type: string;
  readonly title: string;
  readonly parameters: number;
  readonly vocabularySize: number;
  /** Bytes of weights in memory, by the format that matrices are held in; `auto`: each as it is stored. */
  readonly weightBytes: Readonly<Record<'auto' | 'f32' | 'bf16' | 'q8' | 'q4', number>>;
  /** The most tokens that it can see, where its positions are a table; null where there is no limit but memory. */
  readonly longest: number | null;
  /** The positions that its configuration tells of: about the longest texts that it learned from. Null where it tells of none. */
  readonly trainedLength: number | null;
  readonly tensors: readonly TensorRow[];
}

export interface TensorRow {
  readonly name: string;
  readonly type: StoredType;
  readonly shape: readonly number[];
  readonly bytes: number;
  /** The parameter that it holds, or several; null when it is not needed. */
  readonly parameter: string | null;
}

/**
 * Measures a model without loading its weights; checks that they are those that its architecture needs.
 *
 * @param file the checkpoint as it lies on disk, where `checkpoint` shows it in another form (dequantised)
 * @param held what the tensors of `file` are called in `checkpoint`, where they are called differently
 * @param kvCache how keys and values would be kept; InputError where the model has none
 */
export function modelSizes(
  config: Json,
  checkpoint: Checkpoint,
  file = checkpoint,
  held?: ReadonlyMap<string, readonly string[]>,
  kvCache?: StateFormat,
): ModelSizes {
  const { architecture, config: parsed, graph: traced, origins } = matchModel(config, checkpoint);
  const graph = withKvCache(traced, kvCache, architecture.title);
  const parameterOf = new Map([...origins].map(([parameter, { stored }]) => [stored.name, parameter]));
  const used = (names: readonly string[]) => {
    const parameters = new Set(names.map((name) => parameterOf.get(name)).filter((name) => name !== undefined));
    return parameters.size > 0 ? [...parameters].join(', ') : null;
  };
  return {
    type: architecture.type,
    title: architecture.title,
    parameters: sum([...graph.parameters.values()].map(({ shape }) => product(shape))),
    vocabularySize: architecture.vocabulary(parsed),
    weightBytes: {
      auto: weightBytes(graph, formatsAsStored(graph, origins, typesInFile(file, held))),
      f32: weightBytes(graph, 'f32'),
      bf16: weightBytes(graph, 'bf16'),
      q8: weightBytes(graph, 'q8'),
      q4: weightBytes(graph, 'q4'),
    },
    ...stateSize(graph.carries),
    longest: architecture.longest?.(parsed) ?? null,
    trainedLength: trainedLength(config),
    tensors: [...file.tensors.values()].map(({ name, type, shape, byteLength }) => ({
      name,
      type,
      shape,
      bytes: byteLength,
      parameter: used(held?.get(name) ?? [name, name.replace(scalesSuffix, '')]),
    })),
  };
}

function trainedLength(config: Json): number | null {
  const found = ['max_position_embeddings', 'n_positions', 'context_length'].map((name) => config[name]);
  return (found.find((value) => Number.isSafeInteger(value)) as number | undefined) ?? null;
}

/** Bytes of an element; of integers with a scale of 2 bytes for every 32. */
const elementBytes: Readonly<Record<WeightFormat, number>> = {
  f32: 4,
  bf16: 2,
  f16: 2,
  q8: 1 + 2 / 32,
  q4: 1 / 2 + 2 / 32,
};

const weightBytes = (graph: ModelGraph, formats: Parameters<typeof declareWeights>[1]): number =>
  sum(declareWeights(graph, formats).map(({ shape, format }) => Math.ceil(product(shape) * elementBytes[format])));

const product = (shape: readonly number[]): number => shape.reduce((a, b) => a * b, 1);
const sum = (numbers: readonly number[]): number => numbers.reduce((a, b) => a + b, 0);
