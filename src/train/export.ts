import type { WrittenTensor } from '../formats/safetensors-writer.ts';
import type { Json } from '../models/config.ts';
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

/** A model's parameters as a checkpoint holds them, by the architecture's own names. */
export function modelTensors(learner: Learner, additions?: Additions): WrittenTensor[] {
  return [...learner.parameters.values()]
    .filter(({ name }) => isOwn(name))
    .map(({ name, shape }) => {
      const values = learner.read(name);
      const layout = additions?.targets.get(name);
      return tensor(name, shape, layout ? merged(learner, name, layout, shape, values, additions!.scale) : values);
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

/** The epsilons that RWKV-7's dialects differ in: our names of its tensors are its author's, whatever they were before. */
export function savedConfig(json: Json, parsed: unknown): Json {
  const { dtype: _, torch_dtype: __, ...rest } = json;
  const { headEpsilon, keyEpsilon } = parsed as Record<string, number | undefined>;
  const epsilons = json['model_type'] === 'rwkv7' ? { group_norm_eps: headEpsilon, key_norm_eps: keyEpsilon } : {};
  return { ...rest, ...epsilons, dtype: 'float32' };
}
