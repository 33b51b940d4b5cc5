import { createHash } from 'node:crypto';
import { join } from 'node:path';
import { InputError, UnsupportedError } from '../core/errors.ts';
import { Random } from '../core/random.ts';
import { encodeSafetensors } from '../formats/safetensors-writer.ts';
import type { Architecture } from '../models/architecture.ts';
import type { Json } from '../models/config.ts';
import { architectureOf } from '../models/index.ts';
import { folderForm } from '../runtime/folder-form.ts';
import { type ModelGraph, traceModel } from '../runtime/graph.ts';
import { Pace } from '../runtime/pause.ts';
import { refuseUnknownOptions } from '../runtime/sampler.ts';
import { trainBpe } from '../tokenizers/bpe-trainer.ts';
import type { TextPiece } from '../tokenizers/encode-stream.ts';
import { huggingFaceTokenizer } from '../tokenizers/hugging-face.ts';
import type { Tokenizer } from '../tokenizers/tokenizer.ts';
import { type ModelDimensions, newModel, refuseDimensions } from '../train/configurations.ts';
import { evaluationParts, streams, textsOf, windows, withRoomFor } from '../train/corpus.ts';
import { type Additions, modelTensors, type StoredAs } from '../train/export.ts';
import { initialise } from '../train/initialise.ts';
import { Learner, type Pause } from '../train/learner.ts';
import { learnedBy } from '../train/method.ts';
import { prediction } from '../train/objective.ts';
import { refuseIdle, refuseIdleSchedule, refuseOtherKinds, refuseSenselessNumbers } from '../train/option-limits.ts';
import { refuseUnreadable } from '../train/part-limits.ts';
import type { TrainRecord } from '../train/trainer.ts';
import { corpusContents, tokenizerContents } from './contents-digest.ts';
import { readCorpus } from './corpus-files.ts';
import { dataFiles, readTexts } from './data-files.ts';
import { refuseIdleLayout, standardInputNotice } from './data-format.ts';
import { namedTokenizer, type TokenizerFiles } from './model-files.ts';
import { type Companions, writeCompanions } from './model-folder.ts';
import { writeFileAtomically } from './node-file.ts';
import { makeBackend } from './node-load.ts';
import { hasTokenizer, takeFolder } from './training-folder.ts';
import { type RunOptions, runOptionNames, runTraining, type Trained } from './training-run.ts';

export interface TrainOptions extends RunOptions, Omit<ModelDimensions, 'vocabulary'> {
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
  /**
   * Reads the data as `batch` streams from their beginnings to their ends, each window in the state that the one before it left, which
   * no gradient goes through (truncated back-propagation). Recurrent architectures only.
   */
  readonly carryState?: boolean | undefined;
  /** Decoupled weight decay of matrices. Default 0.1. */
  readonly weightDecay?: number | undefined;
  /** Regular expressions of the names of parameters that do not decay. Default: none but those that are no matrices. */
  readonly undecayed?: readonly string[] | undefined;
  /** Factors of the learning rate, by regular expressions of parameters' names. */
  readonly rates?: Readonly<Record<string, number>> | undefined;
  /** Computes layers once more for their derivatives: less memory, a third more work. */
  readonly recompute?: boolean | undefined;
  /** The most that a gradient may be long. Default 1. */
  readonly clip?: number | undefined;
  /** Seed of initial values and of the order of data. Default 0. */
  readonly seed?: number | undefined;
  /** The most windows of an evaluation. Default 64. */
  readonly evaluationWindows?: number | undefined;
  /** Tokens of an evaluation's windows. Default: `length`. */
  readonly evaluationLength?: number | undefined;
  readonly threads?: number | undefined;
  /** Told what happens before the first step, and how much of how much of it is done where that is known. */
  readonly onProgress?: ((what: string, done?: number, total?: number) => void) | undefined;
  /** Told how standard input is read. */
  readonly onNotice?: ((what: string) => void) | undefined;
}

const optionNames: readonly (keyof TrainOptions)[] = [
  ...runOptionNames,
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
    'carryState',
  ] as const),
  ...([
    'weightDecay',
    'undecayed',
    'rates',
    'clip',
    'recompute',
    'seed',
    'evaluationWindows',
    'evaluationLength',
    'threads',
    'onProgress',
    'onNotice',
  ] as const),
];

/**
 * Trains a new language model from text and writes it as a Hugging Face folder: its best evaluation, or its end where nothing is
 * evaluated. See `runTraining` for what else the folder gets.
 */
export async function* trainModel(options: TrainOptions): AsyncGenerator<TrainRecord, Trained> {
  refuseUnknownOptions(options, optionNames);
  refuseSenseless(options);
  const release = await takeFolder(options.output, options.resume);
  try {
    return yield* trainInFolder(options);
  } finally {
    await release();
  }
}

