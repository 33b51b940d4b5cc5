import type { WrittenTensor } from '../formats/safetensors-writer.ts';
import { tensor } from './checkpoint.ts';
import type { Learner } from './learner.ts';
import { loraNames, type MatrixLayout } from './method.ts';

/** Parameters that are learned beside the model's own, which its checkpoint does not hold. */
const isOwn = (name: string): boolean => !name.includes('.lora_') && !name.startsWith('state:');

/** Low-rank additions that are merged into their matrices: which have them, and how much of them counts. */
export interface Additions {
  readonly targets: ReadonlyMap<string, MatrixLayout>;
  readonly scale: number;
}

/** A parameter in a file that calls it otherwise, or has its numbers in another order. */
export interface StoredAs {
  readonly name: string;
  readonly shape: readonly number[];
  ordered(values: Float32Array): Float32Array;
}

/** A model's parameters as a checkpoint holds them: as `storedAs` tells, or as the architecture has them. */
export function modelTensors(
  learner: Learner,
  storedAs?: (name: string) => StoredAs | undefined,
  additions?: Additions,
): WrittenTensor[] {
  return [...learner.parameters.values()]
    .filter(({ name }) => isOwn(name))
    .map(({ name, shape }) => {
      const values = learner.read(name);
      const layout = additions?.targets.get(name);
      const whole = layout ? merged(learner, name, layout, shape, values, additions!.scale) : values;
      const stored = storedAs?.(name);
      return stored ? tensor(stored.name, stored.shape, stored.ordered(whole)) : tensor(name, shape, whole);
    });
}

/** W + scale · B A, or Aᵀ Bᵀ where these are stored, as W is, the other way round. */
function merged(
  learner: Learner,
  name: string,
  layout: MatrixLayout,
  [, columns]: readonly number[],
  W: Float32Array,
  scale: number,
): Float32Array {
  const names = loraNames(name);
  const [left, right] = (layout === 'linear' ? [names.B, names.A] : [names.A, names.B]).map((one) => learner.read(one));
  const rank = right!.length / columns!;
  return W.map((value, n) => {
    const [row, column] = [Math.floor(n / columns!), n % columns!];
    let sum = 0;
    for (let r = 0; r < rank; r++) sum += left![row * rank + r]! * right![r * columns! + column]!;
    return value + scale * sum;
  });
}
