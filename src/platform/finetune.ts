import { join } from 'node:path';
import { InputError } from '../core/errors.ts';
import type { Json } from '../models/config.ts';
import { folderForm, inStoredOrder } from '../runtime/folder-form.ts';
import { type Head, type ModelGraph, traceModel } from '../runtime/graph.ts';
import { SCORE } from '../runtime/label-head.ts';
import { loadParameters } from '../runtime/load-parameters.ts';
import { type MatchedModel, matchModel } from '../runtime/matched.ts';
import { refuseUnknownOptions } from '../runtime/sampler.ts';
import { spanHead } from '../runtime/span-head.ts';
import { State } from '../runtime/state.ts';
import type { Tokenizer } from '../tokenizers/tokenizer.ts';
import { type Batches, evaluationParts, textsOf, windows, withRoomFor } from '../train/corpus.ts';
import type { Additions, StoredAs } from '../train/export.ts';
import { Learner, type Pause } from '../train/learner.ts';
import { learnedBy, loraAdaptation, loraOf, loraTargets, type MethodOptions } from '../train/method.ts';
import { prediction } from '../train/objective.ts';
import { refuseIdle, refuseIdleSchedule, refuseOtherKinds, refuseSenselessNumbers } from '../train/option-limits.ts';
import { type ReadTexts, refuseUnreadable } from '../train/part-limits.ts';
import { spanPrediction } from '../train/spans.ts';
import type { Evaluation, TrainRecord } from '../train/trainer.ts';
import { writeAdapter } from './adapter-files.ts';
import { answerData, hasAnswers } from './answer-data.ts';
import {
  type Contents,
  corpusContents,
  parameterContents,
  tokenizerContents,
  tokenizerKey,
} from './contents-digest.ts';
import { readCorpus } from './corpus-files.ts';
import { dataFiles } from './data-files.ts';
import { refuseIdleLayout, standardInputNotice } from './data-format.ts';
import { labelledData } from './labelled-data.ts';
import { INITIAL_STATE, type ModelFiles, openModelFiles } from './model-files.ts';
import type { Companions } from './model-folder.ts';
import { writeFileAtomically } from './node-file.ts';
import { initialStateOf, type LocateOptions, load, locate, makeBackend } from './node-load.ts';
import { hasSpans, spanData } from './span-data.ts';
import { drawInitial, endNotice, tokenIds, writeModel } from './train.ts';
import { takeFolder } from './training-folder.ts';
import { type RunOptions, runOptionNames, runTraining, type Trained } from './training-run.ts';

export interface FinetuneOptions extends RunOptions, MethodOptions, Omit<LocateOptions, 'signal'> {
  /** The model that is taught: a folder, a checkpoint file, a hub id, or an embedded model. */
  readonly model: string;
  /** In the place of the model's own tokenizer: `bytes`, a tokenizer.json, or a folder with one. */
  readonly tokenizer?: string | undefined;
  /**
   * What it is taught with: text; examples with labels in JSONL, CSV or TSV; or JSONL with answers, of which only these are learned:
   * `prompt` and `completion`, or `messages` with roles; or `question`, `context` and `answers`, to find answers in a context.
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
  /** Passes over the data. Default 3, or what the steps take. */
  readonly epochs?: number | undefined;
  /** Steps. Beside epochs, the fewer are made. */
  readonly steps?: number | undefined;
  /** Examples, or windows, of a step. Default 16. */
  readonly batch?: number | undefined;
  /** Examples, or windows, that run together; more take more memory. Default: as many as make 2,048 tokens. */
  readonly together?: number | undefined;
  /** Computes layers once more for their derivatives: less memory, a third more work. */
  readonly recompute?: boolean | undefined;
  /** Tokens of a window of text; longer examples are cut. Default 256. */
  readonly length?: number | undefined;
  /** The most that a gradient may be long. Default 1. */
  readonly clip?: number | undefined;
  readonly seed?: number | undefined;
  readonly threads?: number | undefined;
  readonly onProgress?: ((what: string) => void) | undefined;
  /** Told what is left out of the data. */
  readonly onNotice?: ((what: string) => void) | undefined;
}

