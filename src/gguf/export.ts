import { UnsupportedError } from '../core/errors.ts';
import { blockFormats, type EncodableBlockType } from '../formats/gguf-blocks.ts';
import type { GgufValue } from '../formats/gguf-header.ts';
import type { GgufTensor } from '../formats/gguf-writer.ts';
import type { Json } from '../models/config.ts';
import { type Dialect, type Holding, size, string, u32 } from './dialect.ts';
import { dialects } from './index.ts';

/** How matrices are written. */
export type GgufMatrixType = GgufTensor['type'];

/** A model to be written. */
export interface ExportedModel {
  /** The architecture's `model_type`. */
  readonly type: string;
  /** The architecture's parsed configuration, and the one that it was parsed from. */
  readonly parsed: unknown;
  readonly config: Json;
  /** Shapes of the parameters. */
  readonly parameters: ReadonlyMap<string, readonly number[]>;
  /** A parameter's numbers, row-major, in pieces. */
  pieces(name: string): AsyncIterable<Float32Array>;
  /** The same in blocks of a format, where they are there in integers that it has: no number changes then. */
  blocks?(name: string, type: EncodableBlockType): AsyncIterable<Uint8Array> | undefined;
}

export interface ExportOptions {
  readonly type: GgufMatrixType;
  /**
   * What embedding and head are written as. By default they are kept in 8 bits where the other matrices are made 4: they
   * weigh most in the quality.
   */
  readonly embedding?: GgufMatrixType | undefined;
  /** What matrices of parameters are written as, whatever `type` is. */
  readonly kept?: ReadonlyMap<string, GgufMatrixType>;
  readonly name?: string | undefined;
}

/** `general.file_type` of files whose matrices are mostly of a type (`enum llama_ftype`). */
const fileTypes: Readonly<Record<GgufMatrixType, number>> = { f32: 0, f16: 1, q4_0: 2, q8_0: 7 };

/** What to write for a model: the header's metadata (without the tokenizer's) and the tensors. */
export function ggufExport(
  model: ExportedModel,
  options: ExportOptions,
): { metadata: Record<string, GgufValue>; tensors: GgufTensor[] } {
  const dialect: Dialect = dialectOf(model.type);
  const heads = dialect.heads?.(model.parsed) ?? { H: 0, G: 0 };
  const table = new Map(Object.entries(dialect.tensors(heads)));
  const layers = layerCount(model.parameters.keys());
  const tensors: (GgufTensor & { readonly layer: number })[] = [];
  const written = new Set<string>();
  for (const [template, found] of table) {
    if (found === null) continue;
    const holding: Holding = typeof found === 'string' ? { parameters: [found] } : found;
    for (let layer = 0; layer < (template.includes('#') ? layers : 1); layer++) {
      const names = holding.parameters.map((parameter) => parameter.replace('#', String(layer)));
      if (!names.every((name) => model.parameters.has(name))) continue;
      for (const name of names) written.add(name);
      const name = template.replace('#', String(layer));
      tensors.push({
        ...exported(name, names, holding, model, dialect, options),
        layer: template.includes('#') ? layer : -1,
      });
    }
  }
  const { embedding } = dialect;
  if (embedding && !tensors.some(({ name }) => name === 'output.weight'))
    tensors.push({
      ...exported('output.weight', [embedding], { parameters: [embedding] }, model, dialect, options),
      layer: -1,
    });
  const left = [...model.parameters.keys()].filter((name) => !written.has(name));
  if (left.length > 0)
    throw new UnsupportedError(
      `llama.cpp's ${dialect.architecture} has no place for ${left.slice(0, 3).join(', ')}${left.length > 3 ? ` and ${left.length - 3} more` : ''}`,
    );
  for (const { name, shape, values } of dialect.extras?.(model.parsed, model.config) ?? [])
    tensors.push({ name, type: 'f32', shape, data: () => [values], layer: -1 });
  tensors.sort((a, b) => a.layer - b.layer);
  const own = Object.entries(dialect.metadata(model.parsed, model.config));
  return {
    metadata: {
      'general.architecture': string(dialect.architecture),
      'general.name': string(options.name ?? dialect.architecture),
      'general.file_type': u32(fileTypes[options.type]),
      // Files without a tokenizer tell their vocabulary by this alone.
      [`${dialect.architecture}.vocab_size`]: u32(tensors.find(({ name }) => name === 'token_embd.weight')!.shape[0]!),
      ...Object.fromEntries(own.map(([key, value]) => [`${dialect.architecture}.${key}`, value])),
    },
    tensors,
  };
}

