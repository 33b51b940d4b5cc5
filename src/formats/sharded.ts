import { FormatError } from '../core/errors.ts';
import type { Checkpoint } from './checkpoint.ts';

/**
 * Opens a checkpoint cut into several files by its index (`model.safetensors.index.json`). Every tensor must lie in the
 * shard that the index names, and no shard may hold one that the index does not.
 *
 * @param openShard opens a file beside the index by its name
 */
export async function openSharded(
  name: string,
  index: unknown,
  openShard: (file: string) => Promise<Checkpoint>,
): Promise<Checkpoint> {
  const placement = readIndex(name, index);
  const shards = new Map<string, Checkpoint>();
  try {
    for (const file of new Set(placement.values())) shards.set(file, await openShard(file));
    const tensors = new Map<string, Checkpoint['tensors'] extends ReadonlyMap<string, infer T> ? T : never>();
    for (const [tensor, file] of placement) {
      const stored = shards.get(file)!.tensors.get(tensor);
      if (!stored)
        throw new FormatError(`${name}: tensor ${JSON.stringify(tensor)} should be in ${file}, which does not hold it`);
      tensors.set(tensor, stored);
    }
    for (const [file, shard] of shards) {
      const extra = [...shard.tensors.keys()].find((tensor) => placement.get(tensor) !== file);
      if (extra !== undefined)
        throw new FormatError(
          `${name}: ${file} holds tensor ${JSON.stringify(extra)}, which the index does not place there`,
        );
    }
    return {
      name,
      format: 'safetensors',
      tensors,
      metadata: [...shards.values()][0]?.metadata ?? {},
      read: (tensor, into, offset) => shards.get(placement.get(tensor)!)!.read(tensor, into, offset),
      close: () => closeAll(shards.values()),
    };
  } catch (error) {
    await closeAll(shards.values());
    throw error;
  }
}

function readIndex(name: string, index: unknown): Map<string, string> {
  const map = (index as { weight_map?: unknown } | null)?.weight_map;
  if (typeof map !== 'object' || map === null || Array.isArray(map)) {
    throw new FormatError(`${name}: it has no weight_map that says which file holds which tensor`);
  }
  const placement = new Map<string, string>();
  for (const [tensor, file] of Object.entries(map)) {
    // A shard lies beside its index: anything else could name any file of the machine.
    if (typeof file !== 'string' || !/^[^/\\:]+$/.test(file) || file === '..' || file === '.') {
      throw new FormatError(
        `${name}: tensor ${JSON.stringify(tensor)} is placed in ${JSON.stringify(file)}, which is no plain file name`,
      );
    }
    placement.set(tensor, file);
  }
  if (placement.size === 0) throw new FormatError(`${name}: its weight_map is empty`);
  return placement;
}

async function closeAll(checkpoints: Iterable<Checkpoint>): Promise<void> {
  for (const checkpoint of checkpoints) await checkpoint.close();
}
