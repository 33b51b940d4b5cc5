import { readFileSync } from 'node:fs';

/** A tensor of a golden file. */
export interface GoldenTensor {
  readonly shape: readonly number[];
  readonly data: Float32Array | Int32Array;
}

/**
 * Reads a small safetensors file of f32 and i32 tensors. The tests have a reader of their own, so that an error in the
 * engine's can't hide itself.
 */
export function readTensors(path: string): Map<string, GoldenTensor> {
  const file = readFileSync(path);
  const headerLength = Number(file.readBigUInt64LE(0));
  const header = JSON.parse(file.toString('utf8', 8, 8 + headerLength));
  const tensors = new Map<string, GoldenTensor>();
  for (const [
    name,
    {
      dtype,
      shape,
      data_offsets: [start, end],
    },
  ] of Object.entries<{
    dtype: string;
    shape: number[];
    data_offsets: [number, number];
  }>(header).filter(([name]) => name !== '__metadata__')) {
    const bytes = Uint8Array.from(file.subarray(8 + headerLength + start, 8 + headerLength + end)).buffer;
    if (dtype !== 'F32' && dtype !== 'I32') throw new Error(`${path}: ${name} is ${dtype}`);
    tensors.set(name, { shape, data: dtype === 'F32' ? new Float32Array(bytes) : new Int32Array(bytes) });
  }
  return tensors;
}

/** Where the fixtures are: RIVERRUN_GOLDENS names another folder of the same kind. */
const goldens = process.env['RIVERRUN_GOLDENS'] ?? new URL('./goldens', import.meta.url).pathname;

export const goldenFolder = (name: string): string => `${goldens}/${name}/`;
