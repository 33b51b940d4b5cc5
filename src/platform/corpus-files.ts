import { createHash } from 'node:crypto';
import { existsSync, statSync } from 'node:fs';
import { homedir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { InputError } from '../core/errors.ts';
import { Pace } from '../runtime/pause.ts';
import { encodePieces, wholeTexts } from '../tokenizers/encode-stream.ts';
import type { Tokenizer } from '../tokenizers/tokenizer.ts';
import type { Corpus } from '../train/corpus.ts';
import { dataFiles, readTexts } from './data-files.ts';
import { makeFolder, openFile, writeFileAtomically } from './node-file.ts';

export interface CorpusOptions {
  readonly field?: string | undefined;
  /** Names of the columns of CSV and TSV files that have no header. */
  readonly columns?: readonly string[] | undefined;
  /** What tells this tokenizer from others: the tokens are kept in a cache under it. Without, nothing is kept. */
  readonly tokenizerKey?: string | undefined;
  readonly signal?: AbortSignal | undefined;
  /** Told how many tokens there are so far. */
  readonly onProgress?: ((tokens: number) => void) | undefined;
}

/** Reads data files as one corpus, each text after the token that ends texts; tokenised once, then found in the cache. */
export async function readCorpus(
  paths: readonly string[],
  tokenizer: Tokenizer,
  options: CorpusOptions = {},
): Promise<Corpus> {
  const files = dataFiles(paths);
  const { tokenizerKey } = options;
  if (tokenizerKey === undefined || files.includes('-')) return await tokenise(files, tokenizer, options);
  const path = cachePath(files, tokenizerKey, options);
  const known = existsSync(path) ? parse(await wholeFile(path)) : undefined;
  if (known) return known;
  const corpus = await tokenise(files, tokenizer, options);
  try {
    makeFolder(dirname(path));
    await writeFileAtomically(path, serialise(corpus));
  } catch (cause) {
    if (!(cause instanceof InputError)) throw cause;
    throw new InputError(`${cause.message}. Tokens are kept there: XDG_CACHE_HOME names another folder`, { cause });
  }
  return corpus;
}

function cachePath(
  files: readonly string[],
  tokenizerKey: string,
  { field = 'text', columns }: Pick<CorpusOptions, 'field' | 'columns'>,
): string {
  const facts = files.map((file) => {
    const { size, mtimeMs } = statSync(file);
    return [resolve(file), size, mtimeMs];
  });
  const digest = createHash('sha256')
    .update(JSON.stringify([1, tokenizerKey, field, facts, ...(columns ?? [])]))
    .digest('hex');
  const root = process.env['XDG_CACHE_HOME'] || join(homedir(), '.cache');
  return join(root, 'riverrun', 'tokens', `${digest.slice(0, 32)}.bin`);
}

async function tokenise(files: readonly string[], tokenizer: Tokenizer, options: CorpusOptions): Promise<Corpus> {
  const { field, columns, signal, onProgress } = options;
  const wide = tokenizer.vocabularySize > 65536;
  const separator = tokenizer.endOfText ?? 0;
  let tokens: Uint16Array | Uint32Array = wide ? new Uint32Array(1 << 20) : new Uint16Array(1 << 20);
  let length = 0;
  const starts: number[] = [];
  const append = (ids: readonly number[]) => {
    if (length + ids.length > tokens.length) {
      const grown = wide ? new Uint32Array(2 * (length + ids.length)) : new Uint16Array(2 * (length + ids.length));
      grown.set(tokens);
      tokens = grown;
    }
    tokens.set(ids, length);
    length += ids.length;
  };
  const pace = new Pace();
  for await (const text of wholeTexts(readTexts(files, { field, columns, signal }))) {
    starts.push(length);
    append([separator]);
    for await (const { tokens: ids } of encodePieces(tokenizer, text, { addSpecialTokens: false })) {
      // A file may be one long text, within which nothing is waited for.
      await pace.breathe();
      signal?.throwIfAborted();
      append(ids);
      onProgress?.(length);
    }
  }
  if (starts.length === 0) throw new InputError(`${files.join(', ')}: there is no text`);
  append([separator]);
  return { tokens: tokens.slice(0, length), starts: Uint32Array.from(starts) };
}

/** A file's bytes: one call reads no more than 2 GB. */
async function wholeFile(path: string): Promise<Uint8Array> {
  const file = await openFile(path);
  try {
    const bytes = new Uint8Array(file.size);
    for (let at = 0; at < bytes.length; at += READ) await file.read(at, bytes.subarray(at, at + READ));
    return bytes;
  } finally {
    await file.close();
  }
}

const READ = 1 << 30;
const MAGIC = 0x6b6f7472;

/** [magic, bytes a token, tokens, starts] as u32, the starts, the tokens. */
function serialise({ tokens, starts }: Corpus): Uint8Array[] {
  const bytes = (array: Uint16Array | Uint32Array) => new Uint8Array(array.buffer, array.byteOffset, array.byteLength);
  return [
    bytes(Uint32Array.of(MAGIC, tokens.BYTES_PER_ELEMENT, tokens.length, starts.length)),
    bytes(starts),
    bytes(tokens),
  ];
}

/** The corpus of a cache file; nothing where the file is not whole. */
function parse(bytes: Uint8Array): Corpus | undefined {
  if (bytes.byteLength < 16) return undefined;
  const [magic, size, count, texts] = new Uint32Array(bytes.buffer, 0, 4) as unknown as [
    number,
    number,
    number,
    number,
  ];
  if (magic !== MAGIC || bytes.byteLength !== 16 + 4 * texts + size * count) return undefined;
  const at = 16 + 4 * texts;
  const tokens = size === 2 ? new Uint16Array(bytes.buffer, at, count) : new Uint32Array(bytes.buffer, at, count);
  const starts = new Uint32Array(bytes.buffer, 16, texts);
  const areStarts = starts[0] === 0 && starts.every((start, n) => start < count && (n === 0 || start > starts[n - 1]!));
  return areStarts ? { tokens, starts } : undefined;
}
