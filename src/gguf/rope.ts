import { UnsupportedError } from '../core/errors.ts';
import type { GgufValue } from '../formats/gguf-header.ts';
import type { Json } from '../models/config.ts';
import { ropeFrequencies } from '../ops/rope.ts';
import { type Extra, f32, string } from './dialect.ts';
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

/** The scaling that metadata tell of, as config.json has it; the kind is linear where none is named, as in llama.cpp. */
export function scalingOf(m: Metadata): Json {
  const type = m.text('rope.scaling.type', 'linear');
  if (type === 'none') return {};
  m.only('rope.scaling.type', ['linear'], 'other scalings of the rotary embedding are read from rope_freqs only');
  const factor = m.number('rope.scaling.factor', m.number('rope.scale_linear', 0));
  return factor === 0 || factor === 1 ? {} : { rope_scaling: { rope_type: 'linear', factor } };
}
