import { existsSync, readdirSync, statSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { availableParallelism } from 'node:os';
import { basename, dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { referenceBackend } from '../backends/reference/index.ts';
import { wasmBackend } from '../backends/wasm/index.ts';
import type { Backend, WeightFormat } from '../core/backend.ts';
import { ConfigError, FormatError, InputError } from '../core/errors.ts';
import type { Checkpoint, StoredType } from '../formats/checkpoint.ts';
import { openCheckpoint } from '../formats/open.ts';
import { dequantised } from '../formats/quantised.ts';
import { separateMixing } from '../formats/rwkv-cpp-parts.ts';
import { openSharded } from '../formats/sharded.ts';
import type { Json } from '../models/config.ts';
import { assemble, type Model } from '../runtime/model.ts';
import type { LoadProgress } from '../runtime/parameters.ts';
import { refuseUnknownOptions } from '../runtime/sampler.ts';
import { type ModelSizes, modelSizes } from '../runtime/sizes.ts';
import { huggingFaceTokenizer } from '../tokenizers/hugging-face.ts';
import { worldTokenizer } from '../tokenizers/rwkv-world.ts';
import type { Tokenizer } from '../tokenizers/tokenizer.ts';
import { type FetchProgress, fetchModel } from './hub.ts';
import { enableWasmFeatures, spawnThread } from './node.ts';
import { openFile } from './node-file.ts';

/** The model that is used when none is named: it comes with the package. */
export const embeddedModel = 'tiny-books-mamba-13m';

export interface LoadOptions {
  /** How matrices are held in memory: as they are stored (`auto`, the default) or in a format. */
  readonly weights?: WeightFormat | 'auto';
  /** Threads to compute with. Default: one per core, at most 8. */
  readonly threads?: number;
  /** What computes: `wasm` (default), or the slow and exact `reference`. */
  readonly backend?: 'wasm' | 'reference' | 'reference-f64';
  readonly signal?: AbortSignal;
  /** Told how much of the checkpoint is loaded into memory. */
  readonly onProgress?: (progress: LoadProgress) => void;
  /** Told how a download from the hub goes. */
  readonly onDownload?: (progress: FetchProgress) => void;
  /** Branch, tag or commit on the hub. Default `main`. */
  readonly revision?: string;
  /** Only what is in the cache already: no network. Also by HF_HUB_OFFLINE=1. */
  readonly offline?: boolean;
  /** Access token of the hub, for gated models. Default: HF_TOKEN. */
  readonly token?: string;
  /** The hub's cache folder. Default: HF_HOME's. */
  readonly cacheDir?: string;
}

const optionNames: readonly (keyof LoadOptions)[] = [
  'weights',
  'threads',
  'backend',
  'signal',
  'onProgress',
  'onDownload',
  'revision',
  'offline',
  'token',
  'cacheDir',
];

/**
 * Loads a model: the embedded one by default, or from a folder with `config.json`, from a checkpoint file, or from the
 * Hugging Face hub (`org/name`), which is downloaded once into the standard cache.
 */
export async function load(name: string = embeddedModel, options: LoadOptions = {}): Promise<Model> {
  refuseUnknownOptions(options, optionNames);
  const location = await locate(name, options);
  const { checkpoint, config, tokenizer } = await open(location);
  try {
    const backend = await makeBackend(options);
    try {
      const weights = weightFormat(options.weights ?? 'auto', checkpoint, backend);
      const { signal, onProgress } = options;
      return await assemble({ config, checkpoint, tokenizer }, backend, {
        weights,
        signal,
        onProgress,
        ownsBackend: true,
      });
    } catch (error) {
      backend.dispose();
      throw error;
    }
  } finally {
    await checkpoint.close();
  }
}

/**
 * What a model is and what it takes: architecture, parameters, memory, state, tensors. Only headers are read. Of the options
 * only those that find the model count.
 */
export async function inspect(
  name: string = embeddedModel,
  options: Pick<LoadOptions, 'signal' | 'onDownload' | 'revision' | 'offline' | 'token' | 'cacheDir'> = {},
): Promise<ModelSizes> {
  refuseUnknownOptions(options, ['signal', 'onDownload', 'revision', 'offline', 'token', 'cacheDir']);
  const { checkpoint, config, file } = await open(await locate(name, options));
  try {
    return modelSizes(config, checkpoint, file);
  } finally {
    await checkpoint.close();
  }
}

/** The folder or file that `name` means. */
async function locate(name: string, options: LoadOptions): Promise<string> {
  if (existsSync(name)) return name;
  const embedded = fileURLToPath(new URL(`../../models/${name}`, import.meta.url));
  if (/^[\w.-]+$/.test(name) && existsSync(embedded)) return embedded;
  if (/^[\w.-]+\/[\w.-]+(@[\w./-]+|\/[\w./-]+)?$/.test(name) && !name.startsWith('.')) {
    const { revision, signal, offline, token, cacheDir, onDownload } = options;
    return await fetchModel(name, { revision, signal, offline, token, cacheDir, onProgress: onDownload });
  }
  throw new InputError(
    `there is no model ${name}: it is no folder or file here, no embedded model (${embeddedModel}), and no hub id like org/name`,
  );
}

interface Opened {
  readonly checkpoint: Checkpoint;
  /** The checkpoint as it lies on disk. */
  readonly file: Checkpoint;
  readonly config: Json;
  readonly tokenizer: Tokenizer | undefined;
}

/** Opens the files of a model: a folder, or a checkpoint file with its companions beside it. */
async function open(location: string): Promise<Opened> {
  const isFolder = statSync(location).isDirectory();
  const folder = isFolder ? location : dirname(location);
  const stored = await readJson(join(folder, 'config.json'), ConfigError);
  const checkpoint = await openWeights(isFolder ? weightsFile(location) : location);
  try {
    // RWKV's author publishes checkpoints without a configuration: their tensors tell everything.
    const complete = checkpoint.format === 'pth' || checkpoint.format === 'rwkv.cpp';
    if (stored === undefined && !complete)
      throw new ConfigError(`${folder} has no config.json: without it the model's sizes are unknown`);
    const config = stored ?? { format: checkpoint.format };
    const plain = checkpoint.format === 'rwkv.cpp' ? separateMixing(checkpoint) : dequantised(checkpoint);
    return { checkpoint: plain, file: checkpoint, config, tokenizer: await openTokenizer(folder) };
  } catch (error) {
    await checkpoint.close();
    throw error;
  }
}

/** The file of a folder that holds a model's weights, or the index of several. */
function weightsFile(folder: string): string {
  const files = readdirSync(folder);
  const usual = [
    'model.safetensors',
    'model.safetensors.index.json',
    'pytorch_model.bin',
    'pytorch_model.bin.index.json',
  ];
  const found = usual.find((name) => files.includes(name));
  if (found) return join(folder, found);
  const others = files.filter((name) => /\.(safetensors|pth|bin|gguf)$/.test(name));
  if (others.length === 1) return join(folder, others[0]!);
  const held =
    others.length > 1
      ? `but several others (${others.slice(0, 5).join(', ')}): name one of them`
      : 'nor any other checkpoint';
  throw new InputError(`${folder} has no model.safetensors and no model.safetensors.index.json, ${held}`);
}

async function openWeights(location: string): Promise<Checkpoint> {
  const openAt = async (path: string): Promise<Checkpoint> => {
    const source = await openFile(path);
    try {
      return await openCheckpoint(source);
    } catch (error) {
      await source.close();
      throw error;
    }
  };
  if (!location.endsWith('.json')) return await openAt(location);
  return await openSharded(location, await readJson(location, FormatError), (file) =>
    openAt(join(dirname(location), file)),
  );
}

/** The tokenizer beside a model: `tokenizer.json`, or the vocabulary file of RWKV's World models. */
async function openTokenizer(folder: string): Promise<Tokenizer | undefined> {
  const path = join(folder, 'tokenizer.json');
  const json = await readJson(path, FormatError);
  if (json !== undefined) {
    const settings = await readJson(join(folder, 'tokenizer_config.json'), FormatError);
    return huggingFaceTokenizer(json, settings, path);
  }
  const vocabulary = readdirSync(folder).find((name) => /^rwkv_vocab.*\.txt$/.test(name));
  if (vocabulary === undefined) return undefined;
  return worldTokenizer(await readFile(join(folder, vocabulary), 'utf8'), join(folder, vocabulary));
}

/** A JSON object from a file; undefined where there is no such file. */
async function readJson(path: string, Failure: typeof FormatError | typeof ConfigError): Promise<Json | undefined> {
  if (!existsSync(path)) return undefined;
  const text = await readFile(path, 'utf8');
  let json: unknown;
  try {
    // Some versions of transformers write Infinity, which is not JSON, as a bare word.
    json = JSON.parse(text.replace(/(?<=[[,:]\s*)(-?Infinity)(?=\s*[\],}])/g, '"$1"'));
  } catch (cause) {
    throw new Failure(`${path} is not valid JSON: ${(cause as Error).message}`, { cause });
  }
  if (typeof json !== 'object' || json === null || Array.isArray(json))
    throw new Failure(`${basename(path)} is not an object (${path})`);
  return json as Json;
}

async function makeBackend({
  backend = 'wasm',
  threads = Math.min(8, availableParallelism()),
}: LoadOptions): Promise<Backend> {
  if (!Number.isInteger(threads) || threads < 1 || threads > 256)
    throw new InputError(`threads is ${threads}: it must be a whole number from 1 to 256`);
  if (backend === 'reference') return referenceBackend('f32');
  if (backend === 'reference-f64') return referenceBackend('f64');
  if (backend !== 'wasm') throw new InputError(`backend is ${String(backend)}; known: wasm, reference, reference-f64`);
  enableWasmFeatures();
  return await wasmBackend({ threads, spawn: spawnThread });
}

const formats: readonly (WeightFormat | 'auto')[] = ['auto', 'f32', 'bf16', 'f16'];

/** `auto` holds matrices as most of the checkpoint stores them. */
function weightFormat(wanted: WeightFormat | 'auto', checkpoint: Checkpoint, backend: Backend): WeightFormat {
  if (!formats.includes(wanted)) throw new InputError(`weights is ${String(wanted)}; known: ${formats.join(', ')}`);
  const isReference = backend.name.startsWith('reference');
  if (wanted !== 'auto') {
    if (isReference && wanted !== 'f32')
      throw new InputError(`the reference backend holds weights in full precision, not ${wanted}`);
    return wanted;
  }
  if (isReference) return 'f32';
  const bytes = new Map<StoredType, number>();
  for (const { type, byteLength } of checkpoint.tensors.values()) bytes.set(type, (bytes.get(type) ?? 0) + byteLength);
  const [most] = [...bytes].sort(([, a], [, b]) => b - a)[0] ?? ['f32'];
  return most === 'bf16' || most === 'f16' ? most : 'f32';
}
