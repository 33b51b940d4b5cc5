import type { Tensor } from './tensor.ts';
import { input } from './trace.ts';

/**
 * What every step is given. Its T tokens belong to B segments, laid end to end: segment b is the tokens from
 * `ends[b - 1]` (0 for the first) up to `ends[b]`. One segment of length T is a prompt being read, B segments of length
 * 1 are B sequences being continued, and a step may mix both.
 */
export interface StepInputs {
  /** Token ids, i32 [tokens]. */
  readonly tokens: Tensor;
  /** Where each segment ends, i32 [segments], increasing. */
  readonly ends: Tensor;
  /** How many tokens each segment's sequence held before this step, i32 [segments]. */
  readonly positions: Tensor;
  /** The tokens of this step whose logits are wanted, by index into `tokens`, i32 [outputs]. */
  readonly rows: Tensor;
}

export const stepInputs = (): StepInputs => ({
  tokens: input('tokens', ['tokens'], 'i32'),
  ends: input('ends', ['segments'], 'i32'),
  positions: input('positions', ['segments'], 'i32'),
  rows: input('rows', ['outputs'], 'i32'),
});
