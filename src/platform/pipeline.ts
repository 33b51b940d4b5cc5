import { InputError, UnsupportedError } from '../core/errors.ts';
import { Model } from '../runtime/model.ts';
import { refuseUnknownOptions } from '../runtime/sampler.ts';
import { checkTask, type PipelineTask, type PipelineTasks, pipelineOf } from '../tasks/pipeline/tasks.ts';
import { embeddedModel, type LoadOptions, load } from './node-load.ts';

/** What `progress_callback` is told. */
export type PipelineProgress =
  | { readonly status: 'initiate' | 'download' | 'done'; readonly name: string; readonly file: string }
  | {
      readonly status: 'progress';
      readonly name: string;
      readonly file: string;
      /** Percent. */
      readonly progress: number;
      readonly loaded: number;
      readonly total: number;
    }
  | { readonly status: 'ready'; readonly task: string; readonly model: string };

/** Options of loading, by the names of transformers.js. */
export interface PipelineOptions {
  /** What computes: `wasm`, `cpu` and `auto` are the same. */
  readonly device?: 'auto' | 'cpu' | 'wasm';
  /** How matrices are held in memory. Default `auto`: as they are stored. */
  readonly dtype?: 'auto' | 'fp32' | 'fp16' | 'bf16' | 'q8' | 'int8' | 'q4';
  readonly progress_callback?: (progress: PipelineProgress) => void;
  readonly revision?: string;
  readonly cache_dir?: string;
  readonly local_files_only?: boolean;
  readonly signal?: AbortSignal;
}

const optionNames = ['device', 'dtype', 'progress_callback', 'revision', 'cache_dir', 'local_files_only', 'signal'];

const weightsOf: Readonly<Record<string, NonNullable<LoadOptions['weights']>>> = {
  auto: 'auto',
  fp32: 'f32',
  fp16: 'f16',
  bf16: 'bf16',
  q8: 'q8',
  int8: 'q8',
  q4: 'q4',
};

/** Something that does a task when called. */
export type Pipeline<Task extends PipelineTask> = PipelineTasks[Task] & {
  readonly task: Task;
  readonly model: Model;
  /** Frees the model, unless it was given as such. */
  dispose(): Promise<void>;
};

/**
 * Does a task in three lines, by the names of Hugging Face's JavaScript library: `const ask = await
 * pipeline('question-answering'); await ask(question, context)`. Options that are not known are refused.
 *
 * @param model a name as `load` takes it, or a model that is loaded already
 */
export async function pipeline<Task extends PipelineTask>(
  task: Task,
  model: string | Model = embeddedModel,
  options: PipelineOptions = {},
): Promise<Pipeline<Task>> {
  checkTask(task);
  refuseUnknownOptions(options, optionNames);
  const isLoaded = model instanceof Model;
  if (isLoaded && Object.keys(options).length > 0)
    throw new InputError(`the model is loaded already: ${Object.keys(options)[0]} comes too late`);
  const loaded = isLoaded ? model : await load(model, loadOptions(model, options));
  try {
    const run = pipelineOf(task, loaded) as PipelineTasks[Task] & ((...given: unknown[]) => Promise<unknown>);
    options.progress_callback?.({ status: 'ready', task, model: isLoaded ? loaded.type : model });
    const dispose = async () => {
      if (!isLoaded) loaded.dispose();
    };
    return Object.assign((...given: unknown[]) => run(...given), { task, model: loaded, dispose }) as never;
  } catch (error) {
    if (!isLoaded) loaded.dispose();
    throw error;
  }
}

function loadOptions(name: string, options: PipelineOptions): LoadOptions {
  const { device = 'auto', dtype = 'auto', progress_callback: tell, revision, cache_dir, local_files_only } = options;
  if (!['auto', 'cpu', 'wasm'].includes(device))
    throw new UnsupportedError(`device is ${device}: there are cpu and wasm, which are the same`);
  if (tell !== undefined && tell !== null && typeof tell !== 'function')
    throw new InputError('progress_callback is no function');
  const weights = weightsOf[dtype];
  if (!weights) throw new InputError(`dtype is ${dtype}; known: ${Object.keys(weightsOf).join(', ')}`);
  return {
    weights,
    ...(revision !== undefined && { revision }),
    ...(cache_dir !== undefined && { cacheDir: cache_dir }),
    ...(local_files_only && { offline: true }),
    ...(options.signal && { signal: options.signal }),
    ...(tell && { onDownload: downloads(name, tell) }),
  };
}

/** Tells of downloads as transformers.js does: a file begins, goes on, is done. */
function downloads(name: string, tell: (progress: PipelineProgress) => void): NonNullable<LoadOptions['onDownload']> {
  const begun = new Set<string>();
  const done = new Set<string>();
  return ({ file, loaded, total }) => {
    if (!begun.has(file)) {
      begun.add(file);
      tell({ status: 'initiate', name, file });
      tell({ status: 'download', name, file });
    }
    tell({ status: 'progress', name, file, progress: total > 0 ? (100 * loaded) / total : 100, loaded, total });
    if (loaded < total || done.has(file)) return;
    done.add(file);
    tell({ status: 'done', name, file });
  };
}
