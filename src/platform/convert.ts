import { existsSync, rmSync } from 'node:fs';
import { stat } from 'node:fs/promises';
import { basename, join, resolve } from 'node:path';
import { InputError, WeightError } from '../core/errors.ts';
import { float16ToNumber, numberToFloat16 } from '../core/float16.ts';
import type { StoredType } from '../formats/checkpoint.ts';
import { blockFormats, type EncodableBlockType, isBlockType, widenBlocks } from '../formats/gguf-blocks.ts';
import { encodeGguf } from '../formats/gguf-writer.ts';
import { canQuantise, type QuantisedFormat, quantisedTensors, tensorsOfBlocks } from '../formats/quantised.ts';
import { encodeSafetensors, type WrittenTensor } from '../formats/safetensors-writer.ts';
import { typesInFile } from '../formats/types-in-file.ts';
import { type GgufMatrixType, ggufExport } from '../gguf/export.ts';
import { tokenizerMetadata } from '../gguf/tokenizer-export.ts';
import { type Conversion, type ConvertedParameter, conversion } from '../runtime/conversion.ts';
import { difference } from '../runtime/fingerprint.ts';
import { folderForm } from '../runtime/folder-form.ts';
import { isWide } from '../runtime/parameters.ts';
import { refuseUnknownOptions } from '../runtime/sampler.ts';
import { State } from '../runtime/state.ts';
import { INITIAL_STATE, type ModelFiles, openModelFiles } from './model-files.ts';
import { writeCompanions } from './model-folder.ts';
import { makeFolder, writeFileAtomically } from './node-file.ts';
import { initialStateOf, type LocateOptions, load, locate } from './node-load.ts';

/** How matrices can be written: `q8` and `q4` are the 8 and 4 bits of either format, which GGUF calls q8_0 and q4_0. */
export const convertTypes = ['auto', 'f32', 'bf16', 'f16', 'q8', 'q4', 'q8_0', 'q4_0'] as const;

export interface ConvertOptions extends LocateOptions {
  /** How matrices are written; `auto`, the default, each as it is stored, or as near to it as the format comes. */
  readonly type?: (typeof convertTypes)[number];
  /** Of GGUF: what embedding and head are written as. Default: 8 bits where `type` asks for 4, otherwise the same. */
  readonly embedding?: GgufMatrixType;
  /** Told the bytes written so far, and of how many. */
  readonly onProgress?: (progress: { written: number; total: number }) => void;
}

export interface Converted {
  readonly output: string;
  readonly format: 'gguf' | 'safetensors';
  readonly architecture: string;
  /** What most of the matrices are written as. */
  readonly type: StoredType | QuantisedFormat;
  readonly tensors: number;
  readonly bytes: number;
  /** What other programs that read the file leave out, and what was left out of it. */
  readonly notes: readonly string[];
}

/**
 * Writes a model in another form: a GGUF file where `output` ends in .gguf, otherwise a folder with config.json,
 * model.safetensors, the tokenizer's files and, where the model's folder has one, initial.state. Nothing is left half written.
 */
export async function convert(name: string, output: string, options: ConvertOptions = {}): Promise<Converted> {
  refuseUnknownOptions(options, [
    'type',
    'embedding',
    'onProgress',
    'signal',
    'onDownload',
    'revision',
    'offline',
    'token',
    'cacheDir',
  ]);
  const location = await locate(name, options);
  if (resolve(location) === resolve(output)) throw new InputError(`${output} would be written over itself`);
  const files = await openModelFiles(location);
  try {
    const model = conversion(files.config, files.checkpoint);
    const settings = { ...options, type: options.type ?? 'auto' };
    if (output.endsWith('.gguf')) {
      const converted = await writeGguf(files, model, output, settings);
      return initialStateOf(location) === undefined ? converted : withNote(converted, noPlaceForState);
    }
    // Before anything is written: one that is not the model's is refused.
    const initial = await initialStateIn(location, options);
    const converted = await writeFolder(files, model, output, settings);
    const note = await carryInitialState(initial, output, options);
    return note === undefined ? converted : withNote(converted, note);
  } finally {
    await files.checkpoint.close();
  }
}

const withNote = (converted: Converted, note: string): Converted => ({
  ...converted,
  notes: [...converted.notes, note],
});

const noPlaceForState =
  'initial.state was not written: GGUF has no place for it, and texts begin with the empty state there';

