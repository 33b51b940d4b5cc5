import { transposeLast } from '../core/transpose.ts';
import type { GgufValue } from '../formats/gguf-header.ts';
import type { TensorShapes } from '../models/architecture.ts';
import type { Json } from '../models/config.ts';
import type { Metadata } from './metadata.ts';

/** Numbers of heads that the order of some matrices' rows depends on. */
export interface Heads {
  /** Query heads. */
  readonly H: number;
  /** Key heads. */
  readonly G: number;
}

/** What a tensor of a GGUF file holds, where that is not one parameter as it is. */
export interface Holding {
  /** The parameter's name; several are stacked along a new first axis. `#` stands for the layer. */
  readonly parameters: readonly string[];
  /** The parameter's shape, of the tensor's; the numbers are the same. */
  readonly shape?: (tensor: readonly number[]) => readonly number[];
  /** The tensor's shape, of the parameter's. */
  readonly stored?: (parameter: readonly number[]) => readonly number[];
  /** The tensor's row that is row `row` of the parameter's `rows`. */
  readonly order?: (row: number, rows: number) => number;
  /** Numbers of the parameter, of the tensor's. */
  readonly read?: (values: Float32Array, stored: readonly number[], layer: number) => Float32Array;
  /** Numbers of the tensor, of the parameter's. */
  readonly write?: (values: Float32Array, shape: readonly number[]) => Float32Array;
}

/** A tensor that holds no parameter. */
export interface Extra {
  readonly name: string;
  readonly shape: readonly number[];
  readonly values: Float32Array;
}

/** How one architecture of llama.cpp's lies in GGUF files: metadata ⇄ configuration, tensors ⇄ parameters. */
export interface Dialect<Config = unknown> {
  /** The file's `general.architecture`. */
  readonly architecture: string;
  /** The `model_type`s that can be written. */
  readonly types: readonly string[];
  /** The configuration that a file stands for, as config.json has it. */
  config(metadata: Metadata, tensors: TensorShapes): Json;
  /** Metadata of a configuration; keys lack the architecture's prefix. */
  metadata(config: Config, json: Json): Readonly<Record<string, GgufValue>>;
  /** Head counts of a configuration, for those that need them. */
  heads?(config: Config): Heads;
  /** What the file's tensors hold, by name; `#` stands for the layer, null for what is not needed. */
  tensors(heads: Heads): Readonly<Record<string, string | Holding | null>>;
  /** The embeddings, where llama.cpp wants them once more as `output.weight` in the files of models whose head they are. */
  readonly embedding?: string;
  /** Tensors that belong in a file though the model has no such parameters. */
  extras?(config: Config, json: Json): readonly Extra[];
  /** Names of matrices that stay in full precision, besides what has one axis. */
  readonly precise: RegExp;
}

export const u32 = (value: number): GgufValue => ({ type: 'u32', value });
export const f32 = (value: number): GgufValue => ({ type: 'f32', value });
export const bool = (value: boolean): GgufValue => ({ type: 'bool', value });
export const string = (value: string): GgufValue => ({ type: 'string', value });

/** Weight and bias of a norm or a projection. */
export const withBias = (tensor: string, parameter: string): Record<string, string> => ({
  [`${tensor}.weight`]: `${parameter}.weight`,
  [`${tensor}.bias`]: `${parameter}.bias`,
});

/** The same numbers in another shape. */
export const shaped = (
  parameter: string,
  shape: NonNullable<Holding['shape']>,
  stored: NonNullable<Holding['stored']>,
): Holding => ({ parameters: [parameter], shape, stored });

/** A vector: [1, 1, D] in checkpoints, [D] in files. */
export const vector = (parameter: string): Holding =>
  shaped(
    parameter,
    (shape) => [1, 1, size(shape)],
    (shape) => [size(shape)],
  );

export const size = (shape: readonly number[]): number => shape.reduce((a, b) => a * b, 1);

/** A matrix, or a stack of them, with its last two axes swapped. */
export function transposed(parameter: string): Holding {
  const swap = (shape: readonly number[]) => [...shape.slice(0, -2), shape.at(-1)!, shape.at(-2)!];
  return { parameters: [parameter], shape: swap, stored: swap, read: transposeLast, write: transposeLast };
}

/** Mamba's A, of which checkpoints have the logarithm and GGUF files the number itself: A = −exp(A_log). */
export const negativeExponential = (parameter: string, shapes: Partial<Holding> = {}): Holding => ({
  parameters: [parameter],
  ...shapes,
  read: (values) => values.map((a) => Math.log(-a)),
  write: (values) => values.map((log) => -Math.exp(log)),
});

/** Names that both kinds of Mamba share, and the shapes of its convolution: [E, 1, K] in checkpoints, [E, K] in files. */
export const mambaTensors: Readonly<Record<string, string | Holding>> = {
  'token_embd.weight': 'backbone.embeddings.weight',
  'output_norm.weight': 'backbone.norm_f.weight',
  'output.weight': 'lm_head.weight',
  'blk.#.attn_norm.weight': 'backbone.layers.#.norm.weight',
  'blk.#.ssm_in.weight': 'backbone.layers.#.mixer.in_proj.weight',
  'blk.#.ssm_conv1d.weight': shaped(
    'backbone.layers.#.mixer.conv1d.weight',
    ([C, K]) => [C!, 1, K!],
    ([C, , K]) => [C!, K!],
  ),
  'blk.#.ssm_conv1d.bias': 'backbone.layers.#.mixer.conv1d.bias',
  'blk.#.ssm_out.weight': 'backbone.layers.#.mixer.out_proj.weight',
};
