import { UnsupportedError } from '../core/errors.ts';
import type { GgufValue } from '../formats/gguf-header.ts';
import type { Json } from '../models/config.ts';
import { type Yarn, yarnMagnitude } from '../models/yarn.ts';
import { ropeFrequencies } from '../ops/rope.ts';
import { bool, type Extra, f32, string, u32 } from './dialect.ts';
import type { Metadata } from './metadata.ts';

/** How many times slower than usual every pair of channels turns. */
export const slowdowns = (frequencies: readonly number[], base: number): number[] =>
  ropeFrequencies(2 * frequencies.length, base).map((f, i) => f / frequencies[i]!);

const isPlain = (factors: readonly number[]): boolean => factors.every((factor) => factor === 1);

/** Whether two numbers are the same but for rounding. */
const isSame = (a: number, b: number): boolean => Math.abs(a / b - 1) < 1e-9;

/** A scaled rotary embedding as the tensor that llama.cpp's `llama` reads. */
export function ropeFactors(factors: readonly number[]): Extra[] {
  if (isPlain(factors)) return [];
  return [{ name: 'rope_freqs.weight', shape: [factors.length], values: Float32Array.from(factors) }];
}

/** A rotary embedding that is scaled by one factor, as metadata. UnsupportedError for other scalings. */
export function linearScaling(factors: readonly number[], architecture: string): Record<string, GgufValue> {
  if (isPlain(factors)) return {};
  const [factor] = factors as [number];
  if (!factors.every((one) => isSame(one, factor)))
    throw new UnsupportedError(
      `llama.cpp's ${architecture} has no place for a rotary embedding that is scaled otherwise than by one factor`,
    );
  return { 'rope.scaling.type': string('linear'), 'rope.scaling.factor': f32(factor) };
}

/** YaRN as metadata. llama.cpp makes the magnitude by itself, of which a model's own is told as a multiple. */
export function yarnScaling({ factor, context, fast, slow, truncate, magnitude }: Yarn): Record<string, GgufValue> {
  const multiple = magnitude / yarnMagnitude(factor);
  return {
    'rope.scaling.type': string('yarn'),
    'rope.scaling.factor': f32(factor),
    'rope.scaling.original_context_length': u32(context),
    ...(!isSame(multiple, 1) && { 'rope.scaling.attn_factor': f32(multiple) }),
    ...(fast !== 32 && { 'rope.scaling.yarn_beta_fast': f32(fast) }),
    ...(slow !== 1 && { 'rope.scaling.yarn_beta_slow': f32(slow) }),
    ...(!truncate && { [TRUNCATE]: bool(false) }),
  };
}

/** llama.cpp lets the ramp begin and end at whole pairs; where a model does not, it is noted beside. */
const TRUNCATE = 'rope.scaling.yarn_truncate';

function yarnOf(m: Metadata): Json {
  const factor = m.number('rope.scaling.factor');
  return {
    rope_type: 'yarn',
    factor,
    original_max_position_embeddings: m.integer(
      'rope.scaling.original_context_length',
      m.integer('context_length', 2048),
    ),
    beta_fast: m.number('rope.scaling.yarn_beta_fast', 32),
    beta_slow: m.number('rope.scaling.yarn_beta_slow', 1),
    truncate: m.boolean(TRUNCATE, true),
    ...(m.has('rope.scaling.attn_factor') && {
      attention_factor: m.number('rope.scaling.attn_factor') * yarnMagnitude(factor),
    }),
  };
}

/** The scaling that metadata tell of, as config.json has it; the kind is linear where none is named, as in llama.cpp. */
export function scalingOf(m: Metadata): Json {
  const type = m.text('rope.scaling.type', 'linear');
  if (type === 'none') return {};
  if (type === 'yarn') return { rope_scaling: yarnOf(m) };
  m.only(
    'rope.scaling.type',
    ['linear', 'yarn'],
    'other scalings of the rotary embedding are read from rope_freqs only',
  );
  const factor = m.number('rope.scaling.factor', m.number('rope.scale_linear', 0));
  return factor === 0 || factor === 1 ? {} : { rope_scaling: { rope_type: 'linear', factor } };
}
