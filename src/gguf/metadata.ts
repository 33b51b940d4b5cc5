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

  /** ConfigError unless `key` is absent or has this value. */
  only(key: string, value: unknown, meaning: string): void {
    if (this.has(key) && this.#values[this.#full(key)] !== value)
      throw new ConfigError(
        `${this.#file}: ${this.#full(key)} is ${JSON.stringify(this.#values[this.#full(key)])}: ${meaning}`,
      );
  }

  #full(key: string): string {
    return /^(general|tokenizer)\./.test(key) ? key : `${this.architecture}.${key}`;
  }

  #read<Value>(key: string, kind: string, fallback: Value | undefined, fits: (value: unknown) => boolean): Value {
    const full = this.#full(key);
    const value = this.#values[full];
    if (value === undefined) {
      if (fallback !== undefined) return fallback;
      throw new ConfigError(`${this.#file} has no metadata "${full}", which ${kind} is expected for`);
    }
    if (!fits(value)) {
      const shown = JSON.stringify(value)?.slice(0, 60) ?? String(value);
      throw new ConfigError(`${this.#file}: metadata "${full}" is ${shown}, not ${kind}`);
    }
    return value as Value;
  }
}
