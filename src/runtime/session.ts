import type { Slot } from '../core/backend.ts';
import { DisposedError, InputError } from '../core/errors.ts';
import { encodeStream } from '../tokenizers/encode-stream.ts';
import { type GenerateOptions, type Generation, generate } from './generate.ts';
import type { Model } from './model.ts';
import { Pace } from './pause.ts';
import type { Runner } from './runner.ts';

/** Tokens read in one step: enough for the matrix kernels to run at full speed, little memory. */
const BLOCK = 128;

/** What a session reads: text, token ids, or a stream of either's pieces of any length. */
export type Source = string | ArrayLike<number> | Iterable<string> | AsyncIterable<string>;

export interface ReadOptions {
  /** Stops the reading; what was read until then stays read. */
  readonly signal?: AbortSignal | undefined;
  /** Told the number of tokens read so far in this call. */
  readonly onProgress?: ((tokens: number) => void) | undefined;
}

interface Parts {
  readonly model: Model;
  readonly runner: Runner;
  readonly stateNames: readonly string[];
  /** Tokens that the model can see at most. */
  readonly longest: number;
  slot(): Slot;
  onDispose(session: Session): void;
  onFork(session: Session): void;
}

/**
 * One text being read and continued. Its memory is the model's state: of constant size for linear-time models, however
 * long the text.
 */
export class Session {
  readonly model: Model;
  readonly #parts: Parts;
  readonly #slots: [Slot];
  /** Logits after the last token, a copy of its own: other sessions share the runner. */
  readonly #logits: Float32Array;
  #position = 0;
  #busy = false;
  #disposed = false;

  constructor(parts: Parts) {
    this.model = parts.model;
    this.#parts = parts;
    this.#slots = [parts.slot()];
    this.#logits = new Float32Array(parts.model.vocabularySize);
  }

  /** Tokens read and generated so far. */
  get position(): number {
    return this.#position;
  }

  /** Bytes of state. */
  get bytes(): number {
    return this.#slots[0].bytes;
  }

