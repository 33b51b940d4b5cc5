import type { Blocks, WeightDeclaration, WeightFormat, Weights } from '../core/backend.ts';
import { nearest, WeightError } from '../core/errors.ts';
import { exceeds, LARGEST } from '../core/magnitude.ts';
import { formatShape } from '../core/shape.ts';
import type { Checkpoint, StoredTensor } from '../formats/checkpoint.ts';
import { blockFormats, decodeBlocks } from '../formats/gguf-blocks.ts';
import { readF32 } from '../formats/read-f32.ts';
import type { Architecture, StoredParameter } from '../models/architecture.ts';
import type { Head, ModelGraph } from './graph.ts';

/** How far loading has come, in bytes of the checkpoint. */
export interface LoadProgress {
  readonly loaded: number;
  readonly total: number;
}

export interface LoadParametersOptions {
  readonly signal?: AbortSignal | undefined;
  readonly onProgress?: ((progress: LoadProgress) => void) | undefined;
}

/** Elements decoded at a time: enough for fast reads, and few enough to stay in a core's cache from the first look to the last. */
const PIECE = 1 << 17;

/** Inputs or outputs below which a matrix is not quantised: it is little memory, and the ranks of RWKV and Mamba are precious. */
const NARROW = 64;

/** Whether a matrix of this shape is quantised where matrices are. */
export const isWide = (shape: readonly number[]): boolean => shape.length === 2 && Math.min(...shape) >= NARROW;

/**
 * How each parameter of a model is to be held: matrices in `format`, narrow ones among them in bf16 where that is of integers, and
 * all that is no matrix in f32.
 */
export function declareWeights(graph: ModelGraph, format: WeightFormat): WeightDeclaration[] {
  const isQuantised = format === 'q8' || format === 'q4';
  return [...graph.parameters.values()].map(({ name, shape }) => {
    const layout = graph.layouts.get(name) ?? 'rows';
    const held = isQuantised && !isWide(shape) ? 'bf16' : format;
    return { name, shape, layout, format: layout === 'rows' ? 'f32' : held };
  });
}

/** Where a parameter's numbers come from. */
export interface Origin {
  readonly stored: StoredTensor;
  readonly convert: StoredParameter['convert'];
}

/**
 * Matches a checkpoint's tensors with a model's parameters, strictly both ways: every parameter must be found, and every
 * tensor be used or be one that the architecture knows not to need.
 */
export function matchParameters<Config>(
  architecture: Architecture<Config>,
  config: Config,
  graph: ModelGraph,
  checkpoint: Checkpoint,
  head?: Head,
): Map<string, Origin> {
  // A head of our own has the names that it has, whatever the architecture calls its parameters.
  const own = new Set([head?.name, head?.bias]);
  const rename = (name: string) => (architecture.rename && !own.has(name) ? architecture.rename(name, config) : name);
  const origins = new Map<string, Origin>();
  const unexpected: string[] = [];
  for (const stored of checkpoint.tensors.values()) {
    const renamed = rename(stored.name);
    if (renamed === null) continue;
    const { name, convert } = typeof renamed === 'string' ? { name: renamed, convert: undefined } : renamed;
    if (!graph.parameters.has(name)) unexpected.push(stored.name);
    else if (origins.has(name))
      throw new WeightError(
        `${checkpoint.name}: ${stored.name} and ${origins.get(name)!.stored.name} are both ${name}`,
      );
    else origins.set(name, { stored, convert });
  }
  const missing = [...graph.parameters.keys()].filter((name) => !origins.has(name));
  if (missing.length > 0 || unexpected.length > 0) throw mismatch(architecture, checkpoint, missing, unexpected);
  for (const [name, { stored, convert }] of origins) {
    const expected = graph.parameters.get(name)!.shape;
    const product = (shape: readonly number[]) => shape.reduce((a, b) => a * b, 1);
    const fits = convert
      ? product(stored.shape) === product(expected)
      : formatShape(stored.shape) === formatShape(expected);
    if (!fits) {
      throw new WeightError(
        `${checkpoint.name}: ${stored.name} is ${formatShape(stored.shape)}, but the configuration makes it ${formatShape(expected)}`,
      );
    }
  }
  return origins;
}

function mismatch(
  architecture: Architecture,
  checkpoint: Checkpoint,
  missing: string[],
  unexpected: string[],
): WeightError {
  const list = (names: string[], describe: (name: string) => string) =>
    names.slice(0, 5).map(describe).join(', ') + (names.length > 5 ? ` and ${names.length - 5} more` : '');
  const like = (name: string, others: readonly string[]) => {
    const [near] = nearest(name, others, 1);
    return near ? `${name} (it has ${near})` : name;
  };
  const parts = [
    missing.length > 0 && `missing ${list(missing, (name) => like(name, unexpected))}`,
    unexpected.length > 0 && `unexpected ${list(unexpected, (name) => name)}`,
  ].filter(Boolean);
  return new WeightError(
    `${checkpoint.name} does not hold the parameters of ${architecture.title} with this configuration: ${parts.join('; ')}`,
  );
}

