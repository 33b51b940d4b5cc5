import { InputError } from '../core/errors.ts';
import type { TextPiece } from '../tokenizers/encode-stream.ts';

/** What stands between separators, without empty pieces. InputError for a line that is longer than `longest`. */
export async function* cut(
  chunks: AsyncIterable<string>,
  separator: string,
  { longest, file }: { readonly longest: number; readonly file: string } = { longest: Infinity, file: '' },
): AsyncGenerator<string> {
  let held: string[] = [];
  let length = 0;
  let tail = '';
  let number = 1;
  for await (const chunk of chunks) {
    const pieces = (tail + chunk).split(separator);
    // The end may be the beginning of a separator that goes on in the next chunk.
    const last = pieces.pop()!;
    number += pieces.length;
    for (const piece of pieces) {
      const whole = held.join('') + piece;
      held = [];
      length = 0;
      if (whole !== '') yield whole;
    }
    const keep = Math.min(separator.length - 1, last.length);
    held.push(last.slice(0, last.length - keep));
    length += last.length - keep;
    tail = last.slice(last.length - keep);
    if (length > longest)
      throw new InputError(`${file}: line ${number} is longer than ${longest} characters: it is no example`);
  }
  const whole = held.join('') + tail;
  if (whole !== '') yield whole;
}

/**
 * The texts between separators, in pieces of about `longest` characters at most, for a text may be longer than a string can be. Pieces end where no token or
 * word can span the cut: before a space between two other characters, or else after a line.
 */
export async function* textPieces(
  chunks: AsyncIterable<string>,
  separator: string,
  longest: number,
): AsyncGenerator<TextPiece> {
  let held = '';
  let continues = false;
  // The separator does not begin before this.
  let from = 0;
  /** Pieces of what is held before `stop`, as long as there are `longest` characters. */
  function* long(stop: number): Generator<TextPiece> {
    from = stop;
    while (from > longest) {
      const end = placeToCut(held, longest);
      yield { text: held.slice(0, end), continues };
      continues = true;
      held = held.slice(end);
      from -= end;
    }
  }
  for await (const chunk of chunks) {
    held += chunk;
    for (let at = held.indexOf(separator, from); at >= 0; at = held.indexOf(separator)) {
      yield* long(at);
      if (from > 0) yield { text: held.slice(0, from), continues };
      continues = false;
      held = held.slice(from + separator.length);
    }
    yield* long(Math.max(0, held.length - separator.length + 1));
  }
  yield* long(held.length);
  if (held !== '') yield { text: held, continues };
}

/** The last good place to cut a text at or before `end`; `end` itself where there is none. */
function placeToCut(text: string, end: number): number {
  for (let at = text.lastIndexOf(' ', end); at > 0; at = text.lastIndexOf(' ', at - 1))
    if (/\S/.test(text[at - 1]!) && /\S/.test(text[at + 1] ?? ' ')) return at;
  const line = text.lastIndexOf('\n', end - 1) + 1;
  if (line > 0) return line;
  return end > 1 && /[\ud800-\udbff]/.test(text[end - 1]!) ? end - 1 : end;
}
