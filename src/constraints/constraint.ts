import { InputError } from '../core/errors.ts';
import type { Tokenizer } from '../tokenizers/tokenizer.ts';
import { Automaton, DEAD } from './automaton.ts';
import { jsonSchemaPattern } from './json-schema.ts';
import { Network } from './network.ts';
import { choice, text } from './pattern.ts';
import { regexPattern } from './regex.ts';
import { type TokenTrie, trieOf } from './token-trie.ts';

/** What a generated text must be, as a whole. */
export type Constraint =
  /** A match of a regular expression, from its beginning to its end. */
  | { readonly regex: string | RegExp }
  /** One of these texts. */
  | { readonly choices: readonly string[] }
  /** JSON that a schema describes: draft 2020-12, as far as docs/tasks.md says. */
  | { readonly jsonSchema: object | boolean };

/** Where a constrained text has come to. It never changes: any number of continuations may go on from it. */
export class ConstraintState {
  readonly #parts: Parts;
  readonly #state: number;

  constructor(parts: Parts, state: number) {
    this.#parts = parts;
    this.#state = state;
  }

  /** Whether the text may end here. */
  get isComplete(): boolean {
    return this.#parts.automaton.isFinal(this.#state);
  }

  /** Whether the text may go on. */
  get canContinue(): boolean {
    return this.#parts.automaton.canContinue(this.#state);
  }

  /**
   * The tokens that may come next, as bits: token t is bit t % 32 of word ⌊t / 32⌋. The token that ends texts is among them
   * where the text is complete.
   */
  get allowed(): Uint32Array {
    const { automaton, trie, masks, vocabularySize, endOfText } = this.#parts;
    const known = masks.get(this.#state);
    if (known) return known;
    const bits = trie.followed(automaton, this.#state, vocabularySize);
    if (endOfText !== undefined && endOfText < vocabularySize && this.isComplete)
      bits[endOfText >> 5]! |= 1 << (endOfText & 31);
    if (masks.size === MOST_MASKS) masks.clear();
    masks.set(this.#state, bits);
    return bits;
  }

  /** The state after a token. InputError for one that is not allowed. */
  advance(token: number): ConstraintState {
    const { automaton, tokenizer } = this.#parts;
    let state = this.#state;
    for (const byte of tokenizer.tokenBytes(token)) {
      state = automaton.step(state, byte);
      if (state === DEAD) throw new InputError(`token ${token} is not allowed here by the constraint`);
    }
    return new ConstraintState(this.#parts, state);
  }
}

interface Parts {
  readonly automaton: Automaton;
  readonly trie: TokenTrie;
  readonly tokenizer: Tokenizer;
  readonly endOfText: number | undefined;
  readonly vocabularySize: number;
  /** By state: computing one takes a walk through the vocabulary. */
  readonly masks: Map<number, Uint32Array>;
}

/** Masks of 65,536 tokens take 8 kB each. */
const MOST_MASKS = 2048;

/**
 * Makes a constraint ready for a vocabulary. InputError or UnsupportedError, with what and where, for a constraint that is
 * not in order.
 *
 * @param vocabularySize number of logits
 */
export function constrain(constraint: Constraint, tokenizer: Tokenizer, vocabularySize: number): ConstraintState {
  const automaton = new Automaton(networkOf(constraint));
  const { endOfText } = tokenizer;
  const parts = { automaton, trie: trieOf(tokenizer), tokenizer, endOfText, vocabularySize, masks: new Map() };
  return new ConstraintState(parts, automaton.start);
}

function networkOf(constraint: Constraint): Network {
  const [kind, ...others] = Object.keys(constraint ?? {});
  if (others.length > 0 || !kind || !['regex', 'choices', 'jsonSchema'].includes(kind))
    throw new InputError(
      `a constraint is one of { regex }, { choices } and { jsonSchema }, not ${JSON.stringify(constraint)}`,
    );
  if ('regex' in constraint) {
    const { regex } = constraint;
    if (typeof regex !== 'string' && !(regex instanceof RegExp))
      throw new InputError(`constraint.regex is ${String(regex)}: it must be a text or a RegExp`);
    return new Network(regexPattern(regex));
  }
  if ('jsonSchema' in constraint) {
    const { pattern, rules } = jsonSchemaPattern(constraint.jsonSchema);
    return new Network(pattern, rules);
  }
  const { choices } = constraint;
  const isList = Array.isArray(choices) && choices.every((one) => typeof one === 'string' && one !== '');
  if (!isList || choices.length === 0)
    throw new InputError('constraint.choices must be a list of texts, none of them empty');
  return new Network(choice(...choices.map(text)));
}
