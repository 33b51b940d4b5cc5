import type { StepInputs } from '../core/step.ts';
import type { Tensor } from '../core/tensor.ts';
import type { Scope } from '../core/trace.ts';
import type { Json } from './config.ts';

/** Names and shapes of a checkpoint's tensors. */
export type TensorShapes = ReadonlyMap<string, { readonly shape: readonly number[] }>;

/** A parameter as a dialect stores it. */
export interface StoredParameter {
  /** The canonical name. */
  readonly name: string;
  /** Turns the stored numbers (row-major, of the stored shape) into the parameter's. */
  convert?(values: Float32Array, shape: readonly number[]): Float32Array;
}

/**
 * One model architecture. `body` and `head` are pure functions of symbolic tensors, written once for any number of tokens
 * and sequences; everything else is how its checkpoints are read.
 */
export interface Architecture<Config = unknown> {
  /** The `model_type` that config.json gives it. */
  readonly type: string;
  /** Paper and year, for people. */
  readonly title: string;
  /**
   * Other `model_type`s of the same computation. Where there is a list, models of any other type are refused though their
   * tensors have the same names: they may compute something else with them (as Gemma does with Llama's).
   */
  readonly aliases?: readonly string[];
  /** Whether a checkpoint with these tensors can be of this architecture. */
  detect(tensors: TensorShapes): boolean;
  /** Reads the configuration, completed from the tensors' shapes where the checkpoint's dialect leaves sizes out. */
  config(json: Json, tensors: TensorShapes): Config;
  /** Vocabulary size V: the number of logits. */
  vocabulary(config: Config): number;
  /** The longest text that the model can see, for one whose positions are a learned table; unlimited without. */
  longest?(config: Config): number;
  /** Hidden states after the last norm, [tokens, D]. */
  body(p: Scope, config: Config, step: StepInputs): Tensor;
  /** Logits [rows, V] of hidden states [rows, D]. */
  head(p: Scope, config: Config, hidden: Tensor): Tensor;
  /**
   * The parameter that a checkpoint's tensor holds, where that is not its own name: a dialect that names or lays it out
   * differently, or `null` for a tensor that is not needed.
   */
  rename?(name: string, config: Config): string | StoredParameter | null;
}
