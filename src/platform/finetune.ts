import { join } from 'node:path';
import { InputError } from '../core/errors.ts';
import type { Json } from '../models/config.ts';
import { traceModel } from '../runtime/graph.ts';
import { SCORE } from '../runtime/label-head.ts';
import { type MatchedModel, matchModel } from '../runtime/matched.ts';
import { loadParameters } from '../runtime/parameters.ts';
import { refuseUnknownOptions } from '../runtime/sampler.ts';
import { State } from '../runtime/state.ts';
import type { Tokenizer } from '../tokenizers/tokenizer.ts';
import { type Batches, evaluationParts, windows } from '../train/corpus.ts';
import { savedConfig } from '../train/export.ts';
import { Learner } from '../train/learner.ts';
import { learnedBy, loraAdaptation, loraOf, type MethodOptions } from '../train/method.ts';
import { prediction } from '../train/objective.ts';
import type { Evaluation, TrainRecord } from '../train/trainer.ts';
import { writeAdapter } from './adapter-files.ts';
import { answerData, hasAnswers } from './answer-data.ts';
import { readCorpus } from './corpus-files.ts';
import { labelledData } from './labelled-data.ts';
import { type ModelFiles, openModelFiles } from './model-files.ts';
import { writeFileAtomically } from './node-file.ts';
import { type LocateOptions, load, locate, makeBackend } from './node-load.ts';
import { drawInitial, refuseFilledFolder, writeModel } from './train.ts';
import { canResume, type RunOptions, runOptionNames, runTraining, type Trained } from './training-run.ts';

export interface FinetuneOptions extends RunOptions, MethodOptions, Omit<LocateOptions, 'signal'> {
  /** The model that is taught: a folder, a checkpoint file, a hub id, or an embedded model. */
  readonly model: string;
  /**
   * What it is taught with: text; examples with labels in JSONL, CSV or TSV; or JSONL with answers, of which only these are learned:
   * `prompt` and `completion`, or `messages` with roles.
   */
  readonly data: readonly string[];
  /** What is measured and never learned from. Default: nothing, or a tenth of the examples, chosen by the seed. */
  readonly validation?: readonly string[] | undefined;
  /** Field of the texts. Default `text`. */
  readonly field?: string | undefined;
  /** Field of the labels: with it the model becomes a classifier, without it goes on to predict text. */
  readonly label?: string | undefined;
  /** Names of the columns of CSV and TSV files that have no header. */
  readonly columns?: readonly string[] | undefined;
  readonly output: string;
  /** Passes over the data. Default 3. */
  readonly epochs?: number | undefined;
  /** Steps, in the place of epochs. */
  readonly steps?: number | undefined;
  /** Examples, or windows, of a step. Default 16. */
  readonly batch?: number | undefined;
  /** Tokens of a window of text; longer examples are cut. Default 256. */
  readonly length?: number | undefined;
  /** The most that a gradient may be long. Default 1. */
  readonly clip?: number | undefined;
  readonly seed?: number | undefined;
  readonly threads?: number | undefined;
  readonly onProgress?: ((what: string) => void) | undefined;
}

const optionNames: readonly (keyof FinetuneOptions)[] = [
  ...runOptionNames,
  ...(['method', 'rank', 'alpha', 'targets', 'weightDecay'] as const),
  ...(['onDownload', 'revision', 'offline', 'token', 'cacheDir'] as const),
  ...([
    'model',
    'data',
    'validation',
    'field',
    'label',
    'columns',
    'output',
    'epochs',
    'steps',
    'batch',
    'length',
  ] as const),
  ...(['clip', 'seed', 'threads', 'onProgress'] as const),
];

/** The learning rate that each method begins with where none is given. */
const defaultRates = { full: 1e-3, lora: 3e-3, head: 1e-2, state: 3e-2 } as const;

/**
 * Teaches a model: to go on as other texts do, or to tell labels. What is written depends on the method: a whole model (`full`,
 * `head`), a model with the additions merged into it and the additions alone as PEFT has them (`lora`), or a state that sessions
 * restore (`state`; with labels the model too).
 */