/** The state that texts begin with, of the model in a folder; InputError where it is another model's. */
async function initialStateIn(location: string, { signal }: ConvertOptions): Promise<State | undefined> {
  if (initialStateOf(location) === undefined) return undefined;
  const model = await load(location, { threads: 1, ...(signal && { signal }) });
  const state = model.initialState;
  model.dispose();
  return state;
}

/**
 * Writes the state that texts begin with beside the converted model, as that model's: a tuned state is as good for matrices in other bits, and one
 * of a text is only for those that read it. Without one, the folder has none. Returns what is to be told.
 */
async function carryInitialState(
  state: State | undefined,
  output: string,
  { signal }: ConvertOptions,
): Promise<string | undefined> {
  const path = join(output, INITIAL_STATE);
  rmSync(path, { force: true });
  if (!state) return undefined;
  const model = await load(output, { threads: 1, ...(signal && { signal }) });
  try {
    const { fingerprint } = model;
    const other = state.position > 0 ? difference(state.model, fingerprint) : undefined;
    if (other !== undefined)
      return `initial.state was not written: it is of a text of ${state.position} tokens that other numbers read (${other})`;
    await writeFileAtomically(path, [new State({ ...state, model: fingerprint }).save()]);
    return undefined;
  } finally {
    model.dispose();
  }
}

type Options = ConvertOptions & { readonly type: NonNullable<ConvertOptions['type']> };

async function writeGguf(files: ModelFiles, model: Conversion, output: string, options: Options): Promise<Converted> {
  const type = ggufType(options.type, storedType(files, model));
  const parameters = new Map([...model.parameters].map(([name, { shape }]) => [name, shape]));
  const { metadata, tensors } = ggufExport(
    {
      type: model.type,
      parsed: model.parsed,
      config: files.config,
      parameters,
      pieces: (name) => checked(name, model.parameters.get(name)!.pieces()),
      blocks: (name, wanted) => blocksOf(model.parameters.get(name)!, wanted),
    },
    {
      type,
      embedding: options.embedding,
      ...(options.type === 'auto' && { kept: ggufTypes(files, model) }),
      name: basename(output, '.gguf'),
    },
  );
  const tokenizer = tokenizerMetadata({
    ...files.tokenizerFiles,
    chatTemplate: files.templateSource,
    config: files.config,
    vocabularySize: model.vocabularySize,
  });
  await writeFileAtomically(output, watched(encodeGguf({ ...metadata, ...tokenizer }, tensors), model, options));
  return {
    output,
    format: 'gguf',
    architecture: model.type,
    type,
    tensors: tensors.length,
    bytes: (await stat(output)).size,
    notes: [
      ...leftOut(Object.keys({ ...metadata, ...tokenizer })),
      ...(files.tokenizerProblem === undefined ? [] : [`no tokenizer was written: ${files.tokenizerProblem}`]),
    ],
  };
}

/** Keys of ours that llama.cpp takes no notice of, and what follows. */
const unknownKeys: readonly (readonly [RegExp, string])[] = [
  [/^llama\.attention\.sliding_window$/, 'the sliding window: texts longer than it are seen whole there'],
  [/\.ssm\.time_step_limit_/, 'the bounds of Δ'],
  [/\.rope\.scaling\.yarn_beta_/, 'bounds of YaRN’s ramp other than 32 and 1 turns'],
  [/\.rope\.scaling\.yarn_truncate$/, 'that YaRN’s ramp begins and ends between pairs of channels'],
  [/\.ssm\.dt_b_c_rms_epsilon$/, 'that Δ, B and C have an epsilon of their own'],
  [/^tokenizer\.ggml\.normalizer$/, 'that texts are normalised (NFC): composed characters may be other tokens there'],
];

const leftOut = (keys: readonly string[]): string[] =>
  unknownKeys
    .filter(([pattern]) => keys.some((key) => pattern.test(key)))
    .map(([, what]) => `llama.cpp takes no notice of ${what}`);

/** What most numbers of matrices are stored as, those of the vocabulary left aside: they are often kept in more bits. */
function storedType({ file, held }: ModelFiles, { parameters, vocabularySize }: Conversion): StoredType {
  const types = typesInFile(file, held);
  const numbers = new Map<StoredType, number>();
  for (const { shape, stored } of parameters.values()) {
    if (shape.length !== 2 || shape.includes(vocabularySize)) continue;
    const type = types.get(stored.name) ?? stored.type;
    numbers.set(type, (numbers.get(type) ?? 0) + shape[0]! * shape[1]!);
  }
  return [...numbers].sort(([, a], [, b]) => b - a)[0]?.[0] ?? 'f32';
}