async function* trainInFolder(options: TrainOptions): AsyncGenerator<TrainRecord, Trained> {
  const { output, seed = 0, signal, onProgress, length = 256, batch = 8, together } = options;
  const notice = await standardInputNotice([...options.data, ...(options.validation ?? [])], options);
  if (notice !== undefined) options.onNotice?.(notice);
  await refuseIdleLayout(dataFiles([...options.data, ...(options.validation ?? [])]), options);
  const made = await tokenizerOf(options);
  const noEnd = endNotice(made);
  if (noEnd !== undefined) options.onNotice?.(noEnd);
  const readAll = (paths: readonly string[]) =>
    readCorpus(paths, made.tokenizer, {
      field: options.field,
      tokenizerKey: made.key,
      signal,
      onProgress: (tokens) => onProgress?.(`reading the data: ${tokens} tokens`),
    });
  const corpus = await readAll(options.data);
  const validation = options.validation && (await readAll(options.validation));
  const { evaluationLength = length } = options;
  const learned = (options.carryState ? streams : windows)(corpus, { length, batch, together, seed });
  const batches = validation ? withRoomFor(learned, validation, evaluationLength) : learned;
  const vocabulary = made.tokenizer.vocabularySize;
  const read = textsOf(validation ? [corpus, validation] : [corpus], Math.max(length, evaluationLength));
  refuseUnreadable(read, { vocabulary, positions: Infinity }, vocabulary);
  const steps = options.steps ?? batches.stepsPerEpoch;
  const { graph, architecture, config, parsed } = modelOf(options, vocabulary);
  const growing = graph.carries.find((carry) => carry.growing);
  if (options.carryState && growing)
    throw new UnsupportedError(
      `carryState: ${options.architecture} attends to keys and values of every token before (${growing.name}), which have no fixed size and no derivative across steps: use longer windows, or a recurrent architecture`,
    );
  const backend = await makeBackend(options.threads === undefined ? {} : { threads: options.threads });
  try {
    const { weightDecay, undecayed, rates } = options;
    const objective = prediction(graph, learnedBy(graph, { weightDecay, undecayed, rates }));
    const learner = new Learner(backend, objective, batches.capacity, {
      clip: options.clip ?? 1,
      recompute: options.recompute ?? false,
    });
    try {
      const evaluate =
        validation &&
        (async (pause: Pause) => ({
          loss: await learner.evaluate(
            evaluationParts(validation, evaluationLength, batches.capacity, options.evaluationWindows ?? 64),
            undefined,
            pause,
          ),
        }));
      const form = folderForm(config, { format: 'safetensors' }, { architecture, config: parsed });
      const files = {
        config: { ...form.config, ...tokenIds(made.tokenizer) },
        tokenizer: made.tokenizer,
        tokenizerFiles: made.tokenizerFiles,
      };
      const settings = {
        ...settingsOf(options),
        tokenizer: made.key.slice(0, 16),
        data: corpusContents(corpus),
        validation: validation && corpusContents(validation),
      };
      const begin = () => drawInitial(learner, seed);
      const save = () => writeModel(output, learner, files);
      return yield* runTraining({ learner, batches, steps, evaluate, output, settings, begin, save }, options);
    } finally {
      learner.dispose();
    }
  } finally {
    backend.dispose();
  }
}

function refuseSenseless(options: TrainOptions): void {
  refuseOtherKinds(options, ['architecture', 'output', 'data']);
  refuseSenselessNumbers(options);
  refuseDimensions(options.architecture, options);
  refuseIdleSchedule(options);
  if (options.tokenizer !== undefined) refuseIdle(options, ['vocabulary'], 'the tokenizer is not learned');
  if (!options.validation)
    refuseIdle(
      options,
      ['patience', 'evaluateEvery', 'evaluationWindows', 'evaluationLength'],
      'there is no validation data',
    );
}

/** The options that make a training what it is: one with others is another. */
function settingsOf({
  threads: _,
  signal: __,
  onProgress: ___,
  onNotice: ________,
  resume: ____,
  output: _____,
  checkpointEvery: ______,
  recompute: _______,
  vocabulary = DEFAULT_VOCABULARY,
  field = 'text',
  ...settings
}: TrainOptions): object {
  return { ...settings, vocabulary, field };
}

/** Tokens of a tokenizer that is learned. */
const DEFAULT_VOCABULARY = 4096;

/** A new model of the options' sizes. */
function modelOf(
  options: TrainOptions,
  vocabulary: number,
): { graph: ModelGraph; architecture: Architecture; config: Json; parsed: unknown } {
  const { width, layers, headWidth, inner, state, negativeEigenvalues } = options;
  const sizes = { width, layers, headWidth, inner, state, negativeEigenvalues, vocabulary };
  const { config, tensors } = newModel(options.architecture, sizes);
  const architecture = architectureOf(config, tensors);
  const parsed = architecture.config(config, tensors);
  return { graph: traceModel(architecture, parsed), architecture, config, parsed };
}

