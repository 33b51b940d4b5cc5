import type { Slot } from '../core/backend.ts';
import { DisposedError, InputError } from '../core/errors.ts';
import { turn } from './pause.ts';
import type { Segment, Stepper, Take } from './runner.ts';
import { refuseUnknownOptions } from './sampler.ts';
import type { Session, SessionOptions } from './session.ts';

export interface BatcherOptions {
  /** The most sequences whose next tokens are computed in one step; others wait their turn. Default 64. */
  readonly maxSessions?: number;
  /**
   * The most tokens of texts being read that are taken into one step. Default 512. Below 256 the blocks of a text are read in parts, and results
   * are those of a session alone up to rounding.
   */
  readonly maxTokens?: number;
}

/** A step that a session waits for. */
interface Request {
  readonly segments: readonly Segment[];
  /** Whether it is the next token of a sequence, not a block of a text. */
  readonly isDecode: boolean;
  readonly take: Take;
  readonly onHidden?: Take | undefined;
  resolve(): void;
  reject(error: unknown): void;
}

/**
 * Packs the steps of many sessions into one, which costs little more than one alone: every weight is read once for all.
 * Its sessions are used like any others, at the same time: whichever wait for a step when one begins take part in it. New
 * ones thus join between steps, and finished or cancelled ones are simply not there any more. Blocks of texts being read
 * take turns with next tokens, so that a long prompt does not hold up the others. Results are those of a session alone, bit
 * for bit: a row's products are added up in one order, however many rows there are.
 */
export class Batcher {
  readonly #runner: Stepper;
  readonly #open: (stepper: Stepper, options: SessionOptions) => Session;
  readonly #maxSessions: number;
  readonly #maxTokens: number;
  readonly #stepper: Stepper;
  #waiting: Request[] = [];
  #isRunning = false;
  #decodesNext = true;
  #steps = 0;

