import type { WrittenTensor } from '../formats/safetensors-writer.ts';
import type { Json } from '../models/config.ts';
import { tensor } from './checkpoint.ts';
import type { Learner } from './learner.ts';

/** Parameters that are learned beside the model's own, which its checkpoint does not hold. */
const isOwn = (name: string): boolean => !name.includes('.lora_') && !name.startsWith('state:');

/** A model's parameters as a checkpoint holds them, by the architecture's own names. */
export function modelTensors(learner: Learner): WrittenTensor[] {
  return [...learner.parameters.values()]
    .filter(({ name }) => isOwn(name))
    .map(({ name, shape }) => tensor(name, shape, learner.read(name)));
}

/** The epsilons that RWKV-7's dialects differ in: our names of its tensors are its author's, whatever they were before. */
export function savedConfig(json: Json, parsed: unknown): Json {
  const { dtype: _, torch_dtype: __, ...rest } = json;
  const { headEpsilon, keyEpsilon } = parsed as Record<string, number | undefined>;
  const epsilons = json['model_type'] === 'rwkv7' ? { group_norm_eps: headEpsilon, key_norm_eps: keyEpsilon } : {};
  return { ...rest, ...epsilons, dtype: 'float32' };
}
