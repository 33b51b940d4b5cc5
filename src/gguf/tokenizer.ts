import { ConfigError, UnsupportedError } from '../core/errors.ts';
import type { Json } from '../models/config.ts';
import { huggingFaceTokenizer, type TokenizerSettings } from '../tokenizers/hugging-face.ts';
import { worldTokenizerOf } from '../tokenizers/rwkv-world.ts';
import type { Tokenizer } from '../tokenizers/tokenizer.ts';
import type { Metadata } from './metadata.ts';
import { defaultsOf, patternOf } from './pre-tokenizers.ts';
import { BYTE, CONTROL, UNUSED, USER_DEFINED } from './token-types.ts';

/** Characters that a SentencePiece token may have: usual is 16. */
const LONGEST = 512;

/** The tokenizer inside a GGUF file: as an object that works and, where there is one, as the object of a tokenizer.json. */
export interface EmbeddedTokenizer {
  readonly tokenizer: Tokenizer;
  readonly json?: Json;
  readonly settings: Json;
  readonly world?: readonly (Uint8Array | undefined)[];
}

/** Reads the tokenizer of a file; undefined when it has none. UnsupportedError for kinds that are not built. */
export function embeddedTokenizer(metadata: Metadata, file: string): EmbeddedTokenizer | undefined {
  const model = metadata.text('tokenizer.ggml.model', 'no_vocab');
  if (model === 'no_vocab' || model === 'none') return undefined;
  const template = metadata.has('tokenizer.chat_template')
    ? { chat_template: metadata.text('tokenizer.chat_template') }
    : undefined;
  if (model === 'rwkv') {
    const tokens = worldTokens(metadata, file);
    return { tokenizer: worldTokenizerOf(tokens, file), settings: template ?? {}, world: tokens };
  }
  if (model !== 'gpt2' && model !== 'llama')
    throw new UnsupportedError(`${file}: its tokenizer is "${model}"; known: gpt2, llama, rwkv, no_vocab`);
  const tokens = textTokens(metadata, file);
  const types = metadata.numbers('tokenizer.ggml.token_type');
  const marks = (type: number) => tokens.map((_, id) => id).filter((id) => types?.[id] === type);
  const json = model === 'gpt2' ? byteLevel(metadata, tokens, file) : sentencePiece(metadata, tokens, types, file);
  const added = [...marks(CONTROL), ...marks(USER_DEFINED)].sort((a, b) => a - b);
  const full = {
    version: '1.0',
    added_tokens: added.map((id) => ({
      id,
      content: tokens[id],
      special: types?.[id] === CONTROL,
      single_word: false,
      lstrip: false,
      rstrip: false,
      normalized: false,
    })),
    ...json,
  };
  const settings: Json & TokenizerSettings = { ...template, ...beginAndEnd(metadata, tokens, model) };
  return { tokenizer: huggingFaceTokenizer(full, settings, file), json: full, settings };
}

function beginAndEnd(metadata: Metadata, tokens: readonly string[], model: string): Record<string, unknown> {
  const token = (name: string) => {
    const id = metadata.has(`tokenizer.ggml.${name}_token_id`) && metadata.integer(`tokenizer.ggml.${name}_token_id`);
    return typeof id === 'number' && tokens[id] !== undefined ? { [`${name}_token`]: tokens[id] } : {};
  };
  return {
    ...token('bos'),
    ...token('eos'),
    add_bos_token: metadata.boolean(
      'tokenizer.ggml.add_bos_token',
      model === 'llama' || defaultsOf(metadata.text('tokenizer.ggml.pre', 'default')).beginOfText,
    ),
    add_eos_token: metadata.boolean('tokenizer.ggml.add_eos_token', false),
  };
}

function textTokens(metadata: Metadata, file: string): string[] {
  return metadata.texts('tokenizer.ggml.tokens').map((token, id) => {
    if (typeof token === 'string') return token;
    throw new ConfigError(`${file}: token ${id} is not UTF-8 text`);
  });
}

/** Unused places at the end of a padded vocabulary are tokens like any other: their texts occur in none. */
function byteLevel(metadata: Metadata, tokens: readonly string[], file: string): object {
  const pre = metadata.text('tokenizer.ggml.pre', 'default');
  const pattern = patternOf(pre, file);
  const isNfc = metadata.text('tokenizer.ggml.normalizer', '') === 'NFC';
  const level = { type: 'ByteLevel', add_prefix_space: false, trim_offsets: true };
  const split = (regex: string) => ({ type: 'Split', pattern: { Regex: regex }, behavior: 'Isolated', invert: false });
  return {
    normalizer: isNfc ? { type: 'NFC' } : null,
    pre_tokenizer:
      pattern === 'gpt2'
        ? { ...level, use_regex: true }
        : { type: 'Sequence', pretokenizers: [...pattern.map(split), { ...level, use_regex: false }] },
    post_processor: null,
    decoder: { ...level, use_regex: true },
    model: {
      type: 'BPE',
      byte_fallback: false,
      ignore_merges: metadata.boolean('tokenizer.ggml.ignore_merges', defaultsOf(pre).wholeWords),
      vocab: Object.fromEntries(tokens.map((token, id) => [token, id])),
      merges: metadata.texts('tokenizer.ggml.merges').map((merge, i) => {
        const at = typeof merge === 'string' ? merge.indexOf(' ', 1) : -1;
        if (at < 0) throw new ConfigError(`${file}: merge ${i} is not a pair of tokens`);
        return [(merge as string).slice(0, at), (merge as string).slice(at + 1)];
      }),
    },
  };
}

