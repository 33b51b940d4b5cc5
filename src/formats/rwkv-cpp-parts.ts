import type { Checkpoint, StoredTensor } from './checkpoint.ts';

/** The letters of the six vectors that rwkv.cpp joins to one tensor, in its order. */
const letters = ['r', 'w', 'k', 'v', 'a', 'g'];
const joined = /^(blocks\.\d+\.att\.)x_rwkvag$/;

/** A rwkv.cpp checkpoint in which RWKV-7's mixing vectors appear one by one, as in the original: `x_r`, `x_w` … [1, 1, C]. */
export function separateMixing(checkpoint: Checkpoint): Checkpoint {
  const tensors = new Map<string, StoredTensor>();
  const origins = new Map<string, { name: string; offset: number }>();
  for (const stored of checkpoint.tensors.values()) {
    const [, prefix] = joined.exec(stored.name) ?? [];
    if (prefix === undefined) {
      tensors.set(stored.name, stored);
      continue;
    }
    const byteLength = stored.byteLength / letters.length;
    for (const [i, letter] of letters.entries()) {
      const name = `${prefix}x_${letter}`;
      tensors.set(name, { name, type: stored.type, shape: [1, ...stored.shape.slice(1)], byteLength });
      origins.set(name, { name: stored.name, offset: i * byteLength });
    }
  }
  return {
    ...checkpoint,
    tensors,
    read(name, into, offset = 0) {
      const origin = origins.get(name);
      return checkpoint.read(origin?.name ?? name, into, (origin?.offset ?? 0) + offset);
    },
  };
}