const ggufNames = { f32: 'f32', f16: 'f16', q8: 'q8_0', q4: 'q4_0', q8_0: 'q8_0', q4_0: 'q4_0' } as const;

/** What is asked for, or the type of GGUF's that comes nearest to the stored one. */
function ggufType(wanted: Options['type'], stored: StoredType): GgufMatrixType {
  if (wanted === 'bf16') throw new InputError('GGUF files are written as f32, f16, q8 or q4, not bf16');
  if (wanted !== 'auto') return ggufNames[wanted];
  const nearest = folderType('auto', stored);
  // bf16 fits f16 but for the very large and very small, which weights are not.
  return nearest === 'bf16' ? 'f16' : ggufNames[nearest];
}

/** For every parameter the type of GGUF's that comes nearest to its own in the file: f32 for integers whose rows are not whole blocks. */
function ggufTypes({ file, held }: ModelFiles, { parameters }: Conversion): Map<string, GgufMatrixType> {
  const types = typesInFile(file, held);
  const nearest = ({ stored }: ConvertedParameter): GgufMatrixType => {
    const type = ggufType('auto', types.get(stored.name) ?? stored.type);
    const isWhole = stored.shape.at(-1)! % blockFormats.q8_0.elements === 0;
    return isWhole || type === 'f16' ? type : 'f32';
  };
  return new Map([...parameters].map(([name, parameter]) => [name, nearest(parameter)]));
}

/** A matrix's blocks as they are stored; those of 4 bits can be written in 8 as well. */
function blocksOf(parameter: ConvertedParameter, type: EncodableBlockType): AsyncIterable<Uint8Array> | undefined {
  const blocks = parameter.storedBlocks(type === 'q8_0' ? 'q8' : 'q4');
  if (blocks) return checkedBlocks(parameter.stored.name, blocks, blockFormats[type].bytes);
  const narrow = type === 'q8_0' ? parameter.storedBlocks('q4') : undefined;
  return narrow && widened(checkedBlocks(parameter.stored.name, narrow, blockFormats.q4_0.bytes));
}

async function* widened(pieces: AsyncIterable<Uint8Array>): AsyncIterable<Uint8Array> {
  for await (const bytes of pieces) yield widenBlocks(bytes);
}

/** Passes blocks on; WeightError for those whose scale, their first two bytes, is no number. */
async function* checkedBlocks(
  name: string,
  pieces: AsyncIterable<Uint8Array>,
  size: number,
): AsyncIterable<Uint8Array> {
  for await (const bytes of pieces) {
    for (let at = 0; at < bytes.length; at += size) {
      const scale = float16ToNumber(bytes[at]! | (bytes[at + 1]! << 8));
      if (!Number.isFinite(scale))
        throw new WeightError(`${name} holds a scale of ${scale}: the file is damaged or the training diverged`);
    }
    yield bytes;
  }
}

async function writeFolder(files: ModelFiles, model: Conversion, output: string, options: Options): Promise<Converted> {
  if (/\.(safetensors|bin|pth)$/.test(output))
    throw new InputError(`${output}: a folder is written, or a file that ends in .gguf`);
  const type = folderType(options.type, storedType(files, model));
  const types = typesInFile(files.file, files.held);
  const form = folderForm(files.config, files.file, { architecture: model.architecture, config: model.parsed });
  const tensors: WrittenTensor[] = [];
  for (const parameter of model.parameters.values()) {
    options.signal?.throwIfAborted();
    const { stored, makesSharedValues } = parameter;
    const named = folderType(options.type, types.get(stored.name) ?? stored.type);
    // As in memory: what is in 4 bits already stays so.
    const isPrecious = named === 'q4' && makesSharedValues && !parameter.storedBlocks('q4');
    const matrixType = isPrecious ? 'q8' : named;
    tensors.push(...(await written(parameter, matrixType, !form.asStored, options.type === 'auto')));
  }
  if (existsSync(output) && !(await stat(output)).isDirectory())
    throw new InputError(`${output} is a file, not a folder`);
  makeFolder(output);
  const target = join(output, 'model.safetensors');
  await writeFileAtomically(target, watched(encodeSafetensors(tensors, { format: 'pt' }), model, options));
  await writeCompanions(output, { ...files, config: { ...form.config, dtype: dtypes[type] } });
  return {
    output,
    format: 'safetensors',
    architecture: model.type,
    type,
    tensors: tensors.length,
    bytes: (await stat(target)).size,
    notes: files.tokenizerProblem === undefined ? [] : [`no tokenizer was written: ${files.tokenizerProblem}`],
  };
}