const optionNames: readonly (keyof FinetuneOptions)[] = [
  ...runOptionNames,
  ...(['method', 'rank', 'alpha', 'targets', 'weightDecay', 'undecayed', 'rates'] as const),
  ...(['onDownload', 'revision', 'offline', 'token', 'cacheDir'] as const),
  ...([
    'model',
    'tokenizer',
    'data',
    'validation',
    'field',
    'label',
    'columns',
    'output',
    'epochs',
    'steps',
    'batch',
    'together',
    'length',
  ] as const),
  ...(['clip', 'recompute', 'seed', 'threads', 'onProgress', 'onNotice'] as const),
];

/** The learning rate that each method begins with where none is given. */
const defaultRates = { full: 1e-3, lora: 3e-3, head: 1e-2, state: 3e-2 } as const;

/**
 * Teaches a model: to go on as other texts do, or to tell labels. What is written depends on the method: a whole model (`full`,
 * `head`), a model with the additions merged into it and, in its folder `adapter`, the additions alone as PEFT has them (`lora`), or a state that sessions
 * restore (`state`; with labels the model too).
 */
export async function* finetune(options: FinetuneOptions): AsyncGenerator<TrainRecord, Trained> {
  refuseUnknownOptions(options, optionNames);
  refuseOtherKinds(options, ['model', 'output', 'data']);
  refuseSenselessNumbers(options);
  refuseIdleSchedule(options);
  const { method = 'full' } = options;
  if (method !== 'lora') refuseIdle(options, ['rank', 'alpha', 'targets'], `the method is ${method}`);
  const release = await takeFolder(options.output, options.resume);
  try {
    return yield* finetuneInFolder(options);
  } finally {
    await release();
  }
}

