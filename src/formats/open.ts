import { FormatError } from '../core/errors.ts';
import type { ByteSource } from './byte-source.ts';
import type { Checkpoint } from './checkpoint.ts';
import { openGguf } from './gguf.ts';
import { openSafetensors } from './safetensors.ts';

/** Opens a checkpoint of any known format, told by its first bytes. */
export async function openCheckpoint(source: ByteSource): Promise<Checkpoint> {
  const start = new Uint8Array(Math.min(16, source.size));
  await source.read(0, start);
  // A safetensors file has its JSON header from byte 8 on.
  if (start[8] === 0x7b || source.name.endsWith('.safetensors')) return await openSafetensors(source);
  const checkpoint = await openGguf(source);
  if (checkpoint) return checkpoint;
  throw new FormatError(`${source.name}: it is no safetensors or GGUF file`);
}
