import type { Command } from 'commander';
import type { GenerateOptions } from '../runtime/generate.ts';
import { collect, integer, number } from './options.ts';

/** What the options of `withSampling` give. */
export interface SamplingFlags {
  readonly maxTokens: number;
  readonly temperature: number;
  readonly topK?: number;
  readonly topP?: number;
  readonly minP?: number;
  readonly typicalP?: number;
  readonly repetitionPenalty?: number;
  readonly frequencyPenalty?: number;
  readonly presencePenalty?: number;
  readonly seed?: number;
  readonly stop?: string[];
}

/** Adds the options that say how tokens are chosen and when to end. */
export const withSampling = (command: Command): Command =>
  command
    .option('-n, --max-tokens <n>', 'the most tokens to generate', integer, 256)
    .option('-t, --temperature <x>', '0 always takes the likeliest token', number, 0.8)
    .option('--top-k <k>', 'choose among the k likeliest tokens', integer)
    .option('--top-p <p>', 'choose among the likeliest tokens that together reach probability p', number)
    .option('--min-p <p>', 'choose among tokens at least p times as likely as the likeliest', number)
    .option('--typical-p <p>', 'choose among tokens of typical surprise with total probability p', number)
    .option('--repetition-penalty <x>', 'divide the logits of tokens seen before', number)
    .option('--frequency-penalty <x>', 'subtract x from a logit for every time its token was seen', number)
    .option('--presence-penalty <x>', 'subtract x from the logits of tokens seen before', number)
    .option('--seed <n>', 'repeat the same choices', integer)
    .option('--stop <text>', 'end before this text; may be given several times', collect);

const names = [
  ...(['maxTokens', 'temperature', 'topK', 'topP', 'minP', 'typicalP', 'repetitionPenalty'] as const),
  ...(['frequencyPenalty', 'presencePenalty', 'seed', 'stop'] as const),
];

/** The options that were given, as `generate` takes them. */
export const samplingOptions = (flags: SamplingFlags): GenerateOptions =>
  Object.fromEntries(names.map((name) => [name, flags[name]]).filter(([, value]) => value !== undefined));
