import { InputError } from '../core/errors.ts';
import type { Network } from './network.ts';

/** A place, and where to go on when its rule is done: a number of `#stacks`. */
interface Item {
  readonly place: number;
  readonly stack: number;
}

/** All the places that a text may have come to. */
interface State {
  readonly items: readonly Item[];
  readonly isFinal: boolean;
  /** The state after each byte: dead, or not yet known. */
  readonly next: Int32Array;
}

/** No text that is allowed begins like this. */
export const DEAD = -1;
const UNKNOWN = -2;

/**
 * Follows a network byte by byte. States are numbers; equal ones have equal numbers and the ways between them are found
 * once, so that it becomes a deterministic automaton where it is used.
 */
export class Automaton {
  readonly start: number;
  readonly #network: Network;
  readonly #states: State[] = [];
  readonly #known = new Map<string, number>();
  /** What is left to do after a rule: place `to`, then the rest. Stack 0 is empty. */
  readonly #stacks: { readonly to: number; readonly rest: number }[] = [{ to: -1, rest: -1 }];
  readonly #stackIds = new Map<string, number>();
  readonly #ends = new Set<number>();

  constructor(network: Network) {
    this.#network = network;
    this.#ends.add(network.root.end);
    for (const { calls } of network.places) for (const { rule } of calls) this.#ends.add(rule.end);
    this.start = this.#state([{ place: network.root.start, stack: 0 }]);
  }

  /** The state after one more byte, or DEAD. */
  step(state: number, byte: number): number {
    const { next, items } = this.#states[state]!;
    if (next[byte] === UNKNOWN) next[byte] = this.#find(items, byte);
    return next[byte]!;
  }

  /** Whether the text may end here. */
  isFinal(state: number): boolean {
    return this.#states[state]!.isFinal;
  }

  /** Whether the text may go on. */
  canContinue(state: number): boolean {
    return this.#states[state]!.items.length > 0;
  }

  #find(items: readonly Item[], byte: number): number {
    const after: Item[] = [];
    for (const { place, stack } of items)
      for (const { low, high, to } of this.#network.places[place]!.bytes)
        if (low <= byte && byte <= high) after.push({ place: to, stack });
    return after.length === 0 ? DEAD : this.#state(after);
  }

  /** The state of these items and all that they lead to by nothing. */
  #state(roots: Item[]): number {
    const seen = new Set<string>();
    const items: Item[] = [];
    let isFinal = false;
    const waiting: (Item & { depth: number })[] = roots.map((item) => ({ ...item, depth: 0 }));
    for (let item = waiting.pop(); item; item = waiting.pop()) {
      const { place, stack, depth } = item;
      const key = `${place},${stack}`;
      if (seen.has(key)) continue;
      seen.add(key);
      // Deeper than there are rules, one of them has called itself before any byte came.
      if (depth > this.#ends.size) throw new InputError('the constraint contains itself without an end');
      const { bytes, free, calls } = this.#network.places[place]!;
      if (bytes.length > 0) items.push({ place, stack });
      for (const to of free) waiting.push({ place: to, stack, depth });
      for (const { rule, to } of calls)
        waiting.push({ place: rule.start, stack: this.#push(to, stack), depth: depth + 1 });
      if (!this.#ends.has(place)) continue;
      if (stack === 0) isFinal = true;
      else {
        const { to, rest } = this.#stacks[stack]!;
        waiting.push({ place: to, stack: rest, depth: depth - 1 });
      }
    }
    return this.#number(items, isFinal);
  }

  #number(items: Item[], isFinal: boolean): number {
    items.sort((a, b) => a.place - b.place || a.stack - b.stack);
    const key = `${isFinal} ${items.map(({ place, stack }) => `${place},${stack}`).join(' ')}`;
    let id = this.#known.get(key);
    if (id === undefined) {
      id = this.#states.push({ items, isFinal, next: new Int32Array(256).fill(UNKNOWN) }) - 1;
      this.#known.set(key, id);
    }
    return id;
  }

  #push(to: number, rest: number): number {
    const key = `${to},${rest}`;
    let id = this.#stackIds.get(key);
    if (id === undefined) {
      id = this.#stacks.push({ to, rest }) - 1;
      this.#stackIds.set(key, id);
    }
    return id;
  }
}
