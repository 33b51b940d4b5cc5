import { FormatError } from '../core/errors.ts';
import { pythonLiteral } from './python-literal.ts';
import { byteStream, checkToken, decodeBytes, type Tokenizer } from './tokenizer.ts';

/** The largest id that a vocabulary may have: many times that of any there is. */
const MAXIMUM_ID = 1 << 20;

/**
 * The tokenizer of RWKV's World models, from the text of its vocabulary file (`rwkv_vocab_v20230424.txt`): lines of an id, a Python
 * literal and its length in bytes. Text is cut greedily into the longest tokens. Id 0 is in no line: it ends a text.
 *
 * @param name what to call the file in messages
 */
export function worldTokenizer(file: string, name = 'rwkv_vocab.txt'): Tokenizer {
  return worldTokenizerOf(worldVocabulary(file, name), name);
}

/** The same of the tokens' bytes by id; id 0 and unused ids have none. */
export function worldTokenizerOf(tokens: readonly (Uint8Array | undefined)[], name: string): Tokenizer {
  for (let byte = 0; byte < 256; byte++) {
    if (!tokens.some((token) => token?.length === 1 && token[0] === byte))
      throw new FormatError(`${name}: no token for byte ${byte}, so that not every text can be encoded`);
  }
  const trie = new Trie(tokens);
  const none = new Uint8Array(0);
  const tokenizer: Tokenizer = {
    vocabularySize: tokens.length,
    endOfText: 0,
    beginOfText: undefined,
    cuts: tokens.some((bytes) => bytes && spansSpace(bytes)) ? 'never' : 'before-spaces',
    encode: (text) => trie.encode(new TextEncoder().encode(text)),
    decode: (ids) => decodeBytes(tokenizer, ids, () => ''),
    tokenBytes(id) {
      checkToken(id, tokens.length);
      return tokens[id] ?? none;
    },
    isSpecial: (id) => id === 0,
    stream: () => byteStream(tokenizer),
  };
  return tokenizer;
}

/** Whether a token has a space after something that is none, so that a text can't be cut there. */
const spansSpace = (bytes: Uint8Array): boolean => bytes.some((byte, i) => i > 0 && byte === 32 && bytes[i - 1]! > 32);

/** The bytes of the tokens in a vocabulary file, by id. */
export function worldVocabulary(file: string, name: string): (Uint8Array | undefined)[] {
  const tokens: (Uint8Array | undefined)[] = [];
  const lines = file.split('\n');
  for (const [i, line] of lines.entries()) {
    if (line === '' && i === lines.length - 1) break;
    const fail = (problem: string): never => {
      throw new FormatError(`${name}, line ${i + 1}: ${problem}`);
    };
    const [, digits, literal, length] =
      /^(\d{1,7}) (.+) (\d{1,4})\r?$/.exec(line) ?? fail('an id, a Python literal and its length are expected');
    const id = Number(digits);
    const bytes =
      pythonLiteral(literal!) ?? fail(`${literal!.slice(0, 40)} is no Python literal of a text or of bytes`);
    if (id === 0 || id > MAXIMUM_ID) fail(`the id ${id} is not between 1 and ${MAXIMUM_ID}`);
    if (tokens[id]) fail(`the id ${id} was given before`);
    if (bytes.length !== Number(length)) fail(`the literal has ${bytes.length} bytes, not ${length}`);
    if (bytes.length === 0) fail('the literal is empty');
    tokens[id] = bytes;
  }
  return tokens;
}

/** The text of a vocabulary file with these tokens. */
export function worldVocabularyFile(tokens: readonly (Uint8Array | undefined)[]): string {
  const hex = (byte: number) => `\\x${byte.toString(16).padStart(2, '0')}`;
  const lines = [...tokens.entries()].map(([id, bytes]) =>
    bytes ? `${id} b'${Array.from(bytes, hex).join('')}' ${bytes.length}\n` : '',
  );
  return lines.join('');
}

/** Tokens by their bytes: node n's child for a byte is `children.get(256 n + byte)`, its token `ids[n]` or 0. */
class Trie {
  readonly #children = new Map<number, number>();
  readonly #ids: number[] = [0];

  constructor(tokens: readonly (Uint8Array | undefined)[]) {
    for (const [id, bytes] of tokens.entries()) if (bytes) this.#add(bytes, id);
  }

  #add(bytes: Uint8Array, id: number): void {
    let node = 0;
    for (const byte of bytes) {
      const key = 256 * node + byte;
      let child = this.#children.get(key);
      if (child === undefined) {
        child = this.#ids.push(0) - 1;
        this.#children.set(key, child);
      }
      node = child;
    }
    this.#ids[node] = id;
  }

  /** Greedy: at every place the longest token that fits. */
  encode(bytes: Uint8Array): number[] {
    const ids: number[] = [];
    for (let at = 0; at < bytes.length; ) {
      let [id, end] = [0, at];
      let node: number | undefined = 0;
      for (let i = at; i < bytes.length; i++) {
        node = this.#children.get(256 * node + bytes[i]!);
        if (node === undefined) break;
        if (this.#ids[node]! > 0) [id, end] = [this.#ids[node]!, i + 1];
      }
      ids.push(id);
      at = end;
    }
    return ids;
  }
}