/** A stretch of a parameter's numbers, as a checkpoint holds them. */
interface Piece {
  readonly name: string;
  readonly origin: Origin;
  readonly start: number;
  readonly values: Float32Array;
  /** The same in blocks, where the file has them in blocks that a matrix may be held in. */
  readonly blocks: Blocks | undefined;
  readonly isLast: boolean;
}

/** Reads every parameter from a checkpoint into `weights`, piece by piece; refuses numbers that are not finite. */
export async function loadParameters(
  origins: ReadonlyMap<string, Origin>,
  checkpoint: Checkpoint,
  weights: Pick<Weights, 'write'>,
  { signal, onProgress }: LoadParametersOptions,
): Promise<void> {
  const total = [...origins.values()].reduce((sum, { stored }) => sum + stored.byteLength, 0);
  let loaded = 0;
  for await (const { name, origin, start, values, blocks, isLast } of ahead(pieces(origins, checkpoint))) {
    signal?.throwIfAborted();
    const { stored, convert } = origin;
    // Integers are finite, and so are their products with scales that are.
    if (!blocks || !hasFiniteScales(blocks)) checkFinite(values, checkpoint, stored, start);
    if (convert) weights.write(name, convert(values, stored.shape));
    else weights.write(name, values, start, blocks);
    if (!isLast) continue;
    loaded += stored.byteLength;
    onProgress?.({ loaded, total });
  }
}

/** The numbers of a piece are good until the one after the next is asked for: two buffers take turns. */
async function* pieces(origins: ReadonlyMap<string, Origin>, checkpoint: Checkpoint): AsyncGenerator<Piece> {
  let [buffer, other] = [new Float32Array(0), new Float32Array(0)];
  for (const [name, origin] of origins) {
    const { stored, convert } = origin;
    const rowLength = Math.max(1, stored.shape.at(-1) ?? 1);
    const length = stored.shape.reduce((a, b) => a * b, 1);
    const piece = convert ? Math.max(1, length) : Math.max(1, Math.floor(PIECE / rowLength)) * rowLength;
    for (let start = 0; start < length; start += piece) {
      const count = Math.min(piece, length - start);
      if (buffer.length < count) buffer = new Float32Array(Math.max(PIECE, count));
      const [values, blocks] = await readPiece(checkpoint, stored, start, count, buffer);
      [buffer, other] = [other, buffer];
      yield { name, origin, start, values, blocks, isLast: start + piece >= length };
    }
  }
}

async function readPiece(
  checkpoint: Checkpoint,
  stored: StoredTensor,
  start: number,
  count: number,
  buffer: Float32Array,
): Promise<[Float32Array, Blocks | undefined]> {
  const { name, type } = stored;
  if (type !== 'q8_0' && type !== 'q4_0') return [await readF32(checkpoint, stored, start, count, buffer), undefined];
  const { bytes: size, elements } = blockFormats[type];
  const bytes = new Uint8Array((count / elements) * size);
  await checkpoint.read(name, bytes, (start / elements) * size);
  const values = buffer.subarray(0, count);
  decodeBlocks(type, bytes, values);
  return [values, { type, bytes }];
}

/** The same, but each is being read while the one before it is worked on. */
async function* ahead<Item>(source: AsyncGenerator<Item>): AsyncGenerator<Item> {
  let next = source.next();
  try {
    for (;;) {
      const item = await next;
      if (item.done) return;
      next = source.next();
      yield item.value;
    }
  } finally {
    // Whoever stopped early has an error of their own to tell.
    await next.catch(() => {});
  }
}

function hasFiniteScales({ type, bytes }: Blocks): boolean {
  const { bytes: size } = blockFormats[type];
  for (let at = 1; at < bytes.length; at += size) if ((bytes[at]! & 0x7c) === 0x7c) return false;
  return true;
}

function checkFinite(values: Float32Array, checkpoint: Checkpoint, stored: StoredTensor, start: number): void {
  if (!exceeds(values, LARGEST)) return;
  const index = values.findIndex((value) => !Number.isFinite(value));
  throw new WeightError(
    `${checkpoint.name}: ${stored.name} holds ${values[index]} at element ${start + index} of ${formatShape(stored.shape)}: the file is damaged or the training diverged`,
  );
}
