import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { findTemplate, templateSource } from '../chat/find.ts';
import type { ChatTemplate } from '../chat/template.ts';
import { ConfigError, FormatError, InputError, UnsupportedError } from '../core/errors.ts';
import { type AdaptedMatrix, withAdapter } from '../formats/adapter.ts';
import type { Checkpoint } from '../formats/checkpoint.ts';
import { floatFields } from '../formats/float-json.ts';
import { openCheckpoint } from '../formats/open.ts';
import { dequantised } from '../formats/quantised.ts';
import { separateMixing } from '../formats/rwkv-cpp-parts.ts';
import { openSharded } from '../formats/sharded.ts';
import { ggufModel } from '../gguf/index.ts';
import { Metadata } from '../gguf/metadata.ts';
import { embeddedTokenizer } from '../gguf/tokenizer.ts';
import type { Json } from '../models/config.ts';
import { type MatchedModel, matchModel } from '../runtime/matched.ts';
import { withoutRepeatedHead } from '../runtime/repeated-head.ts';
import { byteTokenizer, byteTokenizerJson, endedByteTokenizer, endedByteTokenizerJson } from '../tokenizers/bytes.ts';
import { huggingFaceTokenizer } from '../tokenizers/hugging-face.ts';
import { worldTokenizerOf, worldVocabulary } from '../tokenizers/rwkv-world.ts';
import type { Tokenizer } from '../tokenizers/tokenizer.ts';
import { openFile } from './node-file.ts';

/** The file of a tuned initial state, in a model's folder. */
export const INITIAL_STATE = 'initial.state';

/** The file that a training goes on from, in its folder. */
export const CHECKPOINT = 'training.safetensors';

const GENERATION = 'generation_config.json';

/** A model's files, open. */
export interface ModelFiles {
  /** The tensors as the architecture knows them. */
  readonly checkpoint: Checkpoint;
  /** The checkpoint as it lies on disk. */
  readonly file: Checkpoint;
  readonly config: Json;
  /** The parameters that tensors of the file hold, where they are not named after them. */
  readonly held?: ReadonlyMap<string, readonly string[]>;
  readonly tokenizer: Tokenizer | undefined;
  /** Whether the model came with one, though another may have been named. */
  readonly hasOwnTokenizer: boolean;
  /** Why there is none, where the file has one that is not built. */
  readonly tokenizerProblem?: string | undefined;
  readonly tokenizerFiles: TokenizerFiles;
  readonly chatTemplate: ChatTemplate | undefined;
  /** Its text, where a file has it. */
  readonly templateSource: string | undefined;
  /** Tokens that end a text, by the configuration and `generation_config.json`. */
  readonly endTokens: readonly number[];
  /** The object of generation_config.json. */
  readonly generation: Json | undefined;
  /** Names of the fields that these files have as floats, whole or not. */
  readonly floats: ReadonlySet<string>;
}

export interface ModelFilesOptions {
  /** In the place of the model's own: `bytes`, a tokenizer.json, a vocabulary of RWKV World, or a folder with either. */
  readonly tokenizer?: string | undefined;
  /** Whether a model is to be taught, and the tokenizer written with it: of bytes it is then one with a token that ends texts. */
  readonly forTeaching?: boolean | undefined;
  /** A folder of a low-rank adapter in the PEFT library's format, to be merged into the model. */
  readonly adapter?: string | undefined;
}

/** What a tokenizer was made of: one of the first two, or neither where a model has none. */
export interface TokenizerFiles {
  /** The object of tokenizer.json. */
  readonly json?: Json | undefined;
  /** The bytes of RWKV's World tokens by id. */
  readonly world?: readonly (Uint8Array | undefined)[] | undefined;
  /** The object of tokenizer_config.json. */
  readonly settings?: Json | undefined;
}

