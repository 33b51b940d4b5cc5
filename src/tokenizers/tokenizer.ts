import { InputError } from '../core/errors.ts';

export interface EncodeOptions {
  /** Adds what the model was trained to see at the start of a text (a beginning token), where there is such a thing. Default true. */
  readonly addSpecialTokens?: boolean;
}

export interface DecodeOptions {
  /** Leaves out tokens that are not text (end of text, roles of a chat …). Default false. */
  readonly skipSpecialTokens?: boolean;
}

/** Text ⇄ token ids. */
export interface Tokenizer {
  /** One more than the largest id. */
  readonly vocabularySize: number;
  /** The token that ends a text, if there is one. */
  readonly endOfText: number | undefined;
  /** The token that begins a text, if there is one. */
  readonly beginOfText: number | undefined;
  /**
   * How a text may be cut so that the pieces' ids joined are the whole's: `anywhere`, or only before a space that stands
   * between two other characters, or not at all.
   */
  readonly cuts: 'anywhere' | 'before-spaces' | 'never';
  encode(text: string, options?: EncodeOptions): number[];
  decode(tokens: Iterable<number>, options?: DecodeOptions): string;
  /** The bytes that a token stands for; none for a special token. InputError for an id that does not exist. */
  tokenBytes(id: number): Uint8Array;
  /** Whether a token is a mark rather than text. */
  isSpecial(id: number): boolean;
  /** A decoder for tokens that come one by one; special tokens are left out. */
  stream(): StreamDecoder;
}

/** Turns tokens into text as they come, whole characters only. */
export interface StreamDecoder {
  /** The text that became certain with this token: empty while a character is incomplete. */
  push(token: number): string;
  /** What is left when no more tokens come: an incomplete character becomes U+FFFD. */
  end(): string;
}

/** Streams the bytes of tokens through a UTF-8 decoder, which holds incomplete characters back. */
export function byteStream(tokenizer: Pick<Tokenizer, 'tokenBytes' | 'isSpecial'>): StreamDecoder {
  const decoder = new TextDecoder('utf-8', { ignoreBOM: true });
  return {
    push: (token) => (tokenizer.isSpecial(token) ? '' : decoder.decode(tokenizer.tokenBytes(token), { stream: true })),
    end: () => decoder.decode(),
  };
}

/** Decodes tokens whose texts are bytes joined; `special` gives the text of special tokens. */
export function decodeBytes(
  tokenizer: Pick<Tokenizer, 'tokenBytes' | 'isSpecial'>,
  tokens: Iterable<number>,
  special: (id: number) => string,
): string {
  const decoder = new TextDecoder('utf-8', { ignoreBOM: true });
  let text = '';
  for (const token of tokens) {
    if (!tokenizer.isSpecial(token)) text += decoder.decode(tokenizer.tokenBytes(token), { stream: true });
    else text += decoder.decode() + special(token);
  }
  return text + decoder.decode();
}

/** InputError for an id that is not in a vocabulary of `size`. */
export function checkToken(id: number, size: number): void {
  if (!Number.isInteger(id) || id < 0 || id >= size) {
    throw new InputError(`token ${id} is out of range: the tokenizer has ids 0 to ${size - 1}`);
  }
}
