import { UnsupportedError } from '../core/errors.ts';
import type { GgufValue } from '../formats/gguf-header.ts';
import type { Json } from '../models/config.ts';
import { validateTokenizer } from '../tokenizers/tokenizer-json.ts';
import { bool, string, u32 } from './dialect.ts';
import { nameOf } from './pre-tokenizers.ts';
import { BYTE, CONTROL, NORMAL, UNUSED, USER_DEFINED } from './token-types.ts';

/** What a model's tokenizer was read from. */
export interface TokenizerSource {
  /** The object of a tokenizer.json. */
  readonly json?: unknown;
  /** The chat template, wherever the model has it. */
  readonly chatTemplate?: string | undefined;
  /** Of tokenizer_config.json. */
  readonly settings?: Readonly<Record<string, unknown>> | undefined;
  /** The bytes of RWKV's World tokens, by id. */
  readonly world?: readonly (Uint8Array | undefined)[] | undefined;
  /** Token ids that the model's configuration names. */
  readonly config: Readonly<Record<string, unknown>>;
  /** Number of the model's logits: files fill up their vocabulary to it. */
  readonly vocabularySize: number;
}

type Entries = Record<string, GgufValue>;

/** A tokenizer as metadata of a GGUF file; `no_vocab` where a model has none. */
export function tokenizerMetadata(source: TokenizerSource): Entries {
  const template = source.chatTemplate !== undefined && { 'tokenizer.chat_template': string(source.chatTemplate) };
  if (source.json !== undefined) return { ...fromJson(source), ...template };
  if (source.world) return { ...fromWorld(source.world, source.vocabularySize), ...template };
  return { 'tokenizer.ggml.model': string('no_vocab') };
}

/** Tokens with their kinds, filled up to the model's vocabulary. */
function vocabulary(tokens: readonly (string | undefined)[], types: readonly number[], size: number): Entries {
  const places = Array.from({ length: Math.max(size, tokens.length) }, (_, id) => id);
  return {
    'tokenizer.ggml.tokens': {
      type: 'array',
      of: 'string',
      value: places.map((id) => tokens[id] ?? `[PAD${id}]`),
    },
    'tokenizer.ggml.token_type': {
      type: 'array',
      of: 'i32',
      value: places.map((id) => (tokens[id] === undefined ? UNUSED : (types[id] ?? NORMAL))),
    },
  };
}

function fromJson({ json, settings = {}, config, vocabularySize }: TokenizerSource): Entries {
  const file = validateTokenizer(json, 'tokenizer.json');
  const model = file['model'] as {
    type: string;
    merges?: [string, string][];
    byte_fallback?: boolean;
    ignore_merges?: boolean;
  };
  if (model.type !== 'BPE' || !model.merges)
    throw new UnsupportedError(`a tokenizer of type ${model.type} can't be written to GGUF; known: BPE`);
  const tokens: string[] = [];
  const types: number[] = [];
  for (const [text, id] of file.vocabulary) [tokens[id], types[id]] = [text, NORMAL];
  for (const { id, content, special } of file.addedTokens)
    [tokens[id], types[id]] = [content, special ? CONTROL : USER_DEFINED];
  const kind =
    file.bytes === 'byte-level'
      ? byteLevel(file, model.merges, model.ignore_merges === true)
      : sentencePiece(file, tokens, types, model.merges, model.byte_fallback === true, vocabularySize);
  return {
    ...kind,
    ...vocabulary(tokens, types, vocabularySize),
    ...marks(tokens, settings, config, specialEnds(file['post_processor'])),
  };
}

/** What llama.cpp has no key for is noted beside: it is the normaliser that is left out there. */
function byteLevel(file: Json, merges: readonly [string, string][], ignoreMerges: boolean): Entries {
  const pre = nameOf(file['pre_tokenizer']);
  const normalizer = file['normalizer'] as { type?: unknown } | null | undefined;
  if (normalizer && normalizer.type !== 'NFC')
    throw new UnsupportedError(
      `a tokenizer that normalises texts by ${String(normalizer.type)} can't be written to GGUF`,
    );
  if (pre === undefined)
    throw new UnsupportedError('the tokenizer splits texts by a pattern that GGUF has no name for');
  return {
    'tokenizer.ggml.model': string('gpt2'),
    'tokenizer.ggml.pre': string(pre),
    'tokenizer.ggml.merges': { type: 'array', of: 'string', value: merges.map(([a, b]) => `${a} ${b}`) },
    ...(ignoreMerges && { 'tokenizer.ggml.ignore_merges': bool(true) }),
    ...(normalizer && { 'tokenizer.ggml.normalizer': string('NFC') }),
  };
}