/** Opens the files of a model: a folder, or a checkpoint file with its companions beside it. */
export async function openModelFiles(location: string, options: ModelFilesOptions = {}): Promise<ModelFiles> {
  const isFolder = statSync(location).isDirectory();
  const folder = isFolder ? location : dirname(location);
  const weights = isFolder ? weightsFile(location) : location;
  refusePart(weights);
  const file = await openWeights(weights);
  try {
    if (file.metadata['format'] === 'riverrun-training')
      throw new InputError(`${weights} is the checkpoint of a training, and no model: name the folder that it writes`);
    const opened = file.format === 'gguf' ? await openGgufModel(file, folder) : await openWithCompanions(file, folder);
    const named =
      options.tokenizer === undefined
        ? {}
        : { ...(await namedTokenizer(options.tokenizer, options.forTeaching)), tokenizerProblem: undefined };
    const merged = options.adapter === undefined ? {} : { checkpoint: await adapted(opened, options.adapter) };
    const model = { ...opened, ...named, ...merged };
    const hasOwnTokenizer = opened.tokenizer !== undefined;
    const generation = file.format === 'gguf' ? undefined : await readJson(join(folder, GENERATION), ConfigError);
    const floats = file.format === 'gguf' ? new Set<string>() : floatsIn(folder);
    const ends = endTokens(model, generation);
    return { ...model, ...(await openTemplate(model, folder)), hasOwnTokenizer, endTokens: ends, generation, floats };
  } catch (error) {
    await file.close();
    throw error;
  }
}

/** InputError for one file of a model that is cut into several. */
function refusePart(path: string): void {
  const [, stem, number, count, type] = /^(.*)-(\d{5})-of-(\d{5})\.(safetensors|bin|gguf)$/.exec(basename(path)) ?? [];
  if (count === undefined || Number(count) < 2) return;
  const what = `${path} is file ${Number(number)} of ${Number(count)} of a model`;
  if (type === 'gguf')
    throw new InputError(`${what}: join them first (llama-gguf-split --merge ${basename(path)} ${stem}.gguf)`);
  const index = `${stem}.${type}.index.json`;
  const beside = existsSync(join(dirname(path), index))
    ? `name ${join(dirname(path), index)} or its folder`
    : `its index ${index} is not beside it; fetch that and the other files`;
  throw new InputError(`${what}: ${beside}`);
}

/** A GGUF file has its template inside; other models have it in their settings or beside them. */
async function openTemplate(
  { file, tokenizerFiles }: Opened,
  folder: string,
): Promise<Pick<ModelFiles, 'chatTemplate' | 'templateSource'>> {
  const { settings, world } = tokenizerFiles;
  const path = join(folder, 'chat_template.jinja');
  const isFolder = file.format !== 'gguf';
  const older = isFolder ? await readJson(join(folder, 'chat_template.json'), FormatError) : undefined;
  const beside = isFolder && existsSync(path) ? await readFile(path, 'utf8') : (older?.['chat_template'] as string);
  const found = { settings, file: beside, isWorld: world !== undefined };
  return { chatTemplate: findTemplate(found, file.name), templateSource: templateSource(found, file.name) };
}

function endTokens({ config }: Opened, generation: Json | undefined): number[] {
  const named = [config['eos_token_id'], generation?.['eos_token_id']].flat();
  return [...new Set(named.filter((id): id is number => Number.isSafeInteger(id)))];
}

type Opened = Omit<
  ModelFiles,
  'hasOwnTokenizer' | 'chatTemplate' | 'templateSource' | 'endTokens' | 'generation' | 'floats'
>;

async function openWithCompanions(file: Checkpoint, folder: string): Promise<Opened> {
  const stored =
    (await readJson(join(folder, 'config.json'), ConfigError)) ??
    (await readJson(join(folder, 'params.json'), ConfigError));
  // RWKV's author publishes checkpoints without a configuration: their tensors tell everything.
  const isRwkv = [...file.tensors.keys()].some((name) =>
    /^(rwkv\.)?blocks\.0\.(att|ffn|attention|feed_forward)\./.test(name),
  );
  const complete = file.format === 'pth' || file.format === 'rwkv.cpp' || isRwkv;
  if (stored === undefined && !complete)
    throw new ConfigError(
      `${folder} has no config.json (nor params.json): without it the model's settings are unknown`,
    );
  const config = stored ?? { format: file.format };
  const separate = file.format === 'rwkv.cpp' ? separateMixing(file) : dequantised(file);
  const checkpoint = await withoutRepeatedHead(config, separate);
  return { checkpoint, file, config, ...(await openTokenizer(folder)) };
}