async function* finetuneInFolder(options: FinetuneOptions): AsyncGenerator<TrainRecord, Trained> {
  const { output, method = 'full', seed = 0 } = options;
  const given = [...options.data, ...(options.validation ?? [])];
  const notice = await standardInputNotice(given, { ...options, hasRecords: options.label !== undefined });
  if (notice !== undefined) options.onNotice?.(notice);
  await refuseIdleLayout(dataFiles(given), { ...options, hasRecords: options.label !== undefined });
  const location = await locate(options.model, options);
  if (initialStateOf(location) !== undefined)
    options.onNotice?.(`${options.model} is taught from the empty state: its initial.state is left out`);
  const files = await openModelFiles(location, { tokenizer: options.tokenizer, forTeaching: true });
  try {
    const { tokenizer } = files;
    if (!tokenizer)
      throw new InputError(`${options.model} has no tokenizer: name one (the option \`tokenizer\`, or --tokenizer)`);
    const noEnd = endNotice({ tokenizer });
    if (noEnd !== undefined) options.onNotice?.(noEnd);
    const matched = matchModel(files.config, files.checkpoint);
    const data = await dataOf(options, tokenizer, tokenizerKey(files.tokenizerFiles), matched);
    const { architecture, config } = matched;
    const limits = {
      vocabulary: architecture.vocabulary(config),
      positions: architecture.longest?.(config) ?? Infinity,
    };
    refuseUnreadable(data.texts, limits, tokenizer.vocabularySize);
    if (!data.evaluate) refuseIdle(options, ['patience', 'evaluateEvery'], 'there is no validation data');
    const { labels, spans } = data;
    if (!labels && matched.head) throw new InputError(`${options.model} is a classifier: name the field of the labels`);
    if (!spans && matched.hasSpans)
      throw new InputError(
        `${options.model} finds answers in a context: give it JSONL with question, context and answers`,
      );
    const head: Head | undefined = spans ? spanHead : labels && { name: SCORE, size: labels.length };
    const headNames = head ? [head.name, ...(head.bias === undefined ? [] : [head.bias])] : [];
    const plain = traceModel(architecture, config, { head });
    const additions = method === 'lora' ? additionsOf(options, plain, architecture.type, headNames) : undefined;
    const adapt = additions && loraAdaptation(options, additions.targets);
    const graph = adapt ? traceModel(architecture, config, { head, adapt }) : plain;
    const backend = await makeBackend(options.threads === undefined ? {} : { threads: options.threads });
    try {
      const learned = learnedBy(graph, options, headNames);
      const objective = spans ? spanPrediction(graph, learned) : prediction(graph, learned);
      const learner = new Learner(backend, objective, data.batches.capacity, {
        clip: options.clip ?? 1,
        recompute: options.recompute ?? false,
      });
      try {
        const origins = new Map([...matched.origins].filter(([name]) => graph.parameters.has(name)));
        // The head of other labels is drawn anew.
        if (labels && matched.head && matched.head.labels.join('\n') !== labels.join('\n')) origins.delete(SCORE);
        // A resumed training has what is learned in its checkpoint, and all else in the model.
        await loadParameters(origins, files.checkpoint, learner, { signal: options.signal });
        drawInitial(learner, seed, (name) => origins.has(name));
        const made = {
          ...data.contents,
          model: parameterContents(learner, origins.keys()),
          tokenizer: tokenizerContents(files.tokenizerFiles),
        };
        const save = () => saveTaught(options, files, matched, learner, { ...data, headNames, additions });
        const { epochs = options.steps === undefined ? 3 : Infinity } = options;
        const steps = Math.min(options.steps ?? Infinity, data.batches.stepsPerEpoch * epochs);
        const evaluate = data.evaluate && ((pause: Pause) => data.evaluate!(learner, pause));
        const {
          threads: _,
          signal: __,
          onProgress: ___,
          onNotice: __________,
          onDownload: ____,
          resume: _____,
          output: ______,
          checkpointEvery: _______,
          recompute: _________,
          token: ________,
          // The number of steps says as much.
          epochs: ___________,
          ...others
        } = options;
        const settings = { ...others, field: options.field ?? 'text', ...made };
        const run = { learner, batches: data.batches, steps, evaluate, output, settings, save };
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
  readonly contents: Contents;
  readonly texts: ReadTexts;
  readonly labels?: readonly string[];
  /** Whether answers are to be found in a context. */
  readonly spans?: boolean;
  readonly evaluate?: ((learner: Learner, pause?: Pause) => Promise<Evaluation>) | undefined;
}

async function dataOf(
  options: FinetuneOptions,
  tokenizer: Tokenizer,
  key: string,
  matched: MatchedModel,
): Promise<Data> {
  if (options.label !== undefined) return await labelledData(options, tokenizer);
  if (await hasSpans(options.data)) return { ...(await spanData(options, tokenizer)), spans: true };
  if (!(await hasAnswers(options.data, options))) return await textData(options, tokenizer, key);
  return await answerData(options, tokenizer, matched.architecture.vocabulary(matched.config));
}

async function textData(options: FinetuneOptions, tokenizer: Tokenizer, tokenizerKey: string): Promise<Data> {
  const { field, columns, signal, onProgress: told, length = 256, batch = 16, together, seed = 0 } = options;
  const onProgress = (tokens: number) => told?.(`reading the data: ${tokens} tokens`);
  const read = (paths: readonly string[]) =>
    readCorpus(paths, tokenizer, { field, columns, tokenizerKey, signal, onProgress });
  const corpus = await read(options.data);
  const held = options.validation && (await read(options.validation));
  const learned = windows(corpus, { length, batch, together, seed });
  const batches = held ? withRoomFor(learned, held, length) : learned;
  const evaluate =
    held &&
    (async (learner: Learner, pause?: Pause) => ({
      loss: await learner.evaluate(evaluationParts(held, length, batches.capacity, 64), undefined, pause),
    }));
  const contents = { data: corpusContents(corpus), validation: held && corpusContents(held) };
  return { batches, contents, texts: textsOf(held ? [corpus, held] : [corpus], length), evaluate };
}

/** What LoRA adds to a model. */
const additionsOf = (
  options: FinetuneOptions,
  graph: ModelGraph,
  type: string,
  head: readonly string[],
): Additions => ({ targets: loraTargets(options, graph, type, head), scale: loraOf(options).scale });

async function saveTaught(
  options: FinetuneOptions,
  files: ModelFiles,
  matched: MatchedModel,
  learner: Learner,
  {
    labels,
    spans,
    headNames,
    additions,
  }: Data & {
    readonly headNames: readonly string[];
    readonly additions: Additions | undefined;
  },
): Promise<void> {
  const { output, method = 'full' } = options;
  const hasHead = labels !== undefined || spans === true;
  const form = folderForm(files.config, files.file, matched);
  const storedAs = form.asStored ? storedInBase(matched) : spans ? spanModelNames(matched, learner) : undefined;
  if (additions) {
    const predicts = labels ? 'labels' : spans ? 'spans' : 'tokens';
    const { targets } = additions;
    const nameOf = (name: string) => storedAs?.(name)?.name ?? name;
    await writeAdapter(options, learner, { predicts, targets, head: headNames, nameOf });
  }
  const config = labels ? classifierConfig(form.config, labels) : spans ? spanConfig(form.config) : form.config;
  const saved = { ...files, ...stillHolding(options, files, config, hasHead), storedAs };
  if (method !== 'state' || hasHead) await writeModel(output, learner, saved, additions);
  if (method === 'state') await writeState(options, learner, hasHead);
}

/** The name of the class that Hugging Face has for a task. */
function architectureFor(config: Json, task: string): string {
  const [name] = (config['architectures'] as string[] | undefined) ?? ['ForCausalLM'];
  return name!.replace(/For\w+$|LMHeadModel$/, task);
}

/** Parameters as the file of the base has them. */
const storedInBase =
  ({ origins }: MatchedModel) =>
  (name: string): StoredAs | undefined => {
    const origin = origins.get(name);
    return origin && { ...origin.stored, ordered: (values) => inStoredOrder(values, origin) };
  };

/** Hugging Face's models of Llama's family that answer with spans call their body `transformer`. */
const spanModelNames =
  ({ architecture: { type } }: MatchedModel, { parameters }: Learner) =>
  (name: string): StoredAs | undefined =>
    (type === 'llama' || type === 'qwen2') && name.startsWith('model.')
      ? {
          name: name.replace(/^model\./, 'transformer.'),
          shape: parameters.get(name)!.shape,
          ordered: (values) => values,
        }
      : undefined;

/**
 * What the base's configuration and generation_config.json say that still holds: a model with a head generates nothing, and ids of tokens are those of its
 * own tokenizer.
 */
function stillHolding(
  { tokenizer: named }: FinetuneOptions,
  { tokenizer, generation, hasOwnTokenizer }: ModelFiles,
  config: Json,
  hasHead: boolean,
): Pick<Companions, 'config' | 'generation'> {
  const generates = hasHead ? undefined : generation;
  const hasEnd = tokenizer?.endOfText !== undefined;
  if (named === undefined || (!hasOwnTokenizer && !hasEnd)) return { config, generation: generates };
  const ids = tokenIds(tokenizer!);
  const others = (json: Json): Json => ({ ...withoutTokens(json), ...ids });
  return { config: others(config), generation: generates && others(generates) };
}

/** A configuration without ids of tokens. */
const withoutTokens = (json: Json): Json =>
  Object.fromEntries(
    Object.entries(json).filter(([name]) => !/_token_id$|suppress_tokens$|_words_ids$|^sequence_bias$/.test(name)),
  );

const spanConfig = (config: Json): Json => ({
  ...config,
  architectures: [architectureFor(config, 'ForQuestionAnswering')],
});

function classifierConfig(config: Json, labels: readonly string[]): Json {
  return {
    ...config,
    architectures: [architectureFor(config, 'ForSequenceClassification')],
    id2label: Object.fromEntries(labels.map((label, i) => [String(i), label])),
    label2id: Object.fromEntries(labels.map((label, i) => [label, i])),
    num_labels: labels.length,
  };
}

/** The learned initial state as a file that sessions restore: of the model that was taught or, with a head, of the one that was written with it. */
async function writeState(options: FinetuneOptions, learner: Learner, hasHead: boolean): Promise<void> {
  const { revision, offline, token, cacheDir } = options;
  const given = Object.fromEntries(
    Object.entries({ revision, offline, token, cacheDir }).filter(([, value]) => value !== undefined),
  );
  const settings = { threads: 1, state: false } as const;
  const model = await (hasHead ? load(options.output, settings) : load(options.model, { ...given, ...settings }));
  try {
    const empty = model.session().state.copy();
    const tensors = new Map(empty.tensors);
    for (const [name, { shape }] of empty.tensors)
      if (learner.parameters.has(`state:${name}`)) tensors.set(name, { shape, values: learner.read(`state:${name}`) });
    await writeFileAtomically(join(options.output, INITIAL_STATE), [new State({ ...empty, tensors }).save()]);
  } finally {
    model.dispose();
  }
}
