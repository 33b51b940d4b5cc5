import { ConfigError } from '../core/errors.ts';
import type { Checkpoint } from '../formats/checkpoint.ts';

/** Typed reading of a GGUF file's metadata. Keys without a dot-separated group are the architecture's own. */
export class Metadata {
  /** `general.architecture`. */
  readonly architecture: string;
  readonly #file: string;
  readonly #values: Checkpoint['metadata'];

  constructor({ name, metadata }: Checkpoint) {
    this.#file = name;
    this.#values = metadata;
    this.architecture = this.text('general.architecture');
  }

  /** Whether there is an entry. */
  has(key: string): boolean {
    return this.#values[this.#full(key)] !== undefined;
  }

  integer(key: string, fallback?: number): number {
    return this.#read(key, 'a whole number', fallback, (value) => Number.isSafeInteger(value));
  }

  number(key: string, fallback?: number): number {
    return this.#read(key, 'a number', fallback, (value) => typeof value === 'number' && Number.isFinite(value));
  }

  boolean(key: string, fallback?: boolean): boolean {
    return this.#read(key, 'true or false', fallback, (value) => typeof value === 'boolean');
  }

  text(key: string, fallback?: string): string {
    return this.#read(key, 'text', fallback, (value) => typeof value === 'string');
  }

  /** A list of texts or, where they are no UTF-8, of bytes. */
  texts(key: string): readonly (string | Uint8Array)[] {
    return this.#read<readonly (string | Uint8Array)[]>(key, 'a list of texts', undefined, Array.isArray);
  }

  /** A list of numbers. */
  numbers(key: string): ArrayLike<number> | undefined {
    return this.has(key)
      ? this.#read<ArrayLike<number>>(key, 'a list of numbers', undefined, ArrayBuffer.isView)
      : undefined;
  }

  /** ConfigError unless `key` is absent or has one of these values. */
  only(key: string, values: readonly unknown[], meaning: string): void {
    const found = this.#one(key);
    if (found !== undefined && !values.includes(found))
      throw new ConfigError(`${this.#file}: ${this.#full(key)} is ${shown(found)}: ${meaning}`);
  }

  /** ConfigError where a number or flag of the file is another than the model's own, but for the rounding to f32. */
  agree(key: string, own: unknown, what: string): void {
    const found = this.#one(key);
    const same = typeof own === 'number' && typeof found === 'number' ? isNear(found, own) : found === own;
    if (found !== undefined && !same)
      throw new ConfigError(
        `${this.#file}: metadata "${this.#full(key)}" is ${shown(found)}, but ${what} ${shown(own)}: the file contradicts itself`,
      );
  }

  /** An entry's value. Where it is a list of one number for each layer, they must be the same for all. */
  #one(key: string): unknown {
    const value = this.#values[this.#full(key)];
    const isList = Array.isArray(value) || (ArrayBuffer.isView(value) && !(value instanceof DataView));
    if (!isList) return value;
    const list = Array.from(value as ArrayLike<unknown>);
    const layers = this.#values[this.#full('block_count')];
    if (list.length !== layers)
      throw new ConfigError(
        `${this.#file}: metadata "${this.#full(key)}" has ${list.length} numbers (${shown(list)}), and the model ${shown(layers)} layers`,
      );
    if (list.length === 0 || list.some((item) => item !== list[0]))
      throw new ConfigError(
        `${this.#file}: metadata "${this.#full(key)}" differs from layer to layer (${shown(list)}): only models whose layers are alike are built`,
      );
    return list[0];
  }

  #full(key: string): string {
    return /^(general|tokenizer)\./.test(key) ? key : `${this.architecture}.${key}`;
  }

  #read<Value>(key: string, kind: string, fallback: Value | undefined, fits: (value: unknown) => boolean): Value {
    const full = this.#full(key);
    const value = /list/.test(kind) ? this.#values[full] : this.#one(key);
    if (value === undefined) {
      if (fallback !== undefined) return fallback;
      throw new ConfigError(`${this.#file} has no metadata "${full}", which ${kind} is expected for`);
    }
    if (!fits(value)) {
      throw new ConfigError(`${this.#file}: metadata "${full}" is ${shown(value)}, not ${kind}`);
    }
    return value as Value;
  }
}

const shown = (value: unknown): string => JSON.stringify(value)?.slice(0, 60) ?? String(value);

const isNear = (a: number, b: number): boolean => Math.abs(a - b) <= 1e-6 * Math.abs(b);
