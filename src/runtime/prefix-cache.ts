import { Digest } from '../core/digest.ts';
import { InputError } from '../core/errors.ts';
import { BLOCK } from './blocks.ts';
import { difference, type Fingerprint } from './fingerprint.ts';
import { type PrefixNode, PrefixTree } from './prefix-tree.ts';
import { refuseUnknownOptions } from './sampler.ts';
import { State } from './state.ts';

/** Where states are kept beyond the process. It may lose any of them at any time. */
export interface StateStore {
  /** Lengths in tokens of the texts that it has states of, for one model. */
  lengths(model: string): Promise<Iterable<number>>;
  load(key: StateKey): Promise<Uint8Array | undefined>;
  save(key: StateKey, bytes: Uint8Array): Promise<void>;
  delete(key: StateKey): Promise<void>;
}

/** What a stored state is found by; both digests are hexadecimal. */
export interface StateKey {
  readonly model: string;
  readonly length: number;
  readonly text: string;
}

export interface PrefixCacheOptions {
  /** Bytes of states kept in memory; the longest unused go first. Default 256 MB. */
  readonly maxBytes?: number;
  /** Besides where texts end and part, a state is kept every so many tokens. Default 1024. */
  readonly every?: number;
  /** Keeps states beyond the process, such as `diskStates(folder)`. */
  readonly store?: StateStore;
}

/** What reading through the cache needs of a session. */
export interface CachedReader {
  readonly model: Fingerprint;
  block(tokens: readonly number[]): Promise<void>;
  snapshot(): State;
  put(state: State): void;
}

/** Less than this is sooner read again than kept. */
const SHORTEST = 32;

/**
 * States of texts by their tokens, so that what several texts begin with is read once: a tree, shared by any number of
 * sessions and models. A state only ever goes to the model that made it. A text read through it has the same state as
 * without, up to rounding, for it may be read in other blocks.
 */
export class PrefixCache {
  readonly maxBytes: number;
  readonly every: number;
  readonly #store: StateStore | undefined;
  readonly #trees = new Map<string, PrefixTree<State>>();
  /** Nodes with a state, longest unused first, with their tree. */
  readonly #recent = new Map<PrefixNode<State>, PrefixTree<State>>();
  #bytes = 0;

  constructor(options: PrefixCacheOptions = {}) {
    refuseUnknownOptions(options, ['maxBytes', 'every', 'store']);
    const { maxBytes = 256e6, every = 1024, store } = options;
    if (!(maxBytes >= 0)) throw new InputError(`maxBytes is ${maxBytes}: it must be a number of bytes`);
    if (!(every >= SHORTEST)) throw new InputError(`every is ${every}: it must be at least ${SHORTEST} tokens`);
    this.maxBytes = maxBytes;
    this.every = every;
    this.#store = store;
  }

  /** Bytes of the states in memory. */
  get bytes(): number {
    return this.#bytes;
  }

  /** States in memory. */
  get size(): number {
    return this.#recent.size;
  }

  /** Forgets what is in memory. */
  clear(): void {
    this.#trees.clear();
    this.#recent.clear();
    this.#bytes = 0;
  }

  /**
   * Reads a whole text from its start, beginning after what is known. Keeps the states at its end, where it parts from
   * others, and every so many tokens. Throws the signal's reason when aborted; what was read until then stays read.
   */
  async read(
    reader: CachedReader,
    tokens: readonly number[],
    { signal, onProgress }: { signal?: AbortSignal | undefined; onProgress?: ((tokens: number) => void) | undefined },
  ): Promise<void> {
    const { model } = reader;
    const { shared } = this.#tree(model).match(tokens);
    const known = await this.#find(model, tokens);
    let at = known?.position ?? 0;
    if (known) {
      reader.put(known);
      onProgress?.(at);
    }
    while (at < tokens.length) {
      const stop = this.#nextStop(at, shared, tokens.length);
      while (at < stop) {
        signal?.throwIfAborted();
        const block = tokens.slice(at, Math.min(at + BLOCK, stop));
        await reader.block(block);
        at += block.length;
        onProgress?.(at);
      }
      await this.add(tokens.slice(0, at), reader.snapshot());
    }
  }

