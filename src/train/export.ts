import type { WrittenTensor } from '../formats/safetensors-writer.ts';
import type { Json } from '../models/config.ts';
import { tensor } from './checkpoint.ts';
import type { Learner } from './learner.ts';
import { adaptedMatrices, loraNames } from './method.ts';

/** Parameters that are learned beside the model's own, which its checkpoint does not hold. */
const isOwn = (name: string): boolean => !name.includes('.lora_') && !name.startsWith('state:');

/**
 * A model's parameters as a checkpoint holds them, by the architecture's own names.
 *
 * @param scale how much of the low-rank additions counts, which are merged into their matrices
 */
export function modelTensors(learner: Learner, scale = 0): WrittenTensor[] {
  const adapted = new Set(adaptedMatrices(learner.parameters.keys()));
  return [...learner.parameters.values()]
    .filter(({ name }) => isOwn(name))
    .map(({ name, shape }) => {
      const values = learner.read(name);
      return tensor(name, shape, adapted.has(name) ? merged(learner, name, shape, values, scale) : values);
    });
}

/** W + scale · B A. */
function merged(
  learner: Learner,
  name: string,
  [, I]: readonly number[],
  W: Float32Array,
  scale: number,
): Float32Array {
  const names = loraNames(name);
  const [A, B] = [learner.read(names.A), learner.read(names.B)];
  const rank = A.length / I!;
  return W.map((value, n) => {
    const [o, i] = [Math.floor(n / I!), n % I!];
    let sum = 0;
    for (let r = 0; r < rank; r++) sum += B[o * rank + r]! * A[r * I! + i]!;
    return value + scale * sum;
  });
}

/** The epsilons that RWKV-7's dialects differ in: our names of its tensors are its author's, whatever they were before. */
export function savedConfig(json: Json, parsed: unknown): Json {
  const { dtype: _, torch_dtype: __, ...rest } = json;
  const { headEpsilon, keyEpsilon } = parsed as Record<string, number | undefined>;
  const epsilons = json['model_type'] === 'rwkv7' ? { group_norm_eps: headEpsilon, key_norm_eps: keyEpsilon } : {};
  return { ...rest, ...epsilons, dtype: 'float32' };
}
