import type { Slot } from '../core/backend.ts';
import { DisposedError, InputError } from '../core/errors.ts';
import { Checkpoints, type CheckpointsOptions } from './checkpoints.ts';
import { type GenerateOptions, type Generation, generate } from './generate.ts';
import type { ModelGraph } from './graph.ts';
import { type InspectOptions, inspectSource } from './inspection/inspect.ts';
import type { Inspection } from './inspection/inspection.ts';
import type { Model } from './model.ts';
import { type ReadOptions, readSource } from './read.ts';
import type { Runner, Stepper } from './runner.ts';
import { refuseUnknownOptions } from './sampler.ts';
import { Sequence, type SequenceModel } from './sequence.ts';
import type { Files, Source } from './source.ts';
import { SessionState } from './state.ts';

export type { ReadOptions } from './read.ts';
export type { Source } from './source.ts';

export interface SessionOptions {
  /** How many earlier states are kept, and how often: see `session.checkpoints`. */
  readonly checkpoints?: CheckpointsOptions;
}

interface Parts {
  readonly model: Model;
  readonly stepper: Stepper;
  /** What inspecting runs on, whatever the stepper: it needs a plan of its own. */
  readonly runner: Runner;
  readonly graph: ModelGraph;
  readonly sequence: SequenceModel;
  readonly files: Files | undefined;
  onDispose(session: Session): void;
  onFork(session: Session): void;
}

/** Tokens whose logits are made in one step: they are many numbers. */
const SCORED = 128;

/**
 * One text being read and continued. Its memory is the model's state: of constant size for linear-time models, however
 * long the text.
 */
export class Session {
  readonly model: Model;
  /** All that the model knows of the text: save, restore, reset. */
  readonly state: SessionState;
  /** Earlier states, to go back to. */
  readonly checkpoints: Checkpoints;
  readonly #parts: Parts;
  readonly #options: SessionOptions;
  readonly #sequence: Sequence;
  /** The sequence's slot, as the hot path wants it. */
  readonly #slots: [Slot];
  #busy = false;
  #disposed = false;

  constructor(parts: Parts, options: SessionOptions = {}) {
    refuseUnknownOptions(options, ['checkpoints']);
    this.model = parts.model;
    this.#parts = parts;
    this.#options = options;
    this.#sequence = new Sequence(parts.sequence);
    this.#slots = [this.#sequence.slot];
    const idle = () => this.#idle();
    this.checkpoints = new Checkpoints(this.#sequence, idle, options.checkpoints);
    this.state = new SessionState(this.#sequence, idle, () => this.checkpoints.clear());
  }

  /** Tokens read and generated so far. */
  get position(): number {
    return this.#sequence.position;
  }

  /** Bytes of state. */
  get bytes(): number {
    return this.#sequence.slot.bytes;
  }

  /** Logits [V] of the next token, valid until the session moves on. InputError before the first token. */
  get logits(): Float32Array {
    this.#alive();
    if (this.position === 0)
      throw new InputError('the session has read nothing yet: there is no next token to predict');
    return this.#sequence.logits;
  }

  /**
   * Reads text, tokens, a stream or a file, of any length. Text is encoded as the model was trained to see it, from the
   * start of the session on.
   */
  async read(source: Source, options: ReadOptions = {}): Promise<void> {
    const { model, files } = this.#parts;
    const sequence = this.#sequence;
    const block = (tokens: ArrayLike<number>) => this.#block(tokens, options.onHidden);
    const check = (token: number) => this.#check(token);
    await this.#exclusively(() => readSource({ model, files, sequence, block, check }, source, options));
  }

  /**
   * Reads text, tokens, a stream or a file as `read` does, and tells what each layer did with each token: how much it wrote to
   * the state, how fast the state fades, what was read of it and from which tokens, and how surprising the token was.
   */
  async inspect(source: Source, options: InspectOptions = {}): Promise<Inspection> {
    const { model, runner, graph, files } = this.#parts;
    const sequence = this.#sequence;
    const { type, labels } = model;
    const check = (token: number) => this.#check(token);
    const room = (tokens: number) => this.#room(tokens);
    const moved = (tokens: number) => {
      this.#alive();
      this.#moved(tokens);
    };
    const predictsTokens = labels === undefined;
    const target = { type, model, graph, runner, sequence, files, predictsTokens, check, room, moved };
    return await this.#exclusively(() => inspectSource(target, source, options));
  }

  /** Refuses tokens beyond what the model has positions for. */
  #room(tokens: number): void {
    const { longest } = this.#sequence;
    if (this.position + tokens <= longest) return;
    throw new InputError(
      `the model has learned positions for ${longest} tokens: after ${this.position}, ${tokens} more do not fit`,
    );
  }

  async #block(tokens: ArrayLike<number>, onHidden?: (hidden: Float32Array) => void): Promise<void> {
    this.#alive();
    this.#room(tokens.length);
    const segment = { slot: this.#slots[0], tokens, position: this.position, outputs: 'last' as const };
    const take = (logits: Float32Array) => {
      this.#sequence.logits.set(logits);
      this.#moved(tokens.length);
    };
    await this.#parts.stepper.run([segment], take, onHidden);
    this.#alive();
  }

  #moved(tokens: number): void {
    this.#sequence.position += tokens;
    this.checkpoints.passed();
  }