type PlainType = 'f32' | 'bf16' | 'f16';
type FolderType = PlainType | QuantisedFormat;

const folderNames = { f32: 'f32', bf16: 'bf16', f16: 'f16', q8: 'q8', q4: 'q4', q8_0: 'q8', q4_0: 'q4' } as const;

/** What is asked for, or what comes nearest to the stored type: to GGUF's blocks of other kinds that is f16. */
function folderType(wanted: Options['type'], stored: StoredType): FolderType {
  if (wanted !== 'auto') return folderNames[wanted];
  if (stored === 'bf16' || stored === 'f16') return stored;
  if (stored === 'q8_0') return 'q8';
  if (stored === 'q4_0') return 'q4';
  return isBlockType(stored) ? 'f16' : 'f32';
}

/**
 * Matrices in the wanted type, all else as it is stored; of matrices only those are quantised that are held so in memory, and where each is to be as it
 * is stored, those narrow ones whose blocks are there.
 */
async function written(
  parameter: ConvertedParameter,
  matrixType: FolderType,
  own: boolean,
  isAsStored: boolean,
): Promise<WrittenTensor[]> {
  const { stored, layout } = parameter;
  const name = own ? parameter.name : stored.name;
  const shape = own ? parameter.shape : stored.shape;
  const numbers = () => checked(stored.name, own ? parameter.pieces() : parameter.storedPieces());
  const plain: PlainType = stored.type === 'f16' || stored.type === 'bf16' ? stored.type : 'f32';
  if (matrixType === 'q8' || matrixType === 'q4') {
    const [O, I] = parameter.shape as [number, number];
    const blocks = parameter.storedBlocks(matrixType);
    const isHeld = isWide(parameter.shape) || (isAsStored && blocks !== undefined);
    if (layout === 'linear' && isHeld) {
      if (blocks) {
        const { bytes } = blockFormats[matrixType === 'q8' ? 'q8_0' : 'q4_0'];
        return await tensorsOfBlocks(name, [O, I], checkedBlocks(stored.name, blocks, bytes), matrixType);
      }
      if (canQuantise(matrixType, I)) return await quantisedTensors(name, [O, I], numbers(), matrixType);
    }
    return [{ name, type: plain, shape, data: () => encoded(numbers(), plain) }];
  }
  const type = layout === 'rows' ? plain : matrixType;
  return [{ name, type, shape, data: () => encoded(numbers(), type) }];
}

const words = new Float32Array(1);
const bits = new Uint32Array(words.buffer);

/** Rounds to the nearest bf16, ties to even. */
function toBf16(value: number): number {
  words[0] = value;
  return (bits[0]! + 0x7fff + ((bits[0]! >>> 16) & 1)) >>> 16;
}

async function* encoded(pieces: AsyncIterable<Float32Array>, type: PlainType): AsyncIterable<Uint8Array> {
  for await (const values of pieces) {
    if (type === 'f32') yield new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
    else yield new Uint8Array(Uint16Array.from(values, type === 'f16' ? numberToFloat16 : toBf16).buffer);
  }
}

/** Passes numbers on; WeightError for those that are none. */
async function* checked(name: string, pieces: AsyncIterable<Float32Array>): AsyncIterable<Float32Array> {
  for await (const values of pieces) {
    const bad = values.find((value) => !Number.isFinite(value));
    if (bad !== undefined) throw new WeightError(`${name} holds ${bad}: the file is damaged or the training diverged`);
    yield values;
  }
}

/** Passes pieces on, tells how many bytes they are, and stops when asked to. */
async function* watched(
  pieces: AsyncIterable<Uint8Array>,
  model: Conversion,
  { signal, onProgress }: ConvertOptions,
): AsyncIterable<Uint8Array> {
  const total = [...model.parameters.values()].reduce((sum, { stored }) => sum + stored.byteLength, 0);
  let written = 0;
  for await (const piece of pieces) {
    signal?.throwIfAborted();
    yield piece;
    written += piece.length;
    onProgress?.({ written, total: Math.max(written, total) });
  }
}

/** What transformers reads numbers as. Those of integers it refuses, and would otherwise take for the weights themselves. */
const dtypes: Readonly<Record<FolderType, string>> = {
  f32: 'float32',
  bf16: 'bfloat16',
  f16: 'float16',
  q8: 'int8',
  q4: 'uint8',
};
