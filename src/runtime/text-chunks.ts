import { InputError } from '../core/errors.ts';

/** Pieces of text of any length: as they are, or as UTF-8 cut anywhere. */
export type Chunk = string | Uint8Array;

/** What to say of something that is no source. */
export const unreadable = (source: unknown): InputError =>
  new InputError(
    `${JSON.stringify(source)} is nothing to read: a source is text, bytes, token ids, a stream of text or bytes, or { file: path }`,
  );

/** The chunks of a stream. Some browsers' streams can't be iterated. */
export async function* chunksOf<C>(stream: Iterable<C> | AsyncIterable<C> | ReadableStream<C>): AsyncGenerator<C> {
  if (Symbol.asyncIterator in stream || Symbol.iterator in stream) {
    yield* stream as AsyncIterable<C>;
    return;
  }
  if (!('getReader' in stream)) throw unreadable(stream);
  const reader = (stream as ReadableStream<C>).getReader();
  try {
    for (let next = await reader.read(); !next.done; next = await reader.read()) yield next.value;
  } finally {
    await reader.cancel();
  }
}

/**
 * Decodes what of a stream is bytes. InputError for bytes that are not UTF-8.
 *
 * @param keepMark whether a byte order mark at the beginning is text
 */
export async function* textOf(
  chunks: AsyncIterable<Chunk>,
  { keepMark = false, name = 'the source' } = {},
): AsyncGenerator<string> {
  const decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: keepMark });
  let bytes = 0;
  const decode = (chunk?: Uint8Array): string => {
    try {
      return decoder.decode(chunk, { stream: chunk !== undefined });
    } catch (cause) {
      throw new InputError(`${name} is not UTF-8 text (after about ${bytes} bytes)`, { cause });
    }
  };
  for await (const chunk of chunks) {
    if (typeof chunk === 'string') yield decode() + chunk;
    else if (chunk instanceof Uint8Array) {
      yield decode(chunk);
      bytes += chunk.length;
    } else throw new InputError(`${name} gave ${typeof chunk} in a stream of text: strings and bytes are expected`);
  }
  yield decode();
}

/** Bytes that a text takes in UTF-8. */
export function utf8Length(text: string): number {
  let length = 0;
  for (let i = 0; i < text.length; i++) {
    const unit = text.charCodeAt(i);
    // The two halves of a surrogate pair are four bytes together.
    if (unit < 0x80) length += 1;
    else if (unit < 0x800 || (unit >= 0xd800 && unit < 0xe000)) length += 2;
    else length += 3;
  }
  return length;
}
