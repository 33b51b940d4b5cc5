import { ConfigError, nearest } from '../core/errors.ts';
import type { TensorShapes } from './architecture.ts';

/** A model's configuration as its author wrote it: `config.json`, or the same facts from another format. */
export type Json = Readonly<Record<string, unknown>>;

/**
 * Reads fields of a configuration by name and type. Several names may be given for one field (dialects differ); the first
 * that is present counts. A missing field without a default, or one of another type, is a ConfigError that names it. Sizes that
 * a configuration lacks are read from the checkpoint's tensors where their shapes tell them.
 */
export class ConfigReader {
  readonly #json: Json;
  readonly #tensors: TensorShapes;

  constructor(json: Json, tensors: TensorShapes = new Map()) {
    this.#json = json;
    this.#tensors = tensors;
  }

  /** Length of an axis of the first tensor whose name ends so (after a dot or as a whole); undefined where there is none. */
  axis(ending: string | readonly string[], axis: number): number | undefined {
    const endings = [ending].flat();
    for (const [name, { shape }] of this.#tensors)
      if (endings.some((end) => name === end || name.endsWith(`.${end}`))) return shape[axis];
    return undefined;
  }

  /** Number of layers: a field, or one more than the highest number in the tensors' names. */
  layers(names: string | readonly string[]): number {
    let count = 0;
    for (const name of this.#tensors.keys())
      count = Math.max(count, 1 + Number(/(?:^|\.)(?:layers|blocks|h)\.(\d+)\./.exec(name)?.[1] ?? -1));
    return this.integer(names, count > 0 ? count : undefined);
  }

  /**
   * Whether the head is the embedding: never where the checkpoint holds a head of its own, whatever the field says; where it
   * holds none, unless the field denies it.
   */
  tied(names: string | readonly string[], fallback: boolean): boolean {
    const hasHead = [...this.#tensors.keys()].some((name) => headNames.test(name));
    return !hasHead && this.boolean(names, fallback || this.#tensors.size > 0);
  }

  has(name: string): boolean {
    return this.#json[name] !== undefined && this.#json[name] !== null;
  }

  /** Whether a field has this value. */
  is(name: string, value: unknown): boolean {
    return this.#json[name] === value;
  }

  /** A whole number of at least 1 (or `least`). */
  integer(names: string | readonly string[], fallback?: number, least = 1): number {
    if (fallback !== undefined && !Number.isSafeInteger(fallback) && ![names].flat().some((name) => this.has(name)))
      throw new ConfigError(`config: ${[names].flat()[0]} is missing, and the other sizes make it ${fallback}`);
    return this.#read(names, fallback, `a whole number of at least ${least}`, (value) =>
      Number.isSafeInteger(value) && (value as number) >= least ? (value as number) : undefined,
    );
  }

  /** A finite number. Infinity may be written as JSON can't: as the string or as transformers' marker object. */
  number(names: string | readonly string[], fallback?: number): number {
    return this.#read(names, fallback, 'a number', (value) => numeric(value));
  }

  /** A number above 0. */
  positive(names: string | readonly string[], fallback?: number): number {
    return this.#read(names, fallback, 'a number above 0', (value) => {
      const found = numeric(value);
      return found !== undefined && found > 0 ? found : undefined;
    });
  }

  boolean(names: string | readonly string[], fallback?: boolean): boolean {
    return this.#read(names, fallback, 'true or false', (value) => (typeof value === 'boolean' ? value : undefined));
  }

  string(names: string | readonly string[], fallback?: string): string {
    return this.#read(names, fallback, 'a string', (value) => (typeof value === 'string' ? value : undefined));
  }

  /** A list of numbers. */
  numbers(names: string | readonly string[], fallback?: readonly number[]): readonly number[] {
    return this.#read(names, fallback, 'a list of numbers', (value) => {
      const list = Array.isArray(value) ? value.map(numeric) : [undefined];
      return list.includes(undefined) ? undefined : (list as number[]);
    });
  }

  /** A list of strings, each one of `known`. */
  strings(name: string, known: readonly string[]): readonly string[] {
    return this.#read(name, undefined, `a list of ${known.join(' and ')}`, (value) =>
      Array.isArray(value) && value.every((one) => known.includes(one)) ? (value as string[]) : undefined,
    );
  }

  /** The fields of a nested object, or of an empty one where it is absent. */
  object(name: string): ConfigReader {
    const value = this.#json[name] ?? {};
    if (typeof value !== 'object' || Array.isArray(value))
      throw new ConfigError(`config: ${name} is ${show(value)}, not an object`);
    return new ConfigReader(value as Json);
  }

  /** Refuses a value other than the one that this implementation computes with. */
  only(name: string, allowed: readonly unknown[], meaning: string): void {
    if (this.has(name) && !allowed.includes(this.#json[name])) {
      throw new ConfigError(
        `config: ${name} is ${show(this.#json[name])}: ${meaning}; known: ${allowed.map(show).join(', ')}`,
      );
    }
  }

  #read<V>(
    names: string | readonly string[],
    fallback: V | undefined,
    kind: string,
    check: (value: unknown) => V | undefined,
  ): V {
    const all = typeof names === 'string' ? [names] : names;
    const name = all.find((candidate) => this.has(candidate));
    if (name === undefined) {
      if (fallback !== undefined) return fallback;
      const near = nearest(all[0]!, Object.keys(this.#json));
      const hint = near.length > 0 ? ` (it has ${near.join(', ')})` : '';
      throw new ConfigError(`config: ${all.join(' or ')} is missing${hint}`);
    }
    const value = check(this.#json[name]);
    if (value === undefined) throw new ConfigError(`config: ${name} is ${show(this.#json[name])}, not ${kind}`);
    return value;
  }
}

/** Names of heads that map hidden states to logits. */
export const headNames = /^(model\.)?(lm_head|head|embed_out)\.weight$/;

const show = (value: unknown): string => JSON.stringify(value) ?? String(value);

function numeric(value: unknown): number | undefined {
  if (typeof value === 'number' && !Number.isNaN(value)) return value;
  const text = typeof value === 'object' && value !== null ? (value as Json)['__float__'] : value;
  if (text === 'Infinity') return Number.POSITIVE_INFINITY;
  if (text === '-Infinity') return Number.NEGATIVE_INFINITY;
  return undefined;
}