/** Gives the parameters that are no one else's the values that the architecture begins with. */
export function drawInitial(learner: Learner, seed: number, has: (name: string) => boolean = () => false): void {
  const random = new Random(seed);
  for (const { name, initial, shape } of learner.parameters.values())
    if (!has(name)) learner.write(name, initialise(initial, shape, random));
}

interface MadeTokenizer {
  readonly tokenizer: Tokenizer;
  readonly tokenizerFiles: TokenizerFiles;
  /** What tells it from others. */
  readonly key: string;
}

/** The tokenizer that the options name, the one that a resumed training made, or one learned from the data. */
async function tokenizerOf({
  tokenizer,
  vocabulary = DEFAULT_VOCABULARY,
  data,
  field,
  output,
  resume,
  signal,
  onProgress,
  onNotice,
}: TrainOptions): Promise<MadeTokenizer> {
  if (tokenizer === 'bytes') return { ...(await namedTokenizer('bytes', true)), key: 'bytes' };
  const kept = join(output, 'tokenizer.json');
  const path = tokenizer ?? (resume && hasTokenizer(output) ? kept : undefined);
  if (path === undefined) {
    if (data.includes('-'))
      throw new InputError('a tokenizer is learned from files, not from standard input: name one');
    const json = await learnTokenizer(readTexts(dataFiles(data), { field, signal }), vocabulary, {
      signal,
      onProgress,
    });
    await writeFileAtomically(kept, [JSON.stringify(json)]);
    const learned = huggingFaceTokenizer(json, {}, kept);
    if (learned.vocabularySize < vocabulary)
      onNotice?.(
        `the tokenizer has ${learned.vocabularySize} tokens, not ${vocabulary}: in the data no two of them stand side by side twice any more`,
      );
    return keyed({ tokenizer: learned, tokenizerFiles: { json: json as Json } });
  }
  return keyed(await namedTokenizer(path));
}

async function learnTokenizer(
  texts: AsyncIterable<TextPiece>,
  vocabulary: number,
  { signal, onProgress }: Pick<TrainOptions, 'signal' | 'onProgress'>,
): Promise<object> {
  const what = 'learning a tokenizer';
  async function* told(): AsyncGenerator<TextPiece> {
    let read = 0;
    for await (const piece of texts) {
      onProgress?.(`${what}: ${(read / 1e6).toFixed(0)} million characters read`);
      yield piece;
      read += piece.text.length;
    }
  }
  const pace = new Pace();
  const pause = () => {
    signal?.throwIfAborted();
    return pace.breathe();
  };
  return await trainBpe(told(), vocabulary, {
    pause,
    onProgress: (merges, most) => onProgress?.(`${what}: ${merges} of ${most} merges`, merges, most),
  });
}

/** The ids by which a configuration names the marks of a tokenizer: where it has none that ends texts, the first of its tokens stands between them. */
export function tokenIds({ beginOfText, endOfText = 0 }: Tokenizer): Json {
  return { bos_token_id: beginOfText ?? endOfText, eos_token_id: endOfText, pad_token_id: endOfText };
}

/** What is to be told of a tokenizer that has no token that ends texts. */
export function endNotice({ tokenizer }: Pick<MadeTokenizer, 'tokenizer'>): string | undefined {
  if (tokenizer.endOfText !== undefined) return undefined;
  const first = JSON.stringify(tokenizer.decode([0]));
  return `the tokenizer has no token that ends texts: its token 0, ${first}, stands between them instead. Name one, as {"eos_token": "…"} in tokenizer_config.json beside it`;
}

/** The token that ends texts counts where the settings have another than the file alone would. */
function keyed(made: Omit<MadeTokenizer, 'key'>): MadeTokenizer {
  const { json, world, settings } = made.tokenizerFiles;
  if (!json) return { ...made, key: tokenizerContents({ world }) };
  const hash = createHash('sha256').update(JSON.stringify(json));
  const { endOfText } = made.tokenizer;
  if (settings && endOfText !== huggingFaceTokenizer(json).endOfText) hash.update(String(endOfText));
  return { ...made, key: hash.digest('hex') };
}

/** What a model is written with. */
interface WrittenFiles extends Companions {
  /** A parameter as the file has it, where that is not as the architecture has it. */
  readonly storedAs?: ((name: string) => StoredAs | undefined) | undefined;
}

/** Writes a model's folder; low-rank additions are merged. */
export async function writeModel(
  output: string,
  learner: Learner,
  { storedAs, ...companions }: WrittenFiles,
  additions?: Additions,
): Promise<void> {
  const tensors = modelTensors(learner, storedAs, additions);
  await writeFileAtomically(join(output, 'model.safetensors'), encodeSafetensors(tensors, { format: 'pt' }));
  await writeCompanions(output, { ...companions, config: { ...companions.config, dtype: 'float32' } });
}