function dialectOf(type: string): Dialect {
  const dialect = dialects.find(({ types }) => types.includes(type));
  if (dialect) return dialect as Dialect;
  const known = dialects.flatMap(({ types }) => types).join(', ');
  if (type === 'bamba')
    throw new UnsupportedError(
      `llama.cpp runs bamba as its architecture granitehybrid, which is not written here: GGUF can be written of ${known}`,
    );
  throw new UnsupportedError(`llama.cpp has no architecture for ${type}: GGUF can be written of ${known}`);
}

function layerCount(names: Iterable<string>): number {
  let layers = 0;
  for (const name of names) layers = Math.max(layers, 1 + Number(/\.(\d+)\./.exec(name)?.[1] ?? -1));
  return layers;
}

function exported(
  name: string,
  names: readonly string[],
  holding: Holding,
  model: ExportedModel,
  dialect: Dialect,
  options: ExportOptions,
): GgufTensor {
  const first = model.parameters.get(names[0]!)!;
  const shape = names.length > 1 ? [names.length, ...first] : (holding.stored?.(first) ?? first);
  const type = typeOf(name, names, shape, dialect, options);
  return { name, type, shape, data: () => dataOf(names, type, holding, model) };
}

/** Only matrices are written in fewer bits, and in blocks only those whose rows are whole blocks. */
function typeOf(
  name: string,
  names: readonly string[],
  shape: readonly number[],
  { precise }: Dialect,
  { type, embedding, kept }: ExportOptions,
): GgufMatrixType {
  if (shape.length !== 2 || precise.test(name)) return 'f32';
  const isEmbedding = /^(token_embd|output)\.weight$/.test(name);
  const usual = isEmbedding && type === 'q4_0' ? 'q8_0' : type;
  const wanted = (isEmbedding ? embedding : undefined) ?? kept?.get(names[0]!) ?? usual;
  const isBlocks = wanted === 'q8_0' || wanted === 'q4_0';
  return isBlocks && shape[1]! % 32 !== 0 ? 'f16' : wanted;
}

async function* dataOf(
  names: readonly string[],
  type: GgufMatrixType,
  { order, write }: Holding,
  model: ExportedModel,
): AsyncIterable<Float32Array | Uint8Array> {
  for (const name of names) {
    const isBlocks = type === 'q8_0' || type === 'q4_0';
    const blocks = isBlocks && !write ? model.blocks?.(name, type) : undefined;
    if (!order && !write) {
      yield* blocks ?? model.pieces(name);
      continue;
    }
    const shape = model.parameters.get(name)!;
    if (isBlocks && blocks) {
      const { elements, bytes } = blockFormats[type];
      yield reordered(await whole(blocks, new Uint8Array((size(shape) / elements) * bytes)), shape[0]!, order!);
      continue;
    }
    const values = await whole(model.pieces(name), new Float32Array(size(shape)));
    yield write ? write(values, shape) : reordered(values, shape[0]!, order!);
  }
}

/** Fills `into` with pieces. */
async function whole<Values extends Float32Array | Uint8Array>(
  pieces: AsyncIterable<Values>,
  into: Values,
): Promise<Values> {
  let at = 0;
  for await (const piece of pieces) {
    into.set(piece, at);
    at += piece.length;
  }
  return into;
}

function reordered<Values extends Float32Array | Uint8Array>(
  values: Values,
  rows: number,
  order: NonNullable<Holding['order']>,
): Values {
  const width = values.length / rows;
  const result = values.slice() as Values;
  for (let row = 0; row < rows; row++)
    result.set(values.subarray(row * width, (row + 1) * width), order(row, rows) * width);
  return result;
}