  /** @param open opens a session of the model on a stepper */
  constructor(
    runner: Stepper,
    open: (stepper: Stepper, options: SessionOptions) => Session,
    options: BatcherOptions = {},
  ) {
    refuseUnknownOptions(options, ['maxSessions', 'maxTokens']);
    const { maxSessions = 64, maxTokens = 512 } = options;
    for (const [name, value] of Object.entries({ maxSessions, maxTokens }))
      if (!Number.isInteger(value) || value < 1)
        throw new InputError(`${name} is ${value}: it must be a whole number from 1`);
    this.#runner = runner;
    this.#open = open;
    this.#maxSessions = maxSessions;
    this.#maxTokens = maxTokens;
    this.#stepper = {
      decode: (slots, token, position, logits) =>
        this.#enqueue([{ slot: slots[0], tokens: [token], position, outputs: 'last' }], true, (last) =>
          logits.set(last),
        ),
      run: (segments, take, onHidden) => this.#read(segments, take, onHidden),
      forget: (slot) => this.#forget(slot),
    };
  }

  /** Opens a session whose steps are packed with those of the others. Its forks are such sessions too. */
  session(options: SessionOptions = {}): Session {
    return this.#open(this.#stepper, options);
  }

  /** Packed steps run so far. */
  get steps(): number {
    return this.#steps;
  }

  /** A block of a text, in parts where it is longer than a step may be. */
  async #read(segments: readonly Segment[], take: Take, onHidden?: Take): Promise<void> {
    const [{ slot, tokens, position, outputs }] = segments as [Segment];
    // Sessions step one sequence each.
    if (segments.length > 1 || tokens.length <= this.#maxTokens)
      return await this.#enqueue(segments, false, take, onHidden);
    // Where there is no room for all of it, nothing of it is read.
    slot.reserve(position + tokens.length, position);
    const logits: Float32Array[] = [];
    const hidden: Float32Array[] = [];
    for (let at = 0; at < tokens.length; at += this.#maxTokens) {
      const part = Array.prototype.slice.call(tokens, at, at + this.#maxTokens) as number[];
      const isLast = at + part.length === tokens.length;
      const wanted = outputs === 'last' && !isLast ? 'none' : outputs;
      const segment = { slot, tokens: part, position: position + at, outputs: wanted };
      const keepHidden = onHidden && ((rows: Float32Array) => void hidden.push(rows.slice()));
      await this.#enqueue([segment], false, (rows) => void logits.push(rows.slice()), keepHidden);
    }
    take(joined(logits));
    onHidden?.(joined(hidden));
  }

  #enqueue(segments: readonly Segment[], isDecode: boolean, take: Take, onHidden?: Take): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#waiting.push({ segments, isDecode, take, onHidden, resolve, reject });
      if (this.#isRunning) return;
      this.#isRunning = true;
      void this.#run();
    });
  }

  async #run(): Promise<void> {
    while (this.#waiting.length > 0) {
      // Whoever was given logits in the last step comes back for the next token within a turn of the event loop.
      await turn();
      const requests = this.#take();
      if (requests.length > 0) await this.#step(requests);
    }
    this.#isRunning = false;
  }

  /** The requests of the next step: next tokens or blocks, in turn where both wait. */
  #take(): Request[] {
    const decodes = this.#waiting.filter(({ isDecode }) => isDecode);
    const reads = this.#waiting.filter(({ isDecode }) => !isDecode);
    const takesDecodes = reads.length === 0 || (this.#decodesNext && decodes.length > 0);
    this.#decodesNext = !takesDecodes;
    let taken = decodes.slice(0, this.#maxSessions);
    if (!takesDecodes) {
      let tokens = 0;
      // At least one, though it be of several sequences that are longer together.
      const end = reads.findIndex((request) => (tokens += tokensOf(request)) > this.#maxTokens);
      taken = reads.slice(0, end < 0 ? reads.length : Math.max(1, end));
    }
    const gone = new Set(taken);
    this.#waiting = this.#waiting.filter((request) => !gone.has(request));
    return taken;
  }

  async #step(requests: readonly Request[]): Promise<void> {
    // What one cannot take is its own affair.
    const failures = new Map<Request, unknown>();
    const giveEach = (rows: Float32Array, give: (request: Request, own: Float32Array) => void, size: Size): void => {
      const width = rows.length / requests.reduce((sum, request) => sum + size(request), 0);
      let at = 0;
      for (const request of requests) {
        const end = at + size(request);
        try {
          give(request, rows.subarray(at * width, end * width));
        } catch (error) {
          failures.set(request, error);
        }
        at = end;
      }
    };
    try {
      await this.#runner.run(
        requests.flatMap((request) => request.segments),
        (logits) => giveEach(logits, (request, own) => request.take(own), outputsOf),
        requests.some(({ onHidden }) => onHidden)
          ? (hidden) => giveEach(hidden, (request, own) => request.onHidden?.(own), tokensOf)
          : undefined,
      );
      this.#steps++;
      for (const request of requests)
        if (failures.has(request)) request.reject(failures.get(request));
        else request.resolve();
    } catch (error) {
      for (const request of requests) request.reject(error);
    }
  }

  /** A slot that goes takes its requests along. */
  #forget(slot: Slot): void {
    const isIts = ({ segments }: Request) => segments.some((segment) => segment.slot === slot);
    const gone = this.#waiting.filter(isIts);
    this.#waiting = this.#waiting.filter((request) => !isIts(request));
    for (const request of gone) request.reject(new DisposedError('the session is disposed'));
  }
}

function joined(parts: readonly Float32Array[]): Float32Array {
  const all = new Float32Array(parts.reduce((sum, { length }) => sum + length, 0));
  let at = 0;
  for (const part of parts) {
    all.set(part, at);
    at += part.length;
  }
  return all;
}

type Size = (request: Request) => number;

/** Rows of logits that a request wants. */
const outputsOf: Size = ({ segments }) =>
  segments.reduce((sum, { outputs, tokens }) => sum + { none: 0, last: 1, all: tokens.length }[outputs], 0);

const tokensOf: Size = ({ segments }) => segments.reduce((sum, { tokens }) => sum + tokens.length, 0);