/** SentencePiece's: a token's score is how early it is merged. */
function sentencePiece(
  file: Json,
  tokens: readonly string[],
  types: number[],
  merges: readonly [string, string][],
  byteFallback: boolean,
  size: number,
): Entries {
  const steps = JSON.stringify(file['normalizer'] ?? {});
  const metaspace = file['pre_tokenizer'] as { type?: unknown; prepend_scheme?: unknown } | null | undefined;
  const isMetaspace = metaspace?.type === 'Metaspace';
  if (!byteFallback || !(steps.includes('"content":"▁"') || isMetaspace))
    throw new UnsupportedError('of tokenizers that are not byte-level, only those like SentencePiece go into GGUF');
  for (const [id, token] of tokens.entries()) if (/^<0x[0-9A-F]{2}>$/.test(token ?? '')) types[id] = BYTE;
  const ranks = new Map<string, number>();
  for (const [rank, [a, b]] of merges.entries()) if (!ranks.has(a + b)) ranks.set(a + b, rank);
  const scores = Array.from(
    { length: Math.max(size, tokens.length) },
    (_, id) => -(ranks.get(tokens[id] ?? '') ?? merges.length),
  );
  return {
    'tokenizer.ggml.model': string('llama'),
    'tokenizer.ggml.pre': string('default'),
    'tokenizer.ggml.scores': { type: 'array', of: 'f32', value: scores },
    'tokenizer.ggml.add_space_prefix': bool(
      isMetaspace ? metaspace.prepend_scheme !== 'never' : steps.includes('"Prepend"'),
    ),
  };
}

/** Beginning and end of a text, as the tokenizer's settings or else the model's configuration name them. */
function marks(
  tokens: readonly string[],
  settings: Readonly<Record<string, unknown>>,
  config: Readonly<Record<string, unknown>>,
  special: { readonly bos?: string | undefined; readonly eos?: string | undefined },
): Entries {
  const entries: Entries = {};
  for (const [name, key] of [
    ['bos', 'bos'],
    ['eos', 'eos'],
    ['pad', 'padding'],
    ['unk', 'unknown'],
  ] as const) {
    const added = name === 'bos' || name === 'eos' ? special[name] : undefined;
    const named = settings[`${name}_token`] ?? added;
    const text = typeof named === 'object' && named !== null ? (named as { content?: unknown }).content : named;
    const listed = [config[`${name}_token_id`]].flat()[0];
    const id = typeof text === 'string' ? tokens.indexOf(text) : listed;
    if (Number.isSafeInteger(id) && (id as number) >= 0) entries[`tokenizer.ggml.${key}_token_id`] = u32(id as number);
  }
  entries['tokenizer.ggml.add_bos_token'] = bool(settings['add_bos_token'] === true || special.bos !== undefined);
  entries['tokenizer.ggml.add_eos_token'] = bool(settings['add_eos_token'] === true || special.eos !== undefined);
  return entries;
}

/** The tokens that a post-processor puts before and after a text. */
function specialEnds(processor: unknown): { bos?: string | undefined; eos?: string | undefined } {
  const { type, single, processors } = (processor ?? {}) as {
    type?: string;
    single?: unknown[];
    processors?: unknown[];
  };
  if (type === 'Sequence') return Object.assign({}, ...(processors ?? []).map(specialEnds)) as object;
  if (type !== 'TemplateProcessing' || !Array.isArray(single)) return {};
  const id = (item: unknown) => (item as { SpecialToken?: { id?: string } } | undefined)?.SpecialToken?.id;
  const [bos, eos] = [id(single[0]), id(single.at(-1))];
  return { ...(bos !== undefined && { bos }), ...(eos !== undefined && { eos }) };
}

function fromWorld(world: readonly (Uint8Array | undefined)[], size: number): Entries {
  const tokens = world.map((bytes, id) => (id === 0 ? '<s>' : bytes && escaped(bytes)));
  return {
    'tokenizer.ggml.model': string('rwkv'),
    ...vocabulary(tokens, [CONTROL], size),
    'tokenizer.ggml.bos_token_id': u32(0),
    'tokenizer.ggml.eos_token_id': u32(0),
    'tokenizer.ggml.add_bos_token': bool(false),
  };
}

const names: Readonly<Record<number, string>> = { 9: '\\t', 10: '\\n', 13: '\\r', 92: '\\\\', 39: "\\'" };

/** Bytes as Python writes them. */
const escaped = (bytes: Uint8Array): string =>
  Array.from(
    bytes,
    (byte) =>
      names[byte] ??
      (byte >= 32 && byte < 127 ? String.fromCharCode(byte) : `\\x${byte.toString(16).padStart(2, '0')}`),
  ).join('');
