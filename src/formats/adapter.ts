import { FormatError, UnsupportedError } from '../core/errors.ts';
import type { Checkpoint, StoredTensor } from './checkpoint.ts';
import { readF32 } from './read-f32.ts';

const PREFIX = 'base_model.model.';
const PART = /^(.*)\.lora_([AB])\.weight$/;

/** Where a model keeps the matrix of a module. */
export interface AdaptedMatrix {
  /** Its tensor in the checkpoint. */
  readonly stored: string;
  /** Whether it is stored as [I, O], as GPT-2's are. */
  readonly isTransposed: boolean;
}

/**
 * A checkpoint with a low-rank adapter of the PEFT library merged into it: W + (alpha / r) · B A for every matrix W [O, I] that
 * has A [r, I] and B [O, r], and W + (alpha / r) · (B A)ᵀ for those that are stored as [I, O]. FormatError where they do not fit the checkpoint, UnsupportedError
 * for other kinds of adapters, and for those that bring a head with them (PEFT's `modules_to_save`).
 *
 * @param config the object of `adapter_config.json`
 * @param matrixOf the matrix that an adapter calls by a name, if the model has it
 */
export function withAdapter(
  checkpoint: Checkpoint,
  adapter: Checkpoint,
  config: AdapterConfig,
  matrixOf: (name: string) => AdaptedMatrix | undefined,
): Checkpoint {
  const scaleOf = scales(config, adapter.name);
  const additions = new Map<string, Addition>();
  const tensors = new Map(checkpoint.tensors);
  for (const [name, { A, B }] of pairsOf(adapter, config['modules_to_save'])) {
    const matrix = matrixOf(name);
    const W = matrix && checkpoint.tensors.get(matrix.stored);
    if (!W) throw new FormatError(`${adapter.name} is for another model: ${checkpoint.name} has no ${name}`);
    const { isTransposed } = matrix;
    if (isTransposed && config['fan_in_fan_out'] !== true)
      throw new FormatError(
        `${adapter.name}: ${name} is stored as [inputs, outputs], and the adapter is not made for that: its adapter_config.json has fan_in_fan_out ${JSON.stringify(config['fan_in_fan_out'] ?? false)}, where PEFT writes true. Adapters of GPT-2 that riverrun wrote before have A and B the other way round: make them anew with \`finetune --method lora\``,
      );
    const [O, I] = isTransposed ? [...W.shape].reverse() : W.shape;
    const fits = W.shape.length === 2 && A.shape[1] === I && B.shape[0] === O && A.shape[0] === B.shape[1];
    if (!fits)
      throw new FormatError(
        `${adapter.name}: ${name} is [${W.shape.join(', ')}]${isTransposed ? ', [inputs, outputs]' : ''}, but its additions are [${B.shape.join(', ')}] · [${A.shape.join(', ')}]`,
      );
    additions.set(W.name, { A, B, isTransposed, scale: scaleOf(name, A.shape[0]!) });
    tensors.set(W.name, { ...W, type: 'f32', byteLength: 4 * O! * I! });
  }
  let merged: { name: string; bytes: Uint8Array } | undefined;
  return {
    name: checkpoint.name,
    format: checkpoint.format,
    metadata: checkpoint.metadata,
    tensors,
    async read(name, into, offset = 0) {
      const addition = additions.get(name);
      if (!addition) return await checkpoint.read(name, into, offset);
      // Matrices are read piece by piece, one after the other: the one in hand is kept.
      if (merged?.name !== name) {
        const W = await readF32(checkpoint, checkpoint.tensors.get(name)!);
        await merge(W, adapter, addition);
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

export type AdapterConfig = Readonly<Record<string, unknown>>;

/** Settings of PEFT's by which an adapter computes something else, or for another model than its base. */
const otherComputations = [
  ...['use_dora', 'use_qalora', 'use_bdlora', 'alora_invocation_tokens', 'layer_replication'],
  ...['arrow_config', 'kasa_config', 'monteclora_config'],
];

/** alpha / r, or alpha / √r, by the name of a matrix and the rank that its addition has. */
function scales(config: AdapterConfig, file: string): (name: string, rank: number) => number {
  const { peft_type: type, r, lora_alpha: alpha, bias, init_lora_weights: init } = config;
  if (type !== 'LORA') throw new UnsupportedError(`${file}: its peft_type is ${JSON.stringify(type)}; known: "LORA"`);
  const other = otherComputations.find((field) => ![undefined, null, false].includes(config[field] as null));
  if (other !== undefined) throw new UnsupportedError(`${file}: adapters with ${other} are not built`);
  if (bias !== undefined && bias !== 'none')
    throw new UnsupportedError(`${file}: adapters that change biases are not built`);
  if (typeof init === 'string' && /^(pissa|olora|loftq|corda|lora_ga)/.test(init))
    throw new UnsupportedError(
      `${file}: init_lora_weights ${JSON.stringify(init)} changed the matrices that it adds to; PEFT saves a plain adapter with path_initial_model_for_weight_conversion`,
    );
  if (!Number.isSafeInteger(r) || (r as number) < 1 || typeof alpha !== 'number')
    throw new FormatError(`${file}: adapter_config.json has no rank r and no lora_alpha`);
  const rankOf = byPattern(config['rank_pattern'], r as number, `${file}: rank_pattern`);
  const alphaOf = byPattern(config['alpha_pattern'], alpha, `${file}: alpha_pattern`);
  return (name, rank) => {
    const module = name.replace(/\.weight$/, '');
    if (rank !== rankOf(module))
      throw new FormatError(
        `${file}: the addition to ${name} has rank ${rank}, but adapter_config.json says ${rankOf(module)}`,
      );
    return alphaOf(module) / (config['use_rslora'] === true ? Math.sqrt(rank) : rank);
  };
}

/** PEFT's patterns: expressions of the ends of modules' names, of which the first that fits counts. */
function byPattern(patterns: unknown, otherwise: number, where: string): (module: string) => number {
  const all = Object.entries((patterns ?? {}) as Record<string, unknown>).map(([pattern, value]) => {
    if (typeof value !== 'number') throw new FormatError(`${where}: the value of ${pattern} is no number`);
    try {
      return [new RegExp(`^(.*\\.)?(${pattern})$`), value] as const;
    } catch (cause) {
      throw new FormatError(`${where}: ${(cause as Error).message}`, { cause });
    }
  });
  return (module) => all.find(([pattern]) => pattern.test(module))?.[1] ?? otherwise;
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

interface Addition extends Pair {
  readonly isTransposed: boolean;
  readonly scale: number;
}

/** W ← W + scale · B A, or scale · (B A)ᵀ, in place. */
async function merge(W: Float32Array, adapter: Checkpoint, { A, B, isTransposed, scale }: Addition): Promise<void> {
  const [a, b] = [await readF32(adapter, A), await readF32(adapter, B)];
  const [rank, I] = A.shape as [number, number];
  const O = W.length / I;
  // W[o, i] lies at o · down + i · right.
  const [down, right] = isTransposed ? [1, O] : [I, 1];
  for (let o = 0; o < O; o++)
    for (let r = 0; r < rank; r++) {
      const factor = scale * b[o * rank + r]!;
      for (let i = 0; i < I; i++) W[o * down + i * right]! += factor * a[r * I + i]!;
    }
}
