import type { Tokenizer } from '../tokenizers/tokenizer.ts';
import { type Automaton, DEAD } from './automaton.ts';

/**
 * The tokens of a vocabulary by their bytes, so that what tokens have in common is followed once. Nodes lie in order: after a
 * node its children, with theirs.
 */
export class TokenTrie {
  /** Per node: its byte, its depth, the node after all of its children. */
  readonly #bytes: number[] = [];
  readonly #depths: number[] = [];
  readonly #ends: number[] = [];
  /** Tokens in the order of the nodes; node n has those from `#first[n]` to `#first[n + 1]`. */
  readonly #tokens: number[] = [];
  readonly #first: number[] = [];

  /** Tokens without bytes and special ones are left out: they are no text. */
  constructor(tokenizer: Tokenizer) {
    const tokens: { id: number; bytes: Uint8Array }[] = [];
    for (let id = 0; id < tokenizer.vocabularySize; id++) {
      const bytes = tokenizer.isSpecial(id) ? undefined : tokenizer.tokenBytes(id);
      if (bytes && bytes.length > 0) tokens.push({ id, bytes });
    }
    tokens.sort((a, b) => compare(a.bytes, b.bytes));
    const path: number[] = [];
    let before = new Uint8Array(0);
    for (const { id, bytes } of tokens) {
      let common = 0;
      while (common < before.length && common < bytes.length && before[common] === bytes[common]) common++;
      this.#close(path, common);
      for (let depth = common; depth < bytes.length; depth++) {
        path.push(this.#bytes.push(bytes[depth]!) - 1);
        this.#depths.push(depth);
        this.#first.push(this.#tokens.length);
      }
      this.#tokens.push(id);
      before = bytes as Uint8Array<ArrayBuffer>;
    }
    this.#close(path, 0);
    this.#first.push(this.#tokens.length);
  }

  #close(path: number[], depth: number): void {
    while (path.length > depth) this.#ends[path.pop()!] = this.#bytes.length;
  }

  /** The tokens below `size` whose bytes an automaton can follow from a state on, as bits. */
  followed(automaton: Automaton, state: number, size: number): Uint32Array {
    const bits = new Uint32Array(Math.ceil(size / 32));
    const states = [state];
    for (let node = 0; node < this.#bytes.length; ) {
      const depth = this.#depths[node]!;
      const next = automaton.step(states[depth]!, this.#bytes[node]!);
      if (next === DEAD) {
        node = this.#ends[node]!;
        continue;
      }
      states[depth + 1] = next;
      for (let i = this.#first[node]!; i < this.#first[node + 1]!; i++) {
        const token = this.#tokens[i]!;
        // A vocabulary may have tokens that the model has no logits for.
        if (token < size) bits[token >> 5]! |= 1 << (token & 31);
      }
      node++;
    }
    return bits;
  }
}

function compare(a: Uint8Array, b: Uint8Array): number {
  for (let i = 0; i < a.length && i < b.length; i++) if (a[i] !== b[i]) return a[i]! - b[i]!;
  return a.length - b.length;
}

const tries = new WeakMap<Tokenizer, TokenTrie>();

/** The trie of a tokenizer's vocabulary: built once. */
export function trieOf(tokenizer: Tokenizer): TokenTrie {
  const known = tries.get(tokenizer) ?? new TokenTrie(tokenizer);
  tries.set(tokenizer, known);
  return known;
}
