import { FormatError, UnsupportedError } from '../core/errors.ts';
import type { Checkpoint, StoredTensor } from './checkpoint.ts';
import { readF32 } from './read-f32.ts';

const PREFIX = 'base_model.model.';
const PART = /^(.*)\.lora_([AB])\.weight$/;

/**
 * A checkpoint with a low-rank adapter of the PEFT library merged into it: W + (alpha / r) · B A for every matrix W [O, I] that
 * has A [r, I] and B [O, r]. FormatError where they do not fit the checkpoint, UnsupportedError for other kinds of adapters, and for
 * those that bring a head with them (PEFT's `modules_to_save`).
 *
 * @param config the object of `adapter_config.json`
 */
export function withAdapter(
  checkpoint: Checkpoint,
  adapter: Checkpoint,
  config: Readonly<Record<string, unknown>>,
): Checkpoint {
  const scale = scaleOf(config, adapter.name);
  const pairs = pairsOf(adapter, config['modules_to_save']);
  const tensors = new Map(checkpoint.tensors);
  for (const [name, { A, B }] of pairs) {
    const stored = checkpoint.tensors.get(name);
    if (!stored) throw new FormatError(`${adapter.name} is for another model: ${checkpoint.name} has no ${name}`);
    const [O, I] = stored.shape;
    const fits = stored.shape.length === 2 && A.shape[1] === I && B.shape[0] === O && A.shape[0] === B.shape[1];
    if (!fits)
      throw new FormatError(
        `${adapter.name}: ${name} is [${stored.shape.join(', ')}], but its additions are [${B.shape.join(', ')}] · [${A.shape.join(', ')}]`,
      );
    tensors.set(name, { ...stored, type: 'f32', byteLength: 4 * O! * I! });
  }
  let merged: { name: string; bytes: Uint8Array } | undefined;
  return {
    name: checkpoint.name,
    format: checkpoint.format,
    metadata: checkpoint.metadata,
    tensors,
    async read(name, into, offset = 0) {
      const pair = pairs.get(name);
      if (!pair) return await checkpoint.read(name, into, offset);
      // Matrices are read piece by piece, one after the other: the one in hand is kept.
      if (merged?.name !== name) {
        const W = await readF32(checkpoint, checkpoint.tensors.get(name)!);
        await merge(W, adapter, pair, scale);
        merged = { name, bytes: new Uint8Array(W.buffer, W.byteOffset, W.byteLength) };
      }
      into.set(merged.bytes.subarray(offset, offset + into.length));
    },
    async close() {
      await adapter.close();
      await checkpoint.close();
    },
  };
}

function scaleOf(config: Readonly<Record<string, unknown>>, name: string): number {
  const { peft_type: type, r, lora_alpha: alpha } = config;
  if (type !== 'LORA') throw new UnsupportedError(`${name}: its peft_type is ${JSON.stringify(type)}; known: "LORA"`);
  for (const field of ['use_dora', 'fan_in_fan_out'])
    if (config[field] === true) throw new UnsupportedError(`${name}: adapters with ${field} are not built`);
  if (config['bias'] !== undefined && config['bias'] !== 'none')
    throw new UnsupportedError(`${name}: adapters that change biases are not built`);
  if (!Number.isSafeInteger(r) || (r as number) < 1 || typeof alpha !== 'number')
    throw new FormatError(`${name}: adapter_config.json has no rank r and no lora_alpha`);
  return alpha / (config['use_rslora'] === true ? Math.sqrt(r as number) : (r as number));
}

interface Pair {
  readonly A: StoredTensor;
  readonly B: StoredTensor;
}

function pairsOf(adapter: Checkpoint, heads: unknown): Map<string, Pair> {
  const found = new Map<string, { A?: StoredTensor; B?: StoredTensor }>();
  for (const tensor of adapter.tensors.values()) {
    const match = tensor.name.startsWith(PREFIX) ? PART.exec(tensor.name.slice(PREFIX.length)) : null;
    const saved = (Array.isArray(heads) ? (heads as unknown[]) : []).find((name) =>
      tensor.name.startsWith(`${PREFIX}${String(name)}.`),
    );
    if (saved !== undefined)
      throw new UnsupportedError(
        `${adapter.name} brings a head of its own, ${String(saved)}: load the model that was merged with it, not its base with the adapter`,
      );
    if (!match)
      throw new UnsupportedError(`${adapter.name}: ${tensor.name} is no part of a low-rank addition to a matrix`);
    const name = `${match[1]}.weight`;
    found.set(name, { ...found.get(name), [match[2]!]: tensor });
  }
  const half = [...found].find(([, { A, B }]) => !A || !B);
  if (half) throw new FormatError(`${adapter.name}: the addition to ${half[0]} has only one of lora_A and lora_B`);
  if (found.size === 0) throw new FormatError(`${adapter.name} has no additions`);
  return found as Map<string, Pair>;
}

/** W ← W + scale · B A, in place. */
async function merge(W: Float32Array, adapter: Checkpoint, { A, B }: Pair, scale: number): Promise<void> {
  const [a, b] = [await readF32(adapter, A), await readF32(adapter, B)];
  const [rank, I] = A.shape as [number, number];
  for (let o = 0; o * I < W.length; o++)
    for (let r = 0; r < rank; r++) {
      const factor = scale * b[o * rank + r]!;
      for (let i = 0; i < I; i++) W[o * I + i]! += factor * a[r * I + i]!;
    }
}
