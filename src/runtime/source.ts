import type { Digest } from '../core/digest.ts';
import { InputError, UnsupportedError } from '../core/errors.ts';
import { type EncodedPiece, encodePieces } from '../tokenizers/encode-stream.ts';
import type { EncodeOptions, Tokenizer } from '../tokenizers/tokenizer.ts';
import { type Chunk, chunksOf, textOf, unreadable, utf8Length } from './text-chunks.ts';

/** A file, on platforms that have files. */
export interface FileSource {
  /** Path of a text in UTF-8. */
  readonly file: string;
}

/**
 * What a session reads: text, UTF-8 bytes, token ids, a stream of text or bytes in pieces of any length, or a file. Of a
 * stream or file only a piece is in memory at a time.
 */
export type Source =
  | string
  | Uint8Array
  | ArrayLike<number>
  | Iterable<Chunk>
  | AsyncIterable<Chunk>
  | ReadableStream<Chunk>
  | FileSource;

/** Reads and writes files, on platforms that have them. */
export interface Files {
  /** The bytes of a file from byte `offset` on, in pieces. */
  open(path: string, offset: number): AsyncIterable<Uint8Array>;
  /** A whole file, or nothing where there is none. */
  read(path: string): Promise<Uint8Array | undefined>;
  /** Writes a file so that it is all there or not at all, whenever the process ends. */
  write(path: string, bytes: Uint8Array): Promise<void>;
}

/** What a source's places are counted in: UTF-16 units of text, bytes of files, tokens. */
export type SourceUnit = 'characters' | 'bytes' | 'tokens';

/** A stretch of a source that is tokenised on its own. */
export interface Piece {
  readonly tokens: ArrayLike<number>;
  /** Length in the source's unit. */
  readonly length: number;
}

/** A source whose kind is known. */
export interface OpenSource {
  readonly unit: SourceUnit;
  /** Its pieces from a place between two pieces on. */
  from(offset: number): AsyncGenerator<Piece>;
  /**
   * Adds the units from a place to another to a digest, by which the source is known again. Absent of a stream, which can be read only
   * once. InputError when it ends before.
   */
  readonly digest: ((into: Digest, from: number, to: number) => Promise<void>) | undefined;
}

/** What reading text needs of its surroundings. */
export interface Surroundings {
  readonly model: { readonly tokenizer: Tokenizer };
  readonly files: Files | undefined;
  /** Whether the text begins here, so that what the model was trained to see at a start is added. */
  readonly isStart: boolean;
}

/** Whether a source is token ids. Bytes are text. */
export function isTokens(source: Source): source is ArrayLike<number> {
  if (typeof source === 'string' || source instanceof Uint8Array) return false;
  if (typeof source !== 'object' || source === null) throw unreadable(source);
  if (!('length' in source)) return false;
  return source.length === 0 || typeof source[0] === 'number';
}

/** Finds out what kind of source it is; nothing is read yet. */
export function openSource(source: Source, surroundings: Surroundings): OpenSource {
  if (isTokens(source))
    return {
      unit: 'tokens',
      from: (offset) => tokensFrom(source, offset),
      digest: async (into, from, to) => {
        if (to > source.length) throw tooShort(to - source.length);
        into.words(Int32Array.from({ length: to - from }, (_, i) => source[from + i]!));
      },
    };
  const { model, files, isStart } = surroundings;
  const { tokenizer } = model;
  const encode: Encode = (text, offset) => encoded(tokenizer, text, { addSpecialTokens: isStart && offset === 0 });
  if (typeof source === 'object' && 'file' in source) {
    if (!files) throw new UnsupportedError(`there are no files here to read ${source.file} from: read a stream`);
    return {
      unit: 'bytes',
      from: (offset) => fileFrom(source.file, offset, files, encode),
      digest: (into, from, to) => digestFile(source.file, into, from, to, files),
    };
  }
  const chunks = typeof source === 'string' || source instanceof Uint8Array ? [source] : source;
  return {
    unit: 'characters',
    from: (offset) => textFrom(chunksOf(chunks), offset, encode),
    digest: typeof source === 'string' || source instanceof Uint8Array ? digestOfText(source) : undefined,
  };
}

function digestOfText(source: string | Uint8Array): OpenSource['digest'] {
  let text: string | undefined;
  return async (into, from, to) => {
    text ??= typeof source === 'string' ? source : new TextDecoder().decode(source);
    if (to > text.length) throw tooShort(to - text.length);
    into.words(Int32Array.from({ length: to - from }, (_, i) => text!.charCodeAt(from + i)));
  };
}

async function digestFile(path: string, into: Digest, from: number, to: number, files: Files): Promise<void> {
  let left = to - from;
  if (left === 0) return;
  for await (const chunk of files.open(path, from)) {
    const bytes = chunk.subarray(0, left);
    into.words(Int32Array.from(bytes));
    left -= bytes.length;
    if (left === 0) return;
  }
  throw new InputError(`${path} ends before byte ${to}, where reading is to go on: it is another file, or it changed`);
}

type Encode = (text: AsyncIterable<string>, offset: number) => AsyncGenerator<EncodedPiece>;

/** The pieces of a text; of an empty one, what a text begins with. */
async function* encoded(
  tokenizer: Tokenizer,
  text: AsyncIterable<string>,
  options: EncodeOptions,
): AsyncGenerator<EncodedPiece> {
  let isEmpty = true;
  for await (const piece of encodePieces(tokenizer, text, options)) {
    isEmpty = false;
    yield piece;
  }
  if (isEmpty && options.addSpecialTokens) yield { text: '', tokens: tokenizer.encode('', options) };
}

async function* tokensFrom(source: ArrayLike<number>, offset: number): AsyncGenerator<Piece> {
  if (offset > source.length) throw tooShort(offset - source.length);
  const tokens = offset === 0 ? source : (Array.prototype.slice.call(source, offset) as number[]);
  yield { tokens, length: tokens.length };
}

async function* textFrom(chunks: AsyncIterable<Chunk>, offset: number, encode: Encode): AsyncGenerator<Piece> {
  for await (const { text, tokens } of encode(after(textOf(chunks), offset), offset))
    yield { tokens, length: text.length };
}

async function* fileFrom(path: string, offset: number, files: Files, encode: Encode): AsyncGenerator<Piece> {
  const text = textOf(files.open(path, offset), { keepMark: true, name: path });
  let mark = 0;
  async function* withoutMark(): AsyncGenerator<string> {
    let isFirst = offset === 0;
    for await (const chunk of text) {
      if (isFirst && chunk.startsWith('\ufeff')) mark = utf8Length('\ufeff');
      yield isFirst && mark > 0 ? chunk.slice(1) : chunk;
      isFirst &&= chunk === '';
    }
  }
  for await (const { text, tokens } of encode(withoutMark(), offset)) {
    yield { tokens, length: utf8Length(text) + mark };
    mark = 0;
  }
}

/** A text without its first `offset` characters. */
async function* after(chunks: AsyncIterable<string>, offset: number): AsyncGenerator<string> {
  let left = offset;
  for await (const chunk of chunks) {
    if (left < chunk.length) yield chunk.slice(left);
    left = Math.max(0, left - chunk.length);
  }
  if (left > 0) throw tooShort(left);
}

const tooShort = (missing: number): InputError =>
  new InputError(`the source ends ${missing} before the place where reading is to go on: it is another, or it changed`);