/**
 * SentencePiece's BPE keeps scores instead of merges: the pair whose token has the best score is merged first. As a list of
 * merges that is all ways to put tokens together, best tokens first.
 */
function sentencePiece(
  metadata: Metadata,
  tokens: readonly string[],
  types: ArrayLike<number> | undefined,
  file: string,
): object {
  const scores = metadata.numbers('tokenizer.ggml.scores');
  if (!scores || scores.length !== tokens.length)
    throw new ConfigError(`${file}: ${tokens.length} tokens but ${scores?.length ?? 'no'} scores`);
  const ids = new Map(tokens.map((token, id) => [token, id]));
  const joined = tokens.map((_, id) => id).filter((id) => !types || (types[id] !== CONTROL && types[id] !== BYTE));
  joined.sort((a, b) => scores[b]! - scores[a]! || a - b);
  const merges = joined.flatMap((id) => {
    const characters = [...tokens[id]!];
    if (characters.length > LONGEST)
      throw new ConfigError(
        `${file}: token ${id} has ${characters.length} characters; at most ${LONGEST} are expected`,
      );
    const pairs: [string, string][] = [];
    for (let cut = 1; cut < characters.length; cut++) {
      const [left, right] = [characters.slice(0, cut).join(''), characters.slice(cut).join('')];
      if (ids.has(left) && ids.has(right)) pairs.push([left, right]);
    }
    return pairs.sort((a, b) => ids.get(a[0])! - ids.get(b[0])! || ids.get(a[1])! - ids.get(b[1])!);
  });
  const prefix = metadata.boolean('tokenizer.ggml.add_space_prefix', true);
  const unknown = metadata.integer('tokenizer.ggml.unknown_token_id', 0);
  const spaces = { type: 'Replace', pattern: { String: ' ' }, content: '▁' };
  return {
    normalizer: { type: 'Sequence', normalizers: [...(prefix ? [{ type: 'Prepend', prepend: '▁' }] : []), spaces] },
    pre_tokenizer: null,
    post_processor: null,
    decoder: {
      type: 'Sequence',
      decoders: [
        { type: 'Replace', pattern: { String: '▁' }, content: ' ' },
        { type: 'ByteFallback' },
        { type: 'Fuse' },
        ...(prefix ? [{ type: 'Strip', content: ' ', start: 1, stop: 0 }] : []),
      ],
    },
    model: {
      type: 'BPE',
      byte_fallback: true,
      fuse_unk: true,
      ignore_merges: false,
      unk_token: tokens[unknown] ?? null,
      vocab: Object.fromEntries(ids),
      merges,
    },
  };
}

/** World tokens are bytes, written as Python writes them: `\n`, `\t`, `\r`, `\\`, `\'`, `\x…`. The first, id 0, ends a text. */
function worldTokens(metadata: Metadata, file: string): (Uint8Array | undefined)[] {
  const types = metadata.numbers('tokenizer.ggml.token_type');
  return metadata.texts('tokenizer.ggml.tokens').map((token, id) => {
    if (id === 0 || types?.[id] === CONTROL || types?.[id] === UNUSED) return undefined;
    if (typeof token !== 'string') throw new ConfigError(`${file}: token ${id} is not text`);
    return unescaped(token);
  });
}

const letters: Readonly<Record<string, number>> = { n: 10, r: 13, t: 9 };

function unescaped(text: string): Uint8Array {
  const bytes: number[] = [];
  for (let i = 0; i < text.length; i++) {
    const character = String.fromCodePoint(text.codePointAt(i)!);
    if (character !== '\\' || i + 1 === text.length) {
      bytes.push(...new TextEncoder().encode(character));
      i += character.length - 1;
    } else if (/^x[0-9a-f]{2}/i.test(text.slice(i + 1))) {
      bytes.push(Number.parseInt(text.slice(i + 2, i + 4), 16));
      i += 3;
    } else {
      i++;
      bytes.push(letters[text[i]!] ?? text.charCodeAt(i));
    }
  }
  return Uint8Array.from(bytes);
}
