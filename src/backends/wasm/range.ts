import type { WeightDeclaration } from '../../core/backend.ts';
import { WeightError } from '../../core/errors.ts';

/** The largest numbers that formats hold. */
export const limits = { f32: Infinity, bf16: Infinity, f16: 65504, q8: 127 * 65504, q4: 7 * 65504 };

/** WeightError where a magnitude among a parameter's numbers is one that its format has no place for. */
export function refuseBeyond(magnitude: number, { name, format }: WeightDeclaration): void {
  const limit = limits[format];
  if (magnitude <= limit) return;
  throw new WeightError(
    `${name} holds a number of magnitude ${magnitude}; ${format} ends at ${limit}: hold it as f32 or bf16`,
  );
}
