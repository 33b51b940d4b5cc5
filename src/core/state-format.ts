import { UnsupportedError } from './errors.ts';
import { float16ToNumber, numberToFloat16 } from './float16.ts';

/** How the numbers of a state that grows are kept in memory. Kernels compute in f32 from either. */
export type StateFormat = 'f32' | 'f16';

export const stateFormats: readonly StateFormat[] = ['f32', 'f16'];

/** Bytes of one number. */
export const bytesOfFormat: Readonly<Record<StateFormat, number>> = { f32: 4, f16: 2 };

/** The largest magnitude of f32 that f16 has a number near, which is 65504: from 65520 on the nearest is infinity. */
export const F16_LIMIT = 65520 - 2 ** -8;

/** What a number becomes where it is kept in f16: the nearest there is, ties to even. UnsupportedError for what f16 has no number near. */
export function roundedToF16(value: number): number {
  if (!(Math.abs(Math.fround(value)) <= F16_LIMIT)) refuseBeyondF16(value);
  return float16ToNumber(numberToFloat16(value));
}

/** Refuses bits of f16 that are no finite numbers. */
export function checkHalves(halves: Uint16Array, name: string): void {
  const wrong = halves.findIndex((bits) => (bits & 0x7c00) === 0x7c00);
  if (wrong >= 0) refuseBeyondF16(float16ToNumber(halves[wrong]!), name);
}

/** Infinity or NaN would stand in the state for good, and in all that comes after. */
export function refuseBeyondF16(value: number, name = 'a state'): never {
  throw new UnsupportedError(
    `${name} is to keep a number of magnitude ${value} in f16, which ends at 65504: load the model with kvCache: 'f32' (--kv-cache f32). The session is of no use any more`,
  );
}
