import type { TrainOptions } from '../src/platform/train.ts';

/** A training of a Mamba of width 32 on a file of text, of twelve steps of two windows each. */
export const smallTraining = (text: string, output: string, more: Partial<TrainOptions> = {}): TrainOptions => ({
  architecture: 'mamba',
  width: 32,
  layers: 2,
  data: [text],
  tokenizer: 'bytes',
  steps: 12,
  batch: 2,
  length: 32,
  threads: 1,
  output,
  ...more,
});