  /** Where the next state is to be kept. */
  #nextStop(at: number, shared: number, end: number): number {
    const regular = (Math.floor(at / this.every) + 1) * this.every;
    const parting = shared - at >= SHORTEST ? shared : Infinity;
    return Math.min(regular, parting, end);
  }

  /** Keeps the state that has read just these tokens. */
  async add(tokens: readonly number[], state: State): Promise<void> {
    if (tokens.length === 0 || state.position !== tokens.length)
      throw new InputError(`a state of ${state.position} tokens is not that of a text of ${tokens.length}`);
    this.#keep(tokens, state);
    if (!this.#store) return;
    const [key] = keysOf(state.model, tokens, [tokens.length]);
    await this.#store.save(key!, state.save({ notes: { tokens: tokens.join(' ') } }));
  }

  #keep(tokens: readonly number[], state: State): void {
    const tree = this.#tree(state.model);
    const { node: known, length } = tree.match(tokens);
    if (known && length === tokens.length) {
      this.#touch(known);
      return;
    }
    this.#recent.set(tree.set(tokens, state), tree);
    this.#bytes += state.size;
    for (const [node, owner] of this.#recent) {
      if (this.#bytes <= this.maxBytes) break;
      this.#bytes -= node.value!.size;
      this.#recent.delete(node);
      owner.delete(node);
    }
  }

  /** The state of the longest known beginning. */
  async #find(model: Fingerprint, tokens: readonly number[]): Promise<State | undefined> {
    const { node, length } = this.#tree(model).match(tokens);
    if (node) this.#touch(node);
    // Taken now: by the time the store has answered, others may have displaced it.
    const state = node?.value;
    return (await this.#findStored(model, tokens, length)) ?? state;
  }

  /** A stored state of a beginning longer than `beyond`. */
  async #findStored(model: Fingerprint, tokens: readonly number[], beyond: number): Promise<State | undefined> {
    if (!this.#store) return undefined;
    const lengths = [...(await this.#store.lengths(modelDigest(model)))];
    const wanted = lengths.filter((length) => length > beyond && length <= tokens.length).sort((a, b) => a - b);
    for (const key of keysOf(model, tokens, wanted).reverse()) {
      const bytes = await this.#store.load(key);
      if (!bytes) continue;
      const beginning = tokens.slice(0, key.length);
      const state = await readStored(bytes, model, beginning);
      if (state) {
        this.#keep(beginning, state);
        return state;
      }
      await this.#store.delete(key);
    }
    return undefined;
  }

  #touch(node: PrefixNode<State>): void {
    const tree = this.#recent.get(node)!;
    this.#recent.delete(node);
    this.#recent.set(node, tree);
  }

  #tree(model: Fingerprint): PrefixTree<State> {
    const key = modelDigest(model);
    let tree = this.#trees.get(key);
    if (!tree) this.#trees.set(key, (tree = new PrefixTree()));
    return tree;
  }
}

const modelDigest = ({ type, configuration, parameters, weights, kvCache }: Fingerprint): string => {
  const digest = new Digest().text(type).text(configuration).text(parameters).text(weights);
  // Without it where it is f32, so that states are found that were stored when there was nothing else.
  return (kvCache === 'f32' ? digest : digest.text(kvCache)).hex();
};

/** The keys of a text's beginnings of these increasing lengths. */
function keysOf(model: Fingerprint, tokens: readonly number[], lengths: readonly number[]): StateKey[] {
  const digest = new Digest();
  let at = 0;
  return lengths.map((length) => {
    digest.words(Int32Array.from(tokens.slice(at, length)));
    at = length;
    return { model: modelDigest(model), length, text: digest.hex() };
  });
}

/** A stored state, if it is whole and just that of these tokens. */
async function readStored(
  bytes: Uint8Array,
  model: Fingerprint,
  tokens: readonly number[],
): Promise<State | undefined> {
  // A store may hold anything; whatever is not the state that is looked for is as good as nothing.
  const state = await State.load(bytes).catch(() => undefined);
  const isIt = state && !difference(state.model, model) && state.notes['tokens'] === tokens.join(' ');
  return isIt && state.position === tokens.length ? state : undefined;
}