export async function* finetune(options: FinetuneOptions): AsyncGenerator<TrainRecord, Trained> {
  refuseUnknownOptions(options, optionNames);
  const { output, method = 'full', seed = 0 } = options;
  refuseFilledFolder(output, options.resume);
  const files = await openModelFiles(await locate(options.model, options));
  try {
    const { tokenizer } = files;
    if (!tokenizer) throw new InputError(`${options.model} has no tokenizer: text can not be given to it`);
    const matched = matchModel(files.config, files.checkpoint);
    const data = await dataOf(options, tokenizer, matched);
    const { labels } = data;
    if (!labels && matched.head) throw new InputError(`${options.model} is a classifier: name the field of the labels`);
    const head = labels && { name: SCORE, size: labels.length };
    const adapt = method === 'lora' ? loraAdaptation(options) : undefined;
    const graph = traceModel(matched.architecture, matched.config, { head, adapt });
    const backend = await makeBackend(options.threads === undefined ? {} : { threads: options.threads });
    try {
      const objective = prediction(graph, learnedBy(graph, options, head?.name));
      const learner = new Learner(backend, objective, data.batches.capacity, { clip: options.clip ?? 1 });
      try {
        const begin = async () => {
          const origins = new Map([...matched.origins].filter(([name]) => graph.parameters.has(name)));
          // The head of other labels is drawn anew.
          if (head && matched.head && matched.head.labels.join('\n') !== labels!.join('\n')) origins.delete(SCORE);
          await loadParameters(origins, files.checkpoint, learner, { signal: options.signal });
          drawInitial(learner, seed, (name) => origins.has(name));
        };
        // A resumed training has what is learned in its checkpoint, and all else in the model.
        if (options.resume && canResume(output)) await begin();
        const save = () => saveTaught(options, files, matched, learner, labels);
        const steps = options.steps ?? data.batches.stepsPerEpoch * (options.epochs ?? 3);
        const evaluate = data.evaluate && (() => data.evaluate!(learner));
        const {
          threads: _,
          signal: __,
          onProgress: ___,
          onDownload: ____,
          resume: _____,
          output: ______,
          checkpointEvery: _______,
          token: ________,
          ...settings
        } = options;
        const run = { learner, batches: data.batches, steps, evaluate, output, settings, begin, save };
        return yield* runTraining(run, { ...options, learningRate: options.learningRate ?? defaultRates[method] });
      } finally {
        learner.dispose();
      }
    } finally {
      backend.dispose();
    }
  } finally {
    await files.file.close();
  }
}

/** What is learned from, and how it is measured. */
interface Data {
  readonly batches: Batches;
  readonly labels?: readonly string[];
  readonly evaluate?: ((learner: Learner) => Promise<Evaluation>) | undefined;
}

async function dataOf(options: FinetuneOptions, tokenizer: Tokenizer, matched: MatchedModel): Promise<Data> {
  if (options.label !== undefined) return await labelledData(options, tokenizer);
  if (!(await hasAnswers(options.data))) return await textData(options, tokenizer);
  return await answerData(options, tokenizer, matched.architecture.vocabulary(matched.config));
}

async function textData(options: FinetuneOptions, tokenizer: Tokenizer): Promise<Data> {
  const { field, signal, length = 256, batch = 16, seed = 0 } = options;
  const corpus = await readCorpus(options.data, tokenizer, { field, signal });
  const held = options.validation && (await readCorpus(options.validation, tokenizer, { field, signal }));
  const batches = windows(corpus, { length, batch, seed });
  const together = Math.max(1, Math.floor(batches.capacity.tokens / length));
  const evaluate =
    held &&
    (async (learner: Learner) => ({ loss: await learner.evaluate(evaluationParts(held, length, together, 64)) }));
  return { batches, evaluate };
}

async function saveTaught(
  options: FinetuneOptions,
  files: ModelFiles,
  matched: MatchedModel,
  learner: Learner,
  labels: readonly string[] | undefined,
): Promise<void> {
  const { output, method = 'full' } = options;
  const config = labels ? classifierConfig(files.config, labels) : files.config;
  const saved = { config: savedConfig(config, matched.config), tokenizer: files.tokenizerFiles.json };
  if (method === 'lora') {
    await writeAdapter(options, learner, labels !== undefined);
  }
  if (method !== 'state' || labels)
    await writeModel(output, learner, saved, method === 'lora' ? loraOf(options).scale : 0);
  if (method === 'state') await writeState(options, learner);
}

function classifierConfig(config: Json, labels: readonly string[]): Json {
  const [name] = (config['architectures'] as string[] | undefined) ?? ['ForCausalLM'];
  return {
    ...config,
    architectures: [name!.replace(/For\w+$|LMHeadModel$/, 'ForSequenceClassification')],
    id2label: Object.fromEntries(labels.map((label, i) => [String(i), label])),
    label2id: Object.fromEntries(labels.map((label, i) => [label, i])),
    num_labels: labels.length,
  };
}

/** The learned initial state as a file that sessions restore. */
async function writeState(options: FinetuneOptions, learner: Learner): Promise<void> {
  const { revision, offline, token, cacheDir } = options;
  const given = Object.fromEntries(
    Object.entries({ revision, offline, token, cacheDir }).filter(([, value]) => value !== undefined),
  );
  const model = await load(options.model, { ...given, threads: 1 });
  try {
    const empty = model.session().state.copy();
    const tensors = new Map(empty.tensors);
    for (const [name, { shape }] of empty.tensors)
      if (learner.parameters.has(`state:${name}`)) tensors.set(name, { shape, values: learner.read(`state:${name}`) });
    await writeFileAtomically(join(options.output, 'initial.state'), [new State({ ...empty, tensors }).save()]);
  } finally {
    model.dispose();
  }
}
