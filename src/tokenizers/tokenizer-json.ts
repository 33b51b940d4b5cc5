import { FormatError } from '../core/errors.ts';

/** A `tokenizer.json` that was found to be in order: the object itself, and what of it is asked for often. */
export interface TokenizerFile {
  readonly vocabulary: ReadonlyMap<string, number>;
  readonly addedTokens: readonly { readonly id: number; readonly content: string; readonly special: boolean }[];
  /** Whether tokens are bytes written as GPT-2's printable characters. */
  readonly bytes: 'byte-level' | 'characters';
}

type Json = Record<string, unknown>;

const known = {
  model: ['BPE', 'Unigram', 'WordPiece', 'WordLevel'],
  normalizer: [
    'BertNormalizer',
    'Precompiled',
    'Sequence',
    'Replace',
    'NFC',
    'NFD',
    'NFKC',
    'NFKD',
    'Strip',
    'StripAccents',
    'Lowercase',
    'Prepend',
  ],
  pre_tokenizer: [
    'BertPreTokenizer',
    'Sequence',
    'Whitespace',
    'WhitespaceSplit',
    'Metaspace',
    'ByteLevel',
    'Split',
    'Punctuation',
    'Digits',
    'Replace',
    'FixedLength',
  ],
  post_processor: ['TemplateProcessing', 'ByteLevel', 'RobertaProcessing', 'BertProcessing', 'Sequence'],
  decoder: [
    'WordPiece',
    'Metaspace',
    'ByteLevel',
    'Replace',
    'ByteFallback',
    'Fuse',
    'Strip',
    'Sequence',
    'CTC',
    'BPEDecoder',
  ],
} as const;

/** Checks what the library would accept in silence; returns the object, its vocabulary and its added tokens. */
export function validateTokenizer(json: unknown, name: string): TokenizerFile & Json {
  const fail = (problem: string): never => {
    throw new FormatError(`${name}: ${problem}`);
  };
  if (!isRecord(json)) return fail(`it is ${describe(json)}, not an object`);
  const model = json['model'];
  if (!isRecord(model)) return fail(`model is ${describe(model)}, not an object`);
  // Files of older versions leave out the type of BPE models.
  const type = model['type'] ?? (Array.isArray(model['merges']) ? 'BPE' : undefined);
  if (!known.model.includes(type as never)) fail(`model.type is ${describe(type)}; known: ${known.model.join(', ')}`);
  for (const part of ['normalizer', 'pre_tokenizer', 'post_processor', 'decoder'] as const)
    checkPart(part, json[part], part, fail, 0);
  const vocabulary = readVocabulary(model, type as string, fail);
  const addedTokens = readAddedTokens(json['added_tokens'] ?? [], vocabulary, fail);
  // Files have merges as "a b" or as [a, b]; the library takes one form in a file, so it gets one.
  const merges = type === 'BPE' ? readMerges(model['merges'], vocabulary, fail) : undefined;
  const bytes =
    uses(json['decoder'], 'ByteLevel') || uses(json['pre_tokenizer'], 'ByteLevel') ? 'byte-level' : 'characters';
  // The library wants every part to be named, if only as absent.
  const absent = { normalizer: null, pre_tokenizer: null, post_processor: null, decoder: null };
  return { ...absent, ...json, model: { ...model, type, ...(merges && { merges }) }, vocabulary, addedTokens, bytes };
}

function checkPart(
  kind: keyof typeof known,
  value: unknown,
  path: string,
  fail: (problem: string) => never,
  depth: number,
): void {
  if (value === null || value === undefined) return;
  if (!isRecord(value)) fail(`${path} is ${describe(value)}, not an object`);
  const { type } = value;
  if (!known[kind].includes(type as never)) fail(`${path}.type is ${describe(type)}; known: ${known[kind].join(', ')}`);
  if (type !== 'Sequence') {
    checkPattern(value, path, fail);
    return;
  }
  const field = {
    normalizer: 'normalizers',
    pre_tokenizer: 'pretokenizers',
    post_processor: 'processors',
    decoder: 'decoders',
    model: '',
  }[kind];
  const list = value[field];
  if (!Array.isArray(list)) fail(`${path}.${field} is ${describe(list)}, not a list`);
  if (depth > 8) fail(`${path} is nested too deeply`);
  for (const [i, part] of list.entries()) checkPart(kind, part, `${path}.${field}[${i}]`, fail, depth + 1);
}

