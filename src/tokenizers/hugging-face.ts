import { Tokenizer as Library } from '@huggingface/tokenizers';
import { FormatError, RiverrunError } from '../core/errors.ts';
import { byteLevelNames } from './byte-level.ts';
import { byteTokenizerOf } from './bytes.ts';
import { byteStream, checkToken, decodeBytes, type StreamDecoder, type Tokenizer } from './tokenizer.ts';
import { type TokenizerFile, validateTokenizer } from './tokenizer-json.ts';
import { unicodeWhiteSpace } from './white-space.ts';

/** The fields of `tokenizer_config.json` that say how texts begin and end. */
export interface TokenizerSettings {
  readonly bos_token?: unknown;
  readonly eos_token?: unknown;
  readonly add_bos_token?: unknown;
  readonly add_eos_token?: unknown;
}

/** Marks that end a text in well-known vocabularies, for checkpoints that do not say. */
const wellKnownEnds = ['<|endoftext|>', '</s>', '<|end_of_text|>', '<eos>', '<|im_end|>'];

/**
 * A tokenizer from the object of a `tokenizer.json`, by `@huggingface/tokenizers`. FormatError names the field that is not
 * as the format has it.
 *
 * @param name what to call the file in messages
 */
export function huggingFaceTokenizer(
  json: unknown,
  settings: TokenizerSettings = {},
  name = 'tokenizer.json',
): Tokenizer {
  const bytes = byteTokenizerOf(json, { ...settings });
  if (bytes) return bytes;
  const file = validateTokenizer(json, name);
  try {
    const library = new Library({ ...file, pre_tokenizer: unicodeWhiteSpace(file['pre_tokenizer']) }, settings);
    const tokenizer = new HuggingFaceTokenizer(library, file, settings);
    // What the library only finds out when it works, such as a pattern that is no regular expression.
    tokenizer.decode(tokenizer.encode('A text, 123.'));
    return tokenizer;
  } catch (cause) {
    if (cause instanceof RiverrunError) throw cause;
    throw new FormatError(`${name}: no tokenizer can be made of it (${(cause as Error).message})`, { cause });
  }
}

class HuggingFaceTokenizer implements Tokenizer {
  readonly vocabularySize: number;
  readonly endOfText: number | undefined;
  readonly beginOfText: number | undefined;
  readonly cuts: Tokenizer['cuts'];
  readonly #library: Library;
  readonly #file: TokenizerFile;
  /** Texts of tokens by id, as the vocabulary writes them. */
  readonly #texts: (string | undefined)[] = [];
  readonly #added = new Map<number, { content: string; special: boolean }>();
  readonly #addsBegin: boolean;
  readonly #addsEnd: boolean;
  /** The mark that the file's own post-processor puts before texts. */
  readonly #processorBegin: number | undefined;

  constructor(library: Library, file: TokenizerFile, settings: TokenizerSettings) {
    this.#library = library;
    this.#file = file;
    for (const [text, id] of file.vocabulary) this.#texts[id] = text;
    for (const { id, content, special } of file.addedTokens) {
      this.#texts[id] = content;
      this.#added.set(id, { content, special });
    }
    this.vocabularySize = this.#texts.length;
    const named = (token: unknown) => {
      const text = typeof token === 'object' && token !== null ? (token as { content?: unknown }).content : token;
      const id = typeof text === 'string' ? this.#texts.indexOf(text) : -1;
      return id < 0 ? undefined : id;
    };
    const [first] = library.encode('a', { add_special_tokens: true }).ids;
    this.#processorBegin = this.#added.get(first!)?.special ? first : undefined;
    this.beginOfText = named(settings.bos_token) ?? this.#processorBegin;
    this.endOfText = named(settings.eos_token) ?? wellKnownEnds.map(named).find((id) => id !== undefined);
    this.#addsBegin = settings.add_bos_token === true && this.beginOfText !== undefined;
    this.#addsEnd = settings.add_eos_token === true && this.endOfText !== undefined;
    this.cuts = this.#texts.some((text) => text !== undefined && /[^\sĠ▁][ Ġ▁]/.test(text)) ? 'never' : 'before-spaces';
  }

  encode(text: string, { addSpecialTokens = true }: { addSpecialTokens?: boolean } = {}): number[] {
    if (text === '') return addSpecialTokens && this.#addsBegin ? [this.beginOfText!] : [];
    const { ids } = this.#library.encode(text, { add_special_tokens: addSpecialTokens });
    if (!addSpecialTokens) return ids;
    // A rendered chat begins with the mark already.
    if (ids[0] === this.#processorBegin && ids[1] === ids[0] && text.startsWith(this.#texts[ids[0]!]!)) ids.shift();
    if (this.#addsBegin && ids[0] !== this.beginOfText) ids.unshift(this.beginOfText!);
    if (this.#addsEnd && ids.at(-1) !== this.endOfText) ids.push(this.endOfText!);
    return ids;
  }

  decode(tokens: Iterable<number>, { skipSpecialTokens = false }: { skipSpecialTokens?: boolean } = {}): string {
    const ids = [...tokens];
    for (const id of ids) checkToken(id, this.vocabularySize);
    if (this.#file.bytes === 'byte-level') {
      return decodeBytes(this, ids, (id) => (skipSpecialTokens ? '' : this.#texts[id]!));
    }
    return ids.length === 0
      ? ''
      : this.#library.decode(ids, { skip_special_tokens: skipSpecialTokens, clean_up_tokenization_spaces: false });
  }

  tokenBytes(id: number): Uint8Array {
    checkToken(id, this.vocabularySize);
    const text = this.#texts[id];
    const added = this.#added.get(id);
    if (text === undefined || added?.special) return new Uint8Array(0);
    if (added) return new TextEncoder().encode(text);
    if (this.#file.bytes === 'byte-level') return byteLevelBytes(text);
    const byte = /^<0x([0-9A-F]{2})>$/.exec(text);
    return byte ? Uint8Array.of(Number.parseInt(byte[1]!, 16)) : new TextEncoder().encode(text.replaceAll('▁', ' '));
  }

  isSpecial(id: number): boolean {
    return this.#added.get(id)?.special ?? false;
  }

  stream(): StreamDecoder {
    return this.#file.bytes === 'byte-level' ? byteStream(this) : this.#windowStream();
  }

  /**
   * For vocabularies whose decoder looks at neighbours (a first word's space, WordPiece's joining): decodes the whole so
   * far and gives what is new, holding back an incomplete character. Only the last tokens are decoded again.
   */
  #windowStream(): StreamDecoder {
    const recent: number[] = [];
    let given = '';
    const advance = (final: boolean): string => {
      const text = this.decode(recent, { skipSpecialTokens: true });
      if (!final && text.endsWith('\ufffd')) return '';
      const piece = text.slice(given.length);
      given = text;
      // Once a good stretch is decoded, its last tokens are context enough for the next.
      if (recent.length > 32) {
        recent.splice(0, recent.length - 8);
        given = this.decode(recent, { skipSpecialTokens: true });
      }
      return piece;
    };
    return {
      push: (token) => {
        recent.push(token);
        return advance(false);
      },
      end: () => advance(true),
    };
  }
}

const byteOfCharacter = new Map(byteLevelNames.map((name, byte) => [name, byte]));

function byteLevelBytes(text: string): Uint8Array {
  const bytes: number[] = [];
  for (const character of text) {
    const byte = byteOfCharacter.get(character);
    if (byte === undefined) bytes.push(...new TextEncoder().encode(character));
    else bytes.push(byte);
  }
  return Uint8Array.from(bytes);
}
