import type { Random } from '../core/random.ts';
import type { Initializer } from '../core/tensor.ts';

/** The numbers that a parameter begins with, row-major. */
export function initialise(initial: Initializer, shape: readonly number[], random: Random): Float32Array {
  const values = new Float32Array(shape.reduce((a, b) => a * b, 1));
  switch (initial.kind) {
    case 'zeros':
      return values;
    case 'ones':
      return values.fill(1);
    case 'constant':
      return values.fill(initial.value);
    case 'normal':
      return values.map(() => initial.std * random.normal());
    case 'uniform':
      return values.map(() => initial.low + (initial.high - initial.low) * random.uniform());
    case 'orthogonal':
      return orthogonal(shape, initial.gain, random);
    case 'formula':
      return values.map((_, i) => initial.value(indexOf(i, shape), random.uniform()));
  }
}

function indexOf(position: number, shape: readonly number[]): number[] {
  const index = new Array<number>(shape.length);
  for (let axis = shape.length - 1; axis >= 0; axis--) {
    index[axis] = position % shape[axis]!;
    position = Math.floor(position / shape[axis]!);
  }
  return index;
}

/**
 * A matrix whose rows (or columns, if there are fewer) are orthogonal and of length `gain`: normal vectors, made orthogonal one
 * after the other (modified Gram–Schmidt, in float64).
 */
function orthogonal(shape: readonly number[], gain: number, random: Random): Float32Array {
  const [rows, columns] = [shape[0]!, shape.slice(1).reduce((a, b) => a * b, 1)];
  const [count, length] = [Math.min(rows, columns), Math.max(rows, columns)];
  const vectors = Array.from({ length: count }, () => Float64Array.from({ length }, () => random.normal()));
  for (const [n, vector] of vectors.entries()) {
    for (const other of vectors.slice(0, n)) {
      const overlap = dot(vector, other);
      for (let i = 0; i < length; i++) vector[i]! -= overlap * other[i]!;
    }
    const scale = 1 / Math.sqrt(dot(vector, vector));
    for (let i = 0; i < length; i++) vector[i]! *= scale;
  }
  return Float32Array.from({ length: rows * columns }, (_, i) => {
    const [row, column] = [Math.floor(i / columns), i % columns];
    return gain * (rows <= columns ? vectors[row]![column]! : vectors[column]![row]!);
  });
}

const dot = (a: Float64Array, b: Float64Array): number => a.reduce((sum, value, i) => sum + value * b[i]!, 0);
