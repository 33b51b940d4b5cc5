import { readFile } from 'node:fs/promises';
import { InputError } from '../core/errors.ts';
import { bytesSource } from '../formats/byte-source.ts';
import { openCheckpoint } from '../formats/open.ts';
import type { Model } from '../runtime/model.ts';
import { isRwkvState, rwkvState } from '../runtime/rwkv-state.ts';
import { State } from '../runtime/state.ts';
import { openFile, writeFileAtomically } from './node-file.ts';

/**
 * Reads a state's file: one of ours, or a tuned initial state of an RWKV (`.pth` of the trainers, `.st` of web-rwkv and Ai00),
 * which needs the model that it is for.
 */
export async function loadState(path: string, model?: Model): Promise<State> {
  // Opened once before, for errors in words.
  await (await openFile(path)).close();
  const bytes = await readFile(path);
  const checkpoint = await openCheckpoint(bytesSource(bytes, path));
  if (checkpoint.format === 'safetensors' && !isRwkvState(checkpoint)) return await State.load(bytes, path);
  if (!model) throw new InputError(`${path} is no state of this program's: name the model that it is for`);
  return await rwkvState(model, checkpoint);
}

/** Writes a state's file: all of it, or nothing. */
export async function saveState(path: string, bytes: Uint8Array): Promise<void> {
  await writeFileAtomically(path, [bytes]);
}