  /** Reads tokens and returns the logits [tokens, V] after each: what `score` measures. */
  async logitsOf(tokens: ArrayLike<number>): Promise<Float32Array> {
    return await this.#exclusively(async () => {
      const V = this.model.outputSize;
      const all = new Float32Array(tokens.length * V);
      for (let i = 0; i < tokens.length; i++) this.#check(tokens[i]!);
      this.#room(tokens.length);
      for (let start = 0; start < tokens.length; start += SCORED) {
        const block = Array.prototype.slice.call(tokens, start, start + SCORED) as number[];
        const segment = { slot: this.#slots[0], tokens: block, position: this.position, outputs: 'all' as const };
        await this.#parts.stepper.run([segment], (rows) => {
          all.set(rows, start * V);
          this.#sequence.logits.set(rows.subarray((block.length - 1) * V));
          this.#moved(block.length);
        });
        this.#alive();
      }
      return all;
    });
  }

  /** Reads one token; returns the logits [V] of the next, valid until the session moves on. */
  async step(token: number): Promise<Float32Array> {
    this.#idle();
    this.#check(token);
    this.#room(1);
    const { logits } = this.#sequence;
    this.#busy = true;
    try {
      const running = this.#parts.stepper.decode(this.#slots, token, this.position, logits);
      if (running) await running;
      this.#moved(1);
    } finally {
      this.#rest();
    }
    this.#alive();
    return logits;
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
    this.#idle();
    const forked = new Session(this.#parts, this.#options);
    forked.#sequence.copyFrom(this.#sequence);
    forked.checkpoints.copyFrom(this.checkpoints);
    this.#parts.onFork(forked);
    return forked;
  }

  /** Back to an empty text. */
  reset(): void {
    this.state.reset();
  }

  /** Names of the carried states. */
  get stateNames(): readonly string[] {
    return this.state.names;
  }

  /** One of the carried states, row-major. */
  readState(name: string): Float32Array {
    return this.state.read(name);
  }

  /** Frees the state: at once, or when what is being read of it is at an end, with a DisposedError. */
  dispose(): void {
    if (this.#disposed) return;
    this.#disposed = true;
    this.#parts.stepper.forget?.(this.#slots[0]);
    if (!this.#busy) this.#slots[0].dispose();
    this.#parts.onDispose(this);
  }

  [Symbol.dispose](): void {
    this.dispose();
  }

  #alive(): void {
    if (this.#disposed) throw new DisposedError('the session is disposed');
  }

  #idle(): void {
    this.#alive();
    if (this.#busy) throw new InputError('the session is already reading: wait for it, or fork it first');
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
    runner: Stepper,
    sessions: readonly Session[],
    texts: readonly ArrayLike<number>[],
  ): Promise<void> {
    if (new Set(sessions).size !== sessions.length) throw new InputError('a session can read only one text at a time');
    for (const [i, session] of sessions.entries()) {
      session.#idle();
      if (!texts[i] || texts[i].length === 0) throw new InputError('every session needs at least one token to read');
      for (let t = 0; t < texts[i].length; t++) session.#check(texts[i][t]!);
      session.#room(texts[i].length);
    }
    for (const session of sessions) session.#busy = true;
    try {
      const segments = sessions.map((session, i) => ({
        slot: session.#slots[0],
        tokens: texts[i]!,
        position: session.position,
        outputs: 'last' as const,
      }));
      await runner.run(segments, (rows) => {
        for (const [i, session] of sessions.entries()) {
          const V = session.model.outputSize;
          session.#sequence.logits.set(rows.subarray(i * V, (i + 1) * V));
          session.#moved(texts[i]!.length);
        }
      });
    } finally {
      for (const session of sessions) session.#rest();
    }
    for (const session of sessions) session.#alive();
  }

  /** Keeps a second reader out while a first is at work: the two would mix their texts. */
  async #exclusively<R>(body: () => Promise<R>): Promise<R> {
    this.#idle();
    this.#busy = true;
    try {
      return await body();
    } finally {
      this.#rest();
    }
  }

  /** Is at work no more; frees what it had to keep for that when it was disposed. */
  #rest(): void {
    this.#busy = false;
    if (this.#disposed) this.#slots[0].dispose();
  }
}