/**
 * A GGUF file is a whole model; only a tokenizer of a kind that is not built is looked for beside it, and where there is none
 * either, the model reads token ids alone.
 */
async function openGgufModel(file: Checkpoint, folder: string): Promise<Opened> {
  const parameters = await ggufModel(file);
  const checkpoint = await withoutRepeatedHead(parameters.config, parameters.checkpoint);
  const model = { file, ...parameters, checkpoint };
  try {
    const embedded = embeddedTokenizer(new Metadata(file), file.name);
    if (embedded) {
      const { tokenizer, json, settings, world } = embedded;
      return { ...model, tokenizer, tokenizerFiles: { json, settings, world } };
    }
    return { ...model, ...(await openTokenizer(folder)) };
  } catch (error) {
    if (!(error instanceof UnsupportedError)) throw error;
    const beside = await openTokenizer(folder);
    return beside.tokenizer ? { ...model, ...beside } : { ...model, ...beside, tokenizerProblem: error.message };
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
    'consolidated.safetensors',
  ];
  const found = usual.find((name) => files.includes(name));
  if (found) return join(folder, found);
  const others = files.filter((name) => /\.(safetensors|pth|pt|bin|gguf)$/.test(name) && name !== CHECKPOINT);
  if (others.length === 0 && files.includes(INITIAL_STATE))
    throw new InputError(
      `${folder} has a tuned state, and no model: name the model that it is for, with --load ${join(folder, INITIAL_STATE)}`,
    );
  if (others.length === 0 && files.includes(CHECKPOINT))
    throw new InputError(
      `${folder} has the checkpoint of a training, which has not written its model yet: go on with it (--resume)`,
    );
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
async function openTokenizer(
  folder: string,
): Promise<Pick<ModelFiles, 'tokenizer' | 'tokenizerProblem' | 'tokenizerFiles'>> {
  const path = join(folder, 'tokenizer.json');
  const settings = await readJson(join(folder, 'tokenizer_config.json'), FormatError);
  const json = await readJson(path, FormatError);
  if (json !== undefined)
    return { tokenizer: huggingFaceTokenizer(json, settings, path), tokenizerFiles: { json, settings } };
  const names = readdirSync(folder);
  const name = names.find((name) => /^rwkv_vocab.*\.txt$/.test(name));
  if (name === undefined) {
    const other = names.find((name) => /^tokenizer\.model/.test(name));
    const problem = other && `${other} is in SentencePiece's own format, which is not read: a tokenizer.json is wanted`;
    return { tokenizer: undefined, tokenizerProblem: problem, tokenizerFiles: {} };
  }
  const vocabulary = join(folder, name);
  const world = worldVocabulary(await readFile(vocabulary, 'utf8'), vocabulary);
  return { tokenizer: worldTokenizerOf(world, vocabulary), tokenizerFiles: { world, settings } };
}

/** A checkpoint with the adapter of a folder merged into it: one of an adapter, or that of a model which `finetune` taught with one. */
async function adapted({ checkpoint, config: modelConfig }: Opened, given: string): Promise<Checkpoint> {
  const within = join(given, 'adapter');
  const isWithin = !existsSync(join(given, 'adapter_config.json')) && existsSync(join(within, 'adapter_config.json'));
  const folder = isWithin ? within : given;
  const config = await readJson(join(folder, 'adapter_config.json'), ConfigError);
  if (!config) throw new InputError(`${folder} has no adapter_config.json: it is no adapter`);
  const adapter = await openWeights(join(folder, 'adapter_model.safetensors'));
  try {
    return withAdapter(checkpoint, adapter, config, adaptedMatrices(matchModel(modelConfig, checkpoint)));
  } catch (error) {
    await adapter.close();
    throw error;
  }
}

/**
 * The matrices of a model by the names that adapters have for them: those of their tensors, or the names that Hugging Face's class has where a checkpoint
 * leaves out how they begin (GPT-2's `h.0…` for `transformer.h.0…`).
 */
function adaptedMatrices({
  architecture,
  config,
  graph,
  origins,
}: MatchedModel): (name: string) => AdaptedMatrix | undefined {
  const parameters = new Map([...origins].map(([name, { stored }]) => [stored.name, name]));
  return (name) => {
    const renamed = architecture.rename?.(name, config);
    const parameter = parameters.get(name) ?? (typeof renamed === 'string' ? renamed : name);
    const origin = origins.get(parameter);
    if (!origin || (origin.convert && origin.stored.name !== name)) return undefined;
    return {
      stored: origin.stored.name,
      isTransposed: !origin.convert && graph.layouts.get(parameter) === 'linearTransposed',
    };
  };
}

/** The tokenizer that somebody names for a model, or for one that is to be taught. */
export async function namedTokenizer(
  name: string,
  forTeaching = false,
): Promise<{ readonly tokenizer: Tokenizer; readonly tokenizerFiles: TokenizerFiles }> {
  if (name === 'bytes' && forTeaching)
    return { tokenizer: endedByteTokenizer(), tokenizerFiles: { json: endedByteTokenizerJson() as Json } };
  if (name === 'bytes') return { tokenizer: byteTokenizer(), tokenizerFiles: { json: byteTokenizerJson() as Json } };
  if (!existsSync(name)) throw new InputError(`there is no tokenizer ${name}: name a file, a folder, or bytes`);
  if (statSync(name).isDirectory()) {
    const { tokenizer, tokenizerFiles } = await openTokenizer(name);
    if (tokenizer) return { tokenizer, tokenizerFiles };
    throw new InputError(`${name} has no tokenizer.json and no rwkv_vocab*.txt`);
  }
  if (!name.endsWith('.txt')) {
    const json = await readJson(name, FormatError);
    const settings = await readJson(join(dirname(name), 'tokenizer_config.json'), FormatError);
    return { tokenizer: huggingFaceTokenizer(json, settings, name), tokenizerFiles: { json, settings } };
  }
  const world = worldVocabulary(await readFile(name, 'utf8'), name);
  return { tokenizer: worldTokenizerOf(world, name), tokenizerFiles: { world } };
}

/** The fields that a folder's files have as floats. */
function floatsIn(folder: string): Set<string> {
  const files = ['config.json', GENERATION, 'tokenizer_config.json'].map((name) => join(folder, name));
  const texts = files.filter((path) => existsSync(path)).map((path) => readFileSync(path, 'utf8'));
  return new Set(texts.flatMap((text) => [...floatFields(text)]));
}

/** A JSON object from a file; undefined where there is no such file. */
async function readJson(path: string, Failure: typeof FormatError | typeof ConfigError): Promise<Json | undefined> {
  if (!existsSync(path)) return undefined;
  const text = await readFile(path, 'utf8');
  let json: unknown;
  try {
    // Some versions of transformers write Infinity, which is not JSON, as a bare word. Vocabularies are long, and seldom have it.
    const endless = /(?<=[[,:]\s*)(-?Infinity)(?=\s*[\],}])/g;
    json = JSON.parse(text.includes('Infinity') ? text.replace(endless, '"$1"') : text);
  } catch (cause) {
    throw new Failure(`${path} is not valid JSON: ${(cause as Error).message}`, { cause });
  }
  if (typeof json !== 'object' || json === null || Array.isArray(json))
    throw new Failure(`${basename(path)} is not an object (${path})`);
  return json as Json;
}
