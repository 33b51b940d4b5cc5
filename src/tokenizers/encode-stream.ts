import { InputError } from '../core/errors.ts';
import type { EncodeOptions, Tokenizer } from './tokenizer.ts';

/** Text is encoded in pieces of about this many characters. */
const PIECE = 1 << 14;
/**
 * A stretch without a place to cut is cut after this many characters, or memory would have no bound. One without spaces takes the library ten
 * times as long as words do, and nothing else has its turn meanwhile; of tokenizers that have no places to cut all texts are such stretches.
 */
const LONGEST = { 'before-spaces': 1 << 16, never: 1 << 20 };

/** A stretch of a text that may be longer than a string can be. */
export interface TextPiece {
  readonly text: string;
  /** Whether it goes on where the piece before ended; a new text begins otherwise. */
  readonly continues: boolean;
}

/** A stretch of text and its ids. */
export interface EncodedPiece {
  readonly text: string;
  readonly tokens: number[];
}

/**
 * Encodes text that comes in chunks of any size, in bounded memory, to the ids that encoding the whole at once gives:
 * the text is cut only where no token can span the cut. Only a long stretch without such a place is cut all the same.
 */
export async function* encodeStream(
  tokenizer: Tokenizer,
  chunks: Iterable<string> | AsyncIterable<string>,
  options: EncodeOptions = {},
): AsyncGenerator<number[]> {
  for await (const { tokens } of encodePieces(tokenizer, chunks, options)) yield tokens;
}

/** Like `encodeStream`, with the text that each piece's ids are of. The texts joined are the whole. */
export async function* encodePieces(
  tokenizer: Tokenizer,
  chunks: Iterable<string> | AsyncIterable<string>,
  options: EncodeOptions = {},
): AsyncGenerator<EncodedPiece> {
  let held = '';
  let addSpecialTokens = options.addSpecialTokens ?? true;
  for await (const chunk of chunks) {
    if (typeof chunk !== 'string')
      throw new InputError(`a stream of text gave ${typeof chunk}: decode bytes with a TextDecoderStream first`);
    for (let at = 0; at < chunk.length; at += PIECE) {
      held += chunk.slice(at, at + PIECE);
      while (held.length > PIECE) {
        const cut = cutBefore(tokenizer, held);
        if (cut <= 0) break;
        const text = held.slice(0, cut);
        yield { text, tokens: tokenizer.encode(text, { addSpecialTokens }) };
        addSpecialTokens = false;
        held = held.slice(cut);
      }
    }
  }
  if (held !== '') yield { text: held, tokens: tokenizer.encode(held, { addSpecialTokens }) };
}

/** The last place in `text` where it may be cut; 0 where there is none yet. */
function cutBefore({ cuts }: Tokenizer, text: string): number {
  if (cuts === 'anywhere') return wholeCharacters(text, text.length);
  if (cuts === 'before-spaces') {
    // A single space between two others: a pre-tokenizer begins a word there, and no token continues over it.
    for (let i = text.lastIndexOf(' ', text.length - 2); i > 0; i = text.lastIndexOf(' ', i - 1)) {
      if (/\S/.test(text[i - 1]!) && /\S/.test(text[i + 1]!)) return i;
    }
  }
  return text.length > LONGEST[cuts] ? wholeCharacters(text, LONGEST[cuts]) : 0;
}

/** `at`, or one less where it would cut a surrogate pair. */
const wholeCharacters = (text: string, at: number): number => (/[\ud800-\udbff]/.test(text[at - 1]!) ? at - 1 : at);

/** Each text as the pieces that it comes in, which must be read to their end before the next. */
export async function* wholeTexts(
  texts: AsyncIterable<string | TextPiece> | Iterable<string | TextPiece>,
): AsyncGenerator<AsyncIterable<string>> {
  const pieces = Symbol.asyncIterator in texts ? texts[Symbol.asyncIterator]() : texts[Symbol.iterator]();
  let next = await pieces.next();
  async function* one(): AsyncGenerator<string> {
    do {
      yield typeof next.value === 'string' ? next.value : (next.value as TextPiece).text;
      next = await pieces.next();
    } while (!next.done && typeof next.value !== 'string' && next.value.continues);
  }
  try {
    while (!next.done) yield one();
  } finally {
    await pieces.return?.();
  }
}
