import type { Constraint } from '../../constraints/constraint.ts';
import { InputError } from '../../core/errors.ts';
import type { GenerateOptions } from '../../runtime/generate.ts';
import { refuseUnknownOptions } from '../../runtime/sampler.ts';

/** Hugging Face's names for options of generating, as `transformers` and `transformers.js` have them. */
export interface PipelineGenerationOptions {
  /** Default 256. */
  readonly max_new_tokens?: number;
  /** The prompt's tokens and the new ones together, instead of `max_new_tokens`. */
  readonly max_length?: number;
  /** Draws tokens instead of taking the likeliest. Default false; the options of drawing need it. */
  readonly do_sample?: boolean;
  readonly temperature?: number;
  readonly top_k?: number;
  readonly top_p?: number;
  readonly min_p?: number;
  readonly typical_p?: number;
  readonly repetition_penalty?: number;
  readonly num_beams?: number;
  readonly length_penalty?: number;
  readonly num_return_sequences?: number;
  readonly eos_token_id?: number | readonly number[];
  readonly stop_strings?: string | readonly string[];
  /** Makes draws repeatable. */
  readonly seed?: number;
  readonly signal?: AbortSignal;
  /** What the new text must be. */
  readonly constraint?: Constraint;
}

/** Those that draw: names here, and what they are called natively. */
const drawing = {
  temperature: 'temperature',
  top_k: 'topK',
  top_p: 'topP',
  min_p: 'minP',
  typical_p: 'typicalP',
  seed: 'seed',
} as const;

export const generationOptionNames: readonly string[] = [
  ...Object.keys(drawing),
  ...['max_new_tokens', 'max_length', 'do_sample', 'repetition_penalty', 'num_beams', 'length_penalty'],
  ...['num_return_sequences', 'eos_token_id', 'stop_strings', 'signal', 'constraint'],
];

/** Refuses names that a pipeline does not know, and combinations in which one would be ignored. */
export function checkGenerationOptions(options: PipelineGenerationOptions, further: readonly string[] = []): void {
  refuseUnknownOptions(options, [...generationOptionNames, ...further]);
  const { do_sample, num_beams = 1, num_return_sequences = 1, max_length, max_new_tokens } = options;
  const counts = { num_beams: 1, num_return_sequences: 1, max_length: 1, max_new_tokens: 0 } as const;
  for (const [name, least] of Object.entries(counts)) {
    const value = options[name as keyof typeof counts];
    if ((value !== undefined && !(value === Infinity || Number.isInteger(value))) || (value as number) < least)
      throw new InputError(`${name} is ${String(value)}: it must be a whole number from ${least}`);
  }
  if (do_sample !== undefined && typeof do_sample !== 'boolean')
    throw new InputError(`do_sample is ${String(do_sample)}: it must be true or false`);
  const refuse = (names: readonly string[], needed: string): void => {
    const given = names.find((name) => options[name as keyof PipelineGenerationOptions] !== undefined);
    if (given) throw new InputError(`${given} ${needed}`);
  };
  if (!do_sample) refuse(Object.keys(drawing), 'has a meaning only with do_sample: true');
  if (num_beams > 1) refuse(['repetition_penalty', 'stop_strings'], 'does not go together with num_beams');
  else refuse(['length_penalty'], 'has a meaning only with num_beams');
  if (num_beams > 1 && do_sample) throw new InputError('do_sample does not go together with num_beams');
  if (num_return_sequences > 1 && num_beams === 1 && !do_sample)
    throw new InputError('num_return_sequences needs do_sample: true or num_beams: the likeliest text is one only');
  if (max_length !== undefined && max_new_tokens !== undefined)
    throw new InputError('max_length and max_new_tokens say the same: give one of them');
}

/** The native options. @param promptTokens tokens of the prompt, which `max_length` counts */
export function nativeOptions(options: PipelineGenerationOptions, promptTokens: number): GenerateOptions {
  const { max_new_tokens = 256, max_length, do_sample, repetition_penalty, stop_strings, signal, constraint } = options;
  const ends = options.eos_token_id;
  if (max_length !== undefined && max_length < promptTokens)
    throw new InputError(`max_length is ${max_length}, and the prompt alone has ${promptTokens} tokens`);
  const drawn = Object.entries(drawing)
    .map(([name, native]) => [native, options[name as keyof typeof drawing]] as const)
    .filter(([, value]) => value !== undefined);
  return {
    maxTokens: max_length === undefined ? max_new_tokens : max_length - promptTokens,
    ...(do_sample ? { temperature: 1, ...Object.fromEntries(drawn) } : { temperature: 0 }),
    // Hugging Face counts the whole text.
    ...(repetition_penalty !== undefined && { repetitionPenalty: repetition_penalty, penaltyWindow: Infinity }),
    ...(ends !== undefined && { stopTokens: [ends].flat() }),
    ...(stop_strings !== undefined && { stop: stop_strings }),
    ...(signal && { signal }),
    ...(constraint && { constraint }),
  };
}
