import { InputError } from '../core/errors.ts';
import type { Pattern } from './pattern.ts';

/** A place in a pattern, with the ways that lead on from it. */
export interface Place {
  /** By a byte from `low` to `high`. */
  bytes: { readonly low: number; readonly high: number; readonly to: number }[];
  /** By nothing. */
  free: number[];
  /** By all of a rule. */
  calls: { readonly rule: Rule; readonly to: number }[];
}

/** Where a named pattern begins and ends. */
export interface Rule {
  readonly start: number;
  readonly end: number;
}

/** More places than this are a pattern that was not meant. */
const MOST_PLACES = 400_000;

/** Patterns as places and ways between them: a recursive transition network (Woods 1970) over bytes. */
export class Network {
  readonly places: Place[] = [];
  readonly root: Rule;
  readonly #patterns: ReadonlyMap<string, Pattern>;
  readonly #rules = new Map<string, Rule>();

  /** InputError for a pattern that no text matches, and for one that is too large. */
  constructor(pattern: Pattern, rules: ReadonlyMap<string, Pattern> = new Map()) {
    this.#patterns = rules;
    this.root = { start: this.#place(), end: this.#place() };
    this.#connect(pattern, this.root.start, this.root.end);
    this.#prune();
  }

  #place(): number {
    if (this.places.length === MOST_PLACES)
      throw new InputError('the constraint is too large: make its repetitions shorter');
    return this.places.push({ bytes: [], free: [], calls: [] }) - 1;
  }

  /** Adds ways from one place to another for all that the pattern matches. Never adds ways into `from` or out of `to`. */
  #connect(pattern: Pattern, from: number, to: number): void {
    const place = this.places[from]!;
    switch (pattern.kind) {
      case 'byte':
        place.bytes.push({ low: pattern.low, high: pattern.high, to });
        break;
      case 'choice':
        for (const option of pattern.options) this.#connect(option, from, to);
        break;
      case 'sequence':
        this.#chain(pattern.parts, from, to);
        break;
      case 'repeat':
        this.#loop(pattern, from, to);
        break;
      case 'rule':
        place.calls.push({ rule: this.#rule(pattern.name), to });
    }
  }

  #chain(parts: readonly Pattern[], from: number, to: number): void {
    if (parts.length === 0) this.places[from]!.free.push(to);
    let at = from;
    for (const [i, part] of parts.entries()) {
      const next = i === parts.length - 1 ? to : this.#place();
      this.#connect(part, at, next);
      at = next;
    }
  }

  #loop({ part, min, max }: Pattern & { kind: 'repeat' }, from: number, to: number): void {
    let at = from;
    const once = () => {
      const next = this.#place();
      this.#connect(part, at, next);
      at = next;
    };
    for (let i = 0; i < min; i++) once();
    if (max === Infinity) {
      const loop = this.#place();
      this.places[at]!.free.push(loop);
      this.#connect(part, loop, loop);
      at = loop;
    } else {
      for (let i = min; i < max; i++) {
        this.places[at]!.free.push(to);
        once();
      }
    }
    this.places[at]!.free.push(to);
  }

  #rule(name: string): Rule {
    const known = this.#rules.get(name);
    if (known) return known;
    const made = { start: this.#place(), end: this.#place() };
    this.#rules.set(name, made);
    this.#connect(this.#patterns.get(name)!, made.start, made.end);
    return made;
  }

  /** Takes out the ways that can't come to an end, so that no text is begun that can't be finished. */
  #prune(): void {
    const rules = [this.root, ...this.#rules.values()];
    const ending = new Set(rules.map(({ end }) => end));
    const ends = (to: number) => ending.has(to);
    for (let before = -1; before < ending.size; ) {
      before = ending.size;
      for (let i = this.places.length - 1; i >= 0; i--) {
        const { bytes, free, calls } = this.places[i]!;
        if (bytes.some(({ to }) => ends(to)) || free.some(ends)) ending.add(i);
        else if (calls.some(({ rule, to }) => ends(to) && ends(rule.start))) ending.add(i);
      }
    }
    if (!ending.has(this.root.start)) throw new InputError('the constraint allows no text that ever ends');
    for (const place of this.places) {
      place.bytes = place.bytes.filter(({ to }) => ends(to));
      place.free = place.free.filter(ends);
      place.calls = place.calls.filter(({ rule, to }) => ends(to) && ends(rule.start));
    }
  }
}