  /** Logits [V] of the next token, valid until the session moves on. InputError before the first token. */
  get logits(): Float32Array {
    this.#alive();
    if (this.#position === 0)
      throw new InputError('the session has read nothing yet: there is no next token to predict');
    return this.#logits;
  }

  /** Reads text or tokens. Text is encoded as the model was trained to see it, from the start of the session on. */
  async read(source: Source, options: ReadOptions = {}): Promise<void> {
    await this.#exclusively(async () => {
      const pace = new Pace();
      let read = 0;
      for await (const tokens of this.#tokens(source)) {
        for (let start = 0; start < tokens.length; start += BLOCK) {
          options.signal?.throwIfAborted();
          const block = Array.prototype.slice.call(tokens, start, start + BLOCK) as number[];
          await this.#block(block);
          read += block.length;
          options.onProgress?.(read);
          await pace.breathe();
        }
      }
    });
  }

  /** The source as token ids, in pieces. */
  async *#tokens(source: Source): AsyncIterable<ArrayLike<number>> {
    if (typeof source === 'string') {
      yield this.model.tokenizer.encode(source, { addSpecialTokens: this.#position === 0 });
    } else if (Symbol.asyncIterator in source || !('length' in source)) {
      yield* encodeStream(this.model.tokenizer, source as AsyncIterable<string>, {
        addSpecialTokens: this.#position === 0,
      });
    } else {
      const tokens = source as ArrayLike<number>;
      for (let i = 0; i < tokens.length; i++) this.#check(tokens[i]!);
      yield tokens;
    }
  }

  /** Refuses tokens beyond what the model has positions for. */
  #room(tokens: number): void {
    const { longest } = this.#parts;
    if (this.#position + tokens <= longest) return;
    throw new InputError(
      `the model has learned positions for ${longest} tokens: after ${this.#position}, ${tokens} more do not fit`,
    );
  }

  async #block(tokens: ArrayLike<number>): Promise<void> {
    this.#room(tokens.length);
    const segment = { slot: this.#slots[0], tokens, position: this.#position, outputs: 'last' as const };
    this.#logits.set(await this.#parts.runner.run([segment]));
    this.#position += tokens.length;
  }

  /** Reads tokens and returns the logits [tokens, V] after each: what `score` measures. */
  async logitsOf(tokens: ArrayLike<number>): Promise<Float32Array> {
    return await this.#exclusively(async () => {
      const V = this.model.vocabularySize;
      const all = new Float32Array(tokens.length * V);
      for (let i = 0; i < tokens.length; i++) this.#check(tokens[i]!);
      this.#room(tokens.length);
      for (let start = 0; start < tokens.length; start += BLOCK) {
        const block = Array.prototype.slice.call(tokens, start, start + BLOCK) as number[];
        const segment = { slot: this.#slots[0], tokens: block, position: this.#position, outputs: 'all' as const };
        all.set(await this.#parts.runner.run([segment]), start * V);
        this.#position += block.length;
      }
      if (tokens.length > 0) this.#logits.set(all.subarray(all.length - V));
      return all;
    });
  }

  /** Reads one token; returns the logits [V] of the next, valid until the session moves on. */
  async step(token: number): Promise<Float32Array> {
    this.#alive();
    this.#check(token);
    this.#room(1);
    if (this.#busy) throw busy();
    const running = this.#parts.runner.decode(this.#slots, token, this.#position);
    this.#logits.set(running instanceof Promise ? await running : running);
    this.#position++;
    return this.#logits;
  }

  /**
   * Continues the text, after reading `prompt` if one is given: yields pieces of text as they come, whole characters
   * only. Returns why it ended.
   */
  generate(prompt?: Source, options: GenerateOptions = {}): AsyncGenerator<string, Generation, void> {
    return generate(this, prompt, options);
  }

  /** Another session in the same state; the two go their own ways. */
  fork(): Session {
    this.#alive();
    if (this.#busy) throw busy();
    const forked = new Session(this.#parts);
    forked.#slots[0].copyFrom(this.#slots[0]);
    forked.#logits.set(this.#logits);
    forked.#position = this.#position;
    this.#parts.onFork(forked);
    return forked;
  }

  /** Back to an empty text. */
  reset(): void {
    this.#alive();
    if (this.#busy) throw busy();
    this.#slots[0].reset();
    this.#position = 0;
  }

  /** Names of the carried states. */
  get stateNames(): readonly string[] {
    return this.#parts.stateNames;
  }

  /** One of the carried states, row-major. */
  readState(name: string): Float32Array {
    this.#alive();
    return this.#slots[0].read(name);
  }

  dispose(): void {
    if (this.#disposed) return;
    this.#disposed = true;
    this.#slots[0].dispose();
    this.#parts.onDispose(this);
  }

  [Symbol.dispose](): void {
    this.dispose();
  }

  #alive(): void {
    if (this.#disposed) throw new DisposedError('the session is disposed');
  }

  #check(token: number): void {
    const V = this.model.vocabularySize;
    if (!Number.isInteger(token) || token < 0 || token >= V) {
      throw new InputError(`token ${token} is out of range: the model's vocabulary is 0 to ${V - 1}`);
    }
  }

  /**
   * Reads one piece of text in each of several sessions of one model, in one packed step; all must be short enough for
   * one. Afterwards each session is as if it had read its tokens alone.
   */
  static async readTogether(
    runner: Runner,
    sessions: readonly Session[],
    texts: readonly ArrayLike<number>[],
  ): Promise<void> {
    if (new Set(sessions).size !== sessions.length) throw new InputError('a session can read only one text at a time');
    for (const [i, session] of sessions.entries()) {
      session.#alive();
      if (session.#busy) throw busy();
      if (!texts[i] || texts[i].length === 0) throw new InputError('every session needs at least one token to read');
      for (let t = 0; t < texts[i].length; t++) session.#check(texts[i][t]!);
      session.#room(texts[i].length);
    }
    for (const session of sessions) session.#busy = true;
    try {
      const logits = await runner.run(
        sessions.map((session, i) => ({
          slot: session.#slots[0],
          tokens: texts[i]!,
          position: session.#position,
          outputs: 'last' as const,
        })),
      );
      for (const [i, session] of sessions.entries()) {
        const V = session.model.vocabularySize;
        session.#logits.set(logits.subarray(i * V, (i + 1) * V));
        session.#position += texts[i]!.length;
      }
    } finally {
      for (const session of sessions) session.#busy = false;
    }
  }

  /** Keeps a second reader out while a first is at work: the two would mix their texts. */
  async #exclusively<R>(body: () => Promise<R>): Promise<R> {
    this.#alive();
    if (this.#busy) throw busy();
    this.#busy = true;
    try {
      return await body();
    } finally {
      this.#busy = false;
    }
  }
}

const busy = (): InputError => new InputError('the session is already reading: wait for it, or fork it first');