/** A pattern must be a text or a regular expression that compiles. */
function checkPattern({ pattern }: Json, path: string, fail: (problem: string) => never): void {
  if (pattern === undefined) return;
  const text = isRecord(pattern) ? (pattern['Regex'] ?? pattern['String']) : undefined;
  if (typeof text !== 'string')
    fail(`${path}.pattern is ${describe(pattern)}: {"Regex": …} or {"String": …} is expected`);
}

function readVocabulary(model: Json, type: string, fail: (problem: string) => never): Map<string, number> {
  const { vocab } = model;
  const vocabulary = new Map<string, number>();
  if (type === 'Unigram') {
    if (!Array.isArray(vocab)) return fail(`model.vocab is ${describe(vocab)}, not a list of [text, score]`);
    for (const [id, entry] of vocab.entries()) {
      if (!Array.isArray(entry) || typeof entry[0] !== 'string' || typeof entry[1] !== 'number') {
        fail(`model.vocab[${id}] is ${describe(entry)}, not [text, score]`);
      }
      vocabulary.set(entry[0], id);
    }
  } else {
    if (!isRecord(vocab)) return fail(`model.vocab is ${describe(vocab)}, not an object of ids`);
    const used = new Set<unknown>();
    for (const text of Object.keys(vocab)) {
      const id = vocab[text];
      if (!Number.isSafeInteger(id) || (id as number) < 0 || (id as number) > 1e7)
        fail(`model.vocab: ${JSON.stringify(text)} has the id ${describe(id)}`);
      if (used.has(id)) {
        const [other] = [...vocabulary].find(([, known]) => known === id)!;
        fail(`model.vocab: ${JSON.stringify(text)} and ${JSON.stringify(other)} both have the id ${String(id)}`);
      }
      used.add(id);
      vocabulary.set(text, id as number);
    }
  }
  if (vocabulary.size === 0) fail('model.vocab is empty');
  return vocabulary;
}

function readAddedTokens(
  list: unknown,
  vocabulary: ReadonlyMap<string, number>,
  fail: (problem: string) => never,
): TokenizerFile['addedTokens'] {
  if (!Array.isArray(list)) return fail(`added_tokens is ${describe(list)}, not a list`);
  return list.map((token: unknown, i) => {
    if (!isRecord(token)) return fail(`added_tokens[${i}] is ${describe(token)}, not an object`);
    const { id, content, special = false } = token;
    if (!Number.isSafeInteger(id) || (id as number) < 0 || (id as number) > 1e7)
      fail(`added_tokens[${i}].id is ${describe(id)}`);
    if (typeof content !== 'string' || content === '')
      fail(`added_tokens[${i}].content is ${describe(content)}, not a text`);
    if (typeof special !== 'boolean') fail(`added_tokens[${i}].special is ${describe(special)}, not true or false`);
    const other = vocabulary.get(content as string);
    if (other !== undefined && other !== id)
      fail(`added_tokens[${i}]: ${describe(content)} has the id ${String(id)}, but ${other} in model.vocab`);
    return { id: id as number, content: content as string, special: special as boolean };
  });
}

function readMerges(
  merges: unknown,
  vocabulary: ReadonlyMap<string, number>,
  fail: (problem: string) => never,
): [string, string][] {
  if (!Array.isArray(merges)) return fail(`model.merges is ${describe(merges)}, not a list`);
  const missing = (i: number, token: string) =>
    fail(`model.merges[${i}] is ${describe(merges[i])}, but ${describe(token)} is not in model.vocab`);
  return merges.map((merge: unknown, i) => {
    const parts: unknown = typeof merge === 'string' ? merge.split(' ') : merge;
    if (!Array.isArray(parts) || parts.length !== 2 || typeof parts[0] !== 'string' || typeof parts[1] !== 'string')
      return fail(`model.merges[${i}] is ${describe(merge)}, not a pair of tokens`);
    const [a, b] = parts as [string, string];
    if (!vocabulary.has(a)) missing(i, a);
    if (!vocabulary.has(b)) missing(i, b);
    if (!vocabulary.has(a + b)) missing(i, a + b);
    return [a, b];
  });
}

/** Whether a part is of this type, or a sequence that has one. */
function uses(part: unknown, type: string): boolean {
  if (!isRecord(part)) return false;
  if (part['type'] === type) return true;
  return Object.values(part).some((value) => Array.isArray(value) && value.some((inner) => uses(inner, type)));
}

const isRecord = (value: unknown): value is Json =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

/** A value in a message, cut short. */
function describe(value: unknown): string {
  if (value === undefined) return 'missing';
  const text = JSON.stringify(value) ?? String(value);
  return text.length > 60 ? `${text.slice(0, 57)}…` : text;
}
