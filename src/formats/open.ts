import { FormatError } from '../core/errors.ts';
import type { ByteSource } from './byte-source.ts';
import type { Checkpoint } from './checkpoint.ts';
import { openGguf } from './gguf.ts';
import { ggufMagic } from './gguf-types.ts';
import { openPth } from './pth.ts';
import { openRwkvCpp, rwkvCppMagic } from './rwkv-cpp.ts';
import { openSafetensors } from './safetensors.ts';

/**
 * Opens a checkpoint of any known format, told by its first bytes. safetensors has no mark of its own, so what fits no
 * other format is read as that.
 */
export async function openCheckpoint(source: ByteSource): Promise<Checkpoint> {
  const { name, size } = source;
  if (size === 0)
    throw new FormatError(`${name} is empty: it was not written or downloaded to its end; fetch it again`);
  const start = new Uint8Array(4);
  await source.read(0, start.subarray(0, Math.min(4, source.size)));
  const magic = new DataView(start.buffer).getUint32(0, true);
  if (magic === ggufMagic) return await openGguf(source);
  if (magic === rwkvCppMagic) return await openRwkvCpp(source);
  const isZip = start[0] === 0x50 && start[1] === 0x4b;
  const isPickle = start[0] === 0x80 && start[1]! >= 2 && start[1]! <= 5;
  if (name.endsWith('.gguf'))
    throw new FormatError(
      `${name} is no GGUF file: it begins with ${JSON.stringify(String.fromCharCode(...start))} and not with "GGUF"; fetch it again`,
    );
  if (isZip || /\.(pth|pt)$/.test(name) || (isPickle && !source.name.endsWith('.safetensors')))
    return await openPth(source);
  return await openSafetensors(source);
}
