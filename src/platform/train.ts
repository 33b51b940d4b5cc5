import { createHash } from 'node:crypto';
import { appendFileSync, existsSync, mkdirSync, readdirSync, readFileSync, rmSync, truncateSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';

import { ConfigError, InputError } from '../core/errors.ts';
import { Random } from '../core/random.ts';
import { openSafetensors } from '../formats/safetensors.ts';
import { encodeSafetensors } from '../formats/safetensors-writer.ts';
import type { Json } from '../models/config.ts';
import { architectureOf } from '../models/index.ts';
import { type ModelGraph, traceModel } from '../runtime/graph.ts';
import { refuseUnknownOptions } from '../runtime/sampler.ts';
import { trainBpe } from '../tokenizers/bpe-trainer.ts';
import { byteTokenizer } from '../tokenizers/bytes.ts';
import { huggingFaceTokenizer } from '../tokenizers/hugging-face.ts';
import type { Tokenizer } from '../tokenizers/tokenizer.ts';
import { restoreTraining, trainingCheckpoint } from '../train/checkpoint.ts';
import { type ModelDimensions, newModel } from '../train/configurations.ts';
import { type Batches, type Corpus, evaluationParts, windows } from '../train/corpus.ts';
import { modelTensors, savedConfig } from '../train/export.ts';
import { initialise } from '../train/initialise.ts';
import { Learner } from '../train/learner.ts';
import { allParameters, languageModelling } from '../train/objective.ts';
import type { ScheduleOptions } from '../train/schedule.ts';
import { type TrainRecord, train } from '../train/trainer.ts';
import { readCorpus } from './corpus-files.ts';
import { dataFiles, readTexts } from './data-files.ts';
import { openFile, writeFileAtomically } from './node-file.ts';
import { makeBackend } from './node-load.ts';

export interface TrainOptions extends Omit<ScheduleOptions, 'learningRate'>, Omit<ModelDimensions, 'vocabulary'> {
  /** Architecture by `model_type`: mamba, mamba2, rwkv7, gated_deltanet, llama … */
  readonly architecture: string;
  /** Files and folders to learn from: text, JSONL, CSV, TSV, gzipped or not; `-` is standard input. */
  readonly data: readonly string[];
  /** What the loss is measured on and that is never learned from. */
  readonly validation?: readonly string[] | undefined;
  /** Field of JSONL, CSV and TSV that holds the text. Default `text`. */
  readonly field?: string | undefined;
  /** The folder that the model is written to. */
  readonly output: string;
  /** `bytes`, or a tokenizer.json. Default: byte-pair encoding is learned from the data. */
  readonly tokenizer?: string | undefined;
  /** Tokens of a tokenizer that is learned. Default 4096. */
  readonly vocabulary?: number | undefined;
  /** Steps. Default: one pass over the data. */
  readonly steps?: number | undefined;
  /** Windows of a step. Default 8. */
  readonly batch?: number | undefined;
  /** Windows that run together; more take more memory. Default: as many as make 2,048 tokens. */
  readonly together?: number | undefined;
  /** Tokens of a window. Default 256. */
  readonly length?: number | undefined;
  /** Default 0.003. */
  readonly learningRate?: number | undefined;
  /** Decoupled weight decay of matrices. Default 0.1. */
  readonly weightDecay?: number | undefined;
  /** The most that a gradient may be long. Default 1. */
  readonly clip?: number | undefined;
  /** Seed of initial values and of the order of data. Default 0. */
  readonly seed?: number | undefined;
  /** Steps between evaluations. Default: a tenth of all. */
  readonly evaluateEvery?: number | undefined;
  /** The most windows of an evaluation. Default 64. */
  readonly evaluationWindows?: number | undefined;
  /** Tokens of an evaluation's windows. Default: `length`. */
  readonly evaluationLength?: number | undefined;
  /** Evaluations in a row without a better loss after which the training ends. */
  readonly patience?: number | undefined;
  /** Steps between checkpoints. Default 100. */
  readonly checkpointEvery?: number | undefined;
  /** Goes on from the folder's checkpoint, if there is one. */
  readonly resume?: boolean | undefined;
  readonly threads?: number | undefined;
  /** Ends the training after the step in hand, with a checkpoint. */
  readonly signal?: AbortSignal | undefined;
  /** Told what happens before the first step. */
  readonly onProgress?: ((what: string) => void) | undefined;
}

const optionNames: readonly (keyof TrainOptions)[] = [
  ...(['architecture', 'width', 'layers', 'headWidth', 'inner', 'state', 'negativeEigenvalues'] as const),
  ...([
    'data',
    'validation',
    'field',
    'output',
    'tokenizer',
    'vocabulary',
    'steps',
    'batch',
    'together',
    'length',
  ] as const),
  ...(['schedule', 'learningRate', 'warmup', 'finalRate', 'decaySteps', 'weightDecay', 'clip', 'seed'] as const),
  ...(['evaluateEvery', 'evaluationWindows', 'evaluationLength', 'patience', 'checkpointEvery'] as const),
  ...(['resume', 'threads', 'signal', 'onProgress'] as const),
];

/** How a training ended. */
export interface Trained {
  readonly output: string;
  /** The last step that was made. */
  readonly step: number;
  readonly steps: number;
  readonly parameters: number;
  readonly tokens: number;
  readonly loss: number | undefined;
  readonly best: TrainRecord['best'];
  /** Whether there is more to do: it was interrupted, and `resume` goes on. */
  readonly interrupted: boolean;
}

const CHECKPOINT = 'training.safetensors';
const LOG = 'log.jsonl';

/**
 * Trains a new language model from text and writes it as a Hugging Face folder: its best evaluation, or its end where nothing is
 * evaluated. The folder also gets `log.jsonl`, one line a step, and a checkpoint from which a training that was ended goes on
 * exactly.
 */
export async function* trainModel(options: TrainOptions): AsyncGenerator<TrainRecord, Trained> {
  refuseUnknownOptions(options, optionNames);
  const { output, seed = 0, signal, resume = false, onProgress } = options;
  const checkpointFile = join(output, CHECKPOINT);
  const resumed = resume && existsSync(checkpointFile);
  if (!resumed && existsSync(output) && readdirSync(output).length > 0)
    throw new InputError(`${output} is not empty: name another folder, or resume the training that is in it`);
  const made = await tokenizerOf(options);
  onProgress?.('reading the data');
  const readAll = (paths: readonly string[]) =>
    readCorpus(paths, made.tokenizer, {
      field: options.field,
      tokenizerKey: made.key,
      signal,
      onProgress: (tokens) => onProgress?.(`${tokens} tokens`),
    });
  const corpus = await readAll(options.data);
  const validation = options.validation && (await readAll(options.validation));
  const { length = 256, batch = 8, together } = options;
  const batches = windows(corpus, { length, batch, together, seed });
  const steps = options.steps ?? batches.stepsPerEpoch;
  const { graph, config, parsed } = modelOf(options, made.tokenizer.vocabularySize);
  const backend = await makeBackend(options.threads === undefined ? {} : { threads: options.threads });
  try {
    const learner = new Learner(
      backend,
      languageModelling(graph, allParameters(graph.parameters, options.weightDecay ?? 0.1)),
      capacityOf(batches, options),
      {
        clip: options.clip ?? 1,
      },
    );
    try {
      const settings = JSON.stringify({ ...settingsOf(options), steps, tokens: corpus.tokens.length });
      let progress = resumed ? await restore(learner, checkpointFile, settings) : begin(learner, seed);
      mkdirSync(output, { recursive: true });
      const log = new Log(join(output, LOG), progress.step);
      const files = { config: savedConfig(config, parsed), tokenizer: made.json };
      const checkpoint = () => writeFileAtomically(checkpointFile, [trainingCheckpoint(learner, progress, settings)]);
      let last: TrainRecord | undefined;
      const evaluation = validation && (() => evaluated(validation, options, batches));
      const { checkpointEvery = 100, evaluateEvery = Math.max(1, Math.round(steps / 10)), patience } = options;
      const { learningRate = 3e-3, schedule, warmup, finalRate, decaySteps } = options;
      const rates = defined({ schedule, warmup, finalRate, decaySteps });
      const running = train(learner, batches, {
        ...rates,
        learningRate,
        steps,
        done: progress.step,
        best: progress.best,
        evaluation,
        evaluateEvery,
        patience,
        signal,
      });
      for await (const record of running) {
        last = record;
        progress = { step: record.step, best: record.best };
        log.add(record);
        if (record.evaluation?.isBest) await writeModel(output, learner, files);
        if (record.step % checkpointEvery === 0) await checkpoint();
        yield record;
      }
      await checkpoint();
      const interrupted = signal?.aborted === true && progress.step < steps;
      if (!validation && !interrupted) await writeModel(output, learner, files);
      return {
        output,
        step: progress.step,
        steps,
        parameters: countOf(graph),
        tokens: progress.step * batches.tokensPerStep,
        loss: last?.loss,
        best: progress.best,
        interrupted,
      };
    } finally {
      learner.dispose();
    }
  } finally {
    backend.dispose();
  }
}

const defined = <T extends object>(values: T): { [K in keyof T]: Exclude<T[K], undefined> } =>
  Object.fromEntries(Object.entries(values).filter(([, value]) => value !== undefined)) as never;

/** The options that make a training what it is: one with others is another. */
function settingsOf(options: TrainOptions): object {
  const { threads: _, signal: __, onProgress: ___, resume: ____, output: _____, ...rest } = options;
  const { checkpointEvery: ______, ...settings } = rest;
  return settings;
}

const countOf = ({ parameters }: ModelGraph): number =>
  [...parameters.values()].reduce((sum, { shape }) => sum + shape.reduce((a, b) => a * b, 1), 0);

/** A new model of the options' sizes. */
function modelOf(options: TrainOptions, vocabulary: number): { graph: ModelGraph; config: Json; parsed: unknown } {
  const { width, layers, headWidth, inner, state, negativeEigenvalues } = options;
  const sizes = { width, layers, headWidth, inner, state, negativeEigenvalues, vocabulary };
  const { config, tensors } = newModel(options.architecture, sizes);
  const architecture = architectureOf(config, tensors);
  const parsed = architecture.config(config, tensors);
  return { graph: traceModel(architecture, parsed), config, parsed };
}

/** Room for the steps' parts and for those of evaluations. */
function capacityOf({ capacity }: Batches, { evaluationLength = 0 }: TrainOptions): Batches['capacity'] {
  const tokens = Math.max(capacity.tokens, evaluationLength);
  return { ...capacity, tokens, outputs: tokens };
}

function* evaluated(corpus: Corpus, options: TrainOptions, { capacity }: Batches) {
  const length = options.evaluationLength ?? options.length ?? 256;
  const together = Math.max(1, Math.floor(capacity.tokens / length));
  yield* evaluationParts(corpus, length, together, options.evaluationWindows ?? 64);
}

function begin(learner: Learner, seed: number): { step: number; best?: TrainRecord['best'] } {
  const random = new Random(seed);
  for (const { name, initial, shape } of learner.parameters.values())
    learner.write(name, initialise(initial, shape, random));
  return { step: 0 };
}

async function restore(
  learner: Learner,
  path: string,
  settings: string,
): Promise<{ step: number; best?: TrainRecord['best'] }> {
  const checkpoint = await openSafetensors(await openFile(path));
  try {
    return await restoreTraining(learner, checkpoint, settings);
  } finally {
    await checkpoint.close();
  }
}

interface MadeTokenizer {
  readonly tokenizer: Tokenizer;
  /** The object of tokenizer.json; none for bytes. */
  readonly json: object | undefined;
  readonly key: string;
}

/** The tokenizer that the options name, the one that a resumed training made, or one learned from the data. */
async function tokenizerOf({
  tokenizer,
  vocabulary = 4096,
  data,
  field,
  output,
  resume,
  onProgress,
}: TrainOptions): Promise<MadeTokenizer> {
  if (tokenizer === 'bytes') return { tokenizer: byteTokenizer(), json: undefined, key: 'bytes' };
  const kept = join(output, 'tokenizer.json');
  const path = tokenizer ?? (resume && existsSync(kept) ? kept : undefined);
  if (path === undefined) {
    if (data.includes('-'))
      throw new InputError('a tokenizer is learned from files, not from standard input: name one');
    onProgress?.('learning a tokenizer');
    const json = await trainBpe(readTexts(dataFiles(data), field), vocabulary);
    mkdirSync(output, { recursive: true });
    await writeFileAtomically(kept, [JSON.stringify(json)]);
    return ofJson(json, kept);
  }
  const file = path.endsWith('.json') ? path : join(path, 'tokenizer.json');
  if (!existsSync(file)) throw new InputError(`${file}: there is no such tokenizer`);
  return ofJson(parseJson(await readFile(file, 'utf8'), file), file);
}

function ofJson(json: object, path: string): MadeTokenizer {
  const key = createHash('sha256').update(JSON.stringify(json)).digest('hex');
  return { tokenizer: huggingFaceTokenizer(json, {}, path), json, key };
}

function parseJson(text: string, path: string): object {
  try {
    return JSON.parse(text) as object;
  } catch (cause) {
    throw new ConfigError(`${path} is not valid JSON: ${(cause as Error).message}`, { cause });
  }
}

async function writeModel(
  output: string,
  learner: Learner,
  { config, tokenizer }: { config: Json; tokenizer: object | undefined },
): Promise<void> {
  await writeFileAtomically(
    join(output, 'model.safetensors'),
    encodeSafetensors(modelTensors(learner), { format: 'pt' }),
  );
  await writeFileAtomically(join(output, 'config.json'), [`${JSON.stringify(config, null, 2)}\n`]);
  if (tokenizer) await writeFileAtomically(join(output, 'tokenizer.json'), [JSON.stringify(tokenizer)]);
}

/** One line of JSON for every step; of a resumed training, those after its checkpoint are made anew. */
class Log {
  readonly #path: string;

  constructor(path: string, done: number) {
    this.#path = path;
    if (done === 0) rmSync(path, { force: true });
    else if (existsSync(path)) this.#keep(done);
  }

  #keep(done: number): void {
    const bytes = readFileSync(this.#path);
    let lines = 0;
    let end = 0;
    for (; lines < done && end < bytes.length; lines++) {
      const next = bytes.indexOf(10, end);
      if (next < 0) break;
      end = next + 1;
    }
    truncateSync(this.#path, end);
  }

  add({ step, tokens, loss, learningRate, gradientNorm, tokensPerSecond, evaluation }: TrainRecord): void {
    const line = {
      step,
      tokens,
      loss,
      learningRate,
      gradientNorm,
      tokensPerSecond: Math.round(tokensPerSecond),
      evaluation,
    };
    appendFileSync(this.#path, `${JSON.stringify(line)}\n`);
  }
}
