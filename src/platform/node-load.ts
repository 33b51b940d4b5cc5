import { existsSync, readdirSync, statSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { referenceBackend } from '../backends/reference/index.ts';
import { hasSharedMemory, type StartedBackend, startWasmBackend } from '../backends/wasm/index.ts';
import type { Backend, WeightFormat } from '../core/backend.ts';
import { InputError } from '../core/errors.ts';
import type { StateFormat } from '../core/state-format.ts';
import { typesInFile } from '../formats/types-in-file.ts';
import type { LoadProgress } from '../runtime/load-parameters.ts';
import { assemble, type Model } from '../runtime/model.ts';
import { refuseUnknownOptions } from '../runtime/sampler.ts';
import { type ModelSizes, modelSizes } from '../runtime/sizes.ts';
import { type FetchProgress, fetchModel } from './hub.ts';
import { INITIAL_STATE, openModelFiles } from './model-files.ts';
import { enableWasmFeatures, spawnThread } from './node.ts';
import { setRevectorization } from './revectorization.ts';
import { sessionFiles } from './session-files.ts';
import { loadState } from './state-files.ts';

/** The model that is used when none is named: it comes with the package. */
export const embeddedModel = 'tiny-books-mamba-13m';

export interface LoadOptions {
  /** How matrices are held in memory: each as it is stored (`auto`, the default), or all in a format. */
  readonly weights?: WeightFormat | 'auto';
  /**
   * How keys and values of attention are kept: `f32` (default), or `f16`, which takes half the memory and is faster after long texts, for
   * rounding them. InputError for a model without attention.
   */
  readonly kvCache?: StateFormat;
  /** Threads to compute with. Default: one per core, at most 8; one without SharedArrayBuffer, which more need. */
  readonly threads?: number;
  /** What computes: `wasm` (default), or the slow and exact `reference`. */
  readonly backend?: 'wasm' | 'reference' | 'reference-f64';
  /**
   * Whether kernels may be compiled to 256-bit operations where Node can and they were found to compute the same (default). Where that is not known yet,
   * at the first start with a version of Node, kernels are compared beside this for later starts; with `true`, loading waits for it.
   * It holds for the whole process, from this model on until another says otherwise. Also off by RIVERRUN_REVECTORIZE=0.
   */
  readonly revectorize?: boolean;
  /** In the place of the model's own tokenizer: `bytes`, a tokenizer.json, a vocabulary of RWKV World, or a folder with either. */
  readonly tokenizer?: string;
  /** A folder with a low-rank adapter (`adapter_config.json`, `adapter_model.safetensors`), which is merged into the model. */
  readonly adapter?: string;
  /**
   * A file of the state that sessions begin with: a tuned one, or one that was saved after a text. Default: `initial.state` of the model's folder, where
   * `finetune --method state` writes it; false leaves it alone.
   */
  readonly state?: string | false;
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

/** The options that find a model's files. */
export type LocateOptions = Pick<LoadOptions, 'signal' | 'onDownload' | 'revision' | 'offline' | 'token' | 'cacheDir'>;

const locateOptionNames = ['signal', 'onDownload', 'revision', 'offline', 'token', 'cacheDir'] as const;

const optionNames: readonly (keyof LoadOptions)[] = [
  'weights',
  'kvCache',
  'threads',
  'backend',
  'revectorize',
  'tokenizer',
  'adapter',
  'state',
  'onProgress',
  ...locateOptionNames,
];

/**
 * Loads a model: the embedded one by default, or from a folder with `config.json`, from a checkpoint file, or from the
 * Hugging Face hub (`org/name`), which is downloaded once into the standard cache.
 */
export async function load(name: string = embeddedModel, options: LoadOptions = {}): Promise<Model> {
  refuseUnknownOptions(options, optionNames);
  const location = await locate(name, options);
  // Kernels are compiled and threads started while the files are opened and the model is traced.
  const preparing = startBackend(options);
  const opening = openModelFiles(location, { tokenizer: options.tokenizer, adapter: options.adapter });
  const [prepared, opened] = await Promise.allSettled([preparing, opening]);
  try {
    if (opened.status === 'rejected') throw opened.reason;
    if (prepared.status === 'rejected') throw prepared.reason;
    const { checkpoint, file, held, config, tokenizer, tokenizerProblem, chatTemplate, endTokens } = opened.value;
    const types = typesInFile(file, held);
    const source = { config, checkpoint, types, tokenizer, tokenizerProblem, chatTemplate, endTokens };
    const { backend, ready } = prepared.value;
    const model = await assemble(source, backend, {
      weights: weightFormat(options.weights ?? 'auto', backend),
      kvCache: options.kvCache,
      signal: options.signal,
      onProgress: options.onProgress,
      ready,
      ownsBackend: true,
      files: sessionFiles,
    });
    const state = options.state ?? initialStateOf(location);
    if (state) await beginWith(model, state);
    return model;
  } catch (error) {
    if (prepared.status === 'fulfilled') prepared.value.backend.dispose();
    throw error;
  } finally {
    if (opened.status === 'fulfilled') await opened.value.checkpoint.close();
  }
}

async function beginWith(model: Model, path: string): Promise<void> {
  const state = await loadState(path, model);
  try {
    await model.beginWith(state);
  } catch (cause) {
    throw cause instanceof InputError ? new InputError(`${cause.message} (${path})`, { cause }) : cause;
  }
}

/** The tuned initial state that lies with the model in its folder. */
export function initialStateOf(location: string): string | undefined {
  const path = join(location, INITIAL_STATE);
  return statSync(location).isDirectory() && existsSync(path) ? path : undefined;
}

/**
 * What a model is and what it takes: architecture, parameters, memory, state, tensors. Only headers are read. Of the options
 * only those that find the model count, and how keys and values are kept.
 */
export async function inspect(
  name: string = embeddedModel,
  options: LocateOptions & Pick<LoadOptions, 'kvCache'> = {},
): Promise<ModelSizes> {
  refuseUnknownOptions(options, ['kvCache', ...locateOptionNames]);
  const { checkpoint, config, file, held } = await openModelFiles(await locate(name, options));
  try {
    return modelSizes(config, checkpoint, file, held, options.kvCache);
  } finally {
    await checkpoint.close();
  }
}

const modelsFolder = fileURLToPath(new URL('../../models/', import.meta.url));

/** The models that come with the package. */
const embeddedModels = (): string[] =>
  readdirSync(modelsFolder, { withFileTypes: true })
    .filter((entry) => entry.isDirectory())
    .map(({ name }) => name)
    .sort();

/** The folder or file that `name` means. */
export async function locate(name: string, options: LocateOptions): Promise<string> {
  if (existsSync(name)) return name;
  const embedded = join(modelsFolder, name);
  if (/^[\w.-]+$/.test(name) && existsSync(embedded)) return embedded;
  if (/^[\w.-]+\/[\w.-]+(@[\w./-]+|\/[\w./-]+)?$/.test(name) && !name.startsWith('.')) {
    const { revision, signal, offline, token, cacheDir, onDownload } = options;
    return await fetchModel(name, { revision, signal, offline, token, cacheDir, onProgress: onDownload });
  }
  throw new InputError(
    `there is no model ${name}: it is no folder or file here, no embedded model (${embeddedModels().join(', ')}), and no hub id like org/name`,
  );
}

/** Threads that models get when none are asked for: one without SharedArrayBuffer. */
export const defaultThreads = (): number => (hasSharedMemory() ? Math.min(8, availableParallelism()) : 1);

type BackendOptions = Pick<LoadOptions, 'backend' | 'threads' | 'revectorize'>;

/** What computes, as the options have it, for long work: it waits until it is known whether kernels may be revectorized. */
export async function makeBackend(options: BackendOptions = {}): Promise<Backend> {
  if (!options.backend?.startsWith('reference')) await setRevectorization(options.revectorize, true);
  const { backend, ready } = await startBackend(options);
  await ready;
  return backend;
}

async function startBackend({
  backend = 'wasm',
  threads = defaultThreads(),
  revectorize,
}: BackendOptions): Promise<StartedBackend> {
  if (!Number.isInteger(threads) || threads < 1 || threads > 256)
    throw new InputError(`threads is ${threads}: it must be a whole number from 1 to 256`);
  if (backend === 'reference') return { backend: referenceBackend('f32'), ready: Promise.resolve() };
  if (backend === 'reference-f64') return { backend: referenceBackend('f64'), ready: Promise.resolve() };
  if (backend !== 'wasm') throw new InputError(`backend is ${String(backend)}; known: wasm, reference, reference-f64`);
  enableWasmFeatures();
  await setRevectorization(revectorize);
  return await startWasmBackend({ threads, spawn: spawnThread });
}

const formats: readonly (WeightFormat | 'auto')[] = ['auto', 'f32', 'bf16', 'f16', 'q8', 'q4'];

/** The formats that a backend is to hold matrices in; the reference has full precision only. */
function weightFormat(wanted: WeightFormat | 'auto', backend: Backend): WeightFormat | 'auto' {
  if (!formats.includes(wanted)) throw new InputError(`weights is ${String(wanted)}; known: ${formats.join(', ')}`);
  if (!backend.name.startsWith('reference')) return wanted;
  if (wanted !== 'auto' && wanted !== 'f32')
    throw new InputError(`the reference backend holds weights in full precision, not ${wanted}`);
  return 'f32';
}
