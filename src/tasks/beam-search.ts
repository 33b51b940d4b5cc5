import { type Constraint, type ConstraintState, constrain } from '../constraints/constraint.ts';
import { InputError } from '../core/errors.ts';
import { logSumExp } from '../ops/cross-entropy.ts';
import type { Generation } from '../runtime/generate.ts';
import { topTokens } from '../runtime/logprobs.ts';
import { refuseUnknownOptions } from '../runtime/sampler.ts';
import type { Session } from '../runtime/session.ts';
import type { Source } from '../runtime/source.ts';
import { byteStream } from '../tokenizers/tokenizer.ts';
import { packedForks } from './samples.ts';

export interface BeamSearchOptions {
  /** Texts that are followed at a time. Default 4. */
  readonly beams?: number;
  /** How many of them are wanted, at most `beams`. Default 1. */
  readonly n?: number;
  /** The most tokens of a text. Default 256. */
  readonly maxTokens?: number;
  /** Texts are compared by ln p divided by their tokens to this power: 0 prefers short ones. Default 1. */
  readonly lengthPenalty?: number;
  /** Tokens that end a text besides those that the model's files name. */
  readonly stopTokens?: readonly number[];
  /** What a text must be. */
  readonly constraint?: Constraint;
  readonly signal?: AbortSignal;
}

/** A text that beam search found. */
export interface Beam extends Pick<Generation, 'text' | 'tokens'> {
  readonly finishReason: 'end' | 'complete' | 'length';
  /** ln p of the text, with its end where the model ended it. */
  readonly logProbability: number;
}

/** A text being followed. */
interface Path {
  readonly session: Session;
  readonly tokens: readonly number[];
  readonly logProbability: number;
  readonly constraint: ConstraintState | undefined;
}

interface Step {
  readonly path: Path;
  readonly token: number;
  readonly logProbability: number;
}

const optionNames = ['beams', 'n', 'maxTokens', 'lengthPenalty', 'stopTokens', 'constraint', 'signal'];

/**
 * The likeliest continuations of a text that a search of limited width finds, best first. Each followed text is a fork, and
 * all advance in one packed step; the session stays where the prompt ends.
 */
export async function beamSearch(
  session: Session,
  prompt: Source | undefined,
  options: BeamSearchOptions = {},
): Promise<Beam[]> {
  refuseUnknownOptions(options, optionNames);
  const { beams = 4, n = 1, maxTokens = 256, lengthPenalty = 1, constraint, signal } = options;
  for (const [name, value] of Object.entries({ beams, n, maxTokens }))
    if (!Number.isInteger(value) || value < 1)
      throw new InputError(`${name} is ${String(value)}: it must be a whole number from 1`);
  if (n > beams) throw new InputError(`n is ${n}, but only ${beams} beams are followed`);
  if (!Number.isFinite(lengthPenalty)) throw new InputError(`lengthPenalty is ${lengthPenalty}: it must be a number`);
  const { model } = session;
  model.expectTokens();
  const start = constraint && constrain(constraint, model.tokenizer, model.vocabularySize);
  if (prompt !== undefined) await session.read(prompt, { signal });
  const [first] = await packedForks(session, 1);
  const search = new BeamSearch(first!, { ...options, beams, n, maxTokens, lengthPenalty });
  try {
    return await search.run(start);
  } finally {
    search.dispose();
  }
}

type Settings = BeamSearchOptions & Required<Pick<BeamSearchOptions, 'beams' | 'n' | 'maxTokens' | 'lengthPenalty'>>;

class BeamSearch {
  readonly #settings: Settings;
  readonly #ends: ReadonlySet<number>;
  /** Sessions of the paths followed. */
  #open: Set<Session>;
  #found: Beam[] = [];

  constructor(first: Session, settings: Settings) {
    this.#settings = settings;
    this.#ends = new Set([...first.model.endTokens, ...(settings.stopTokens ?? [])]);
    this.#open = new Set([first]);
  }

  async run(constraint: ConstraintState | undefined): Promise<Beam[]> {
    const { n, maxTokens, signal } = this.#settings;
    let paths: Path[] = [{ session: [...this.#open][0]!, tokens: [], logProbability: 0, constraint }];
    for (let length = 0; length < maxTokens && paths.length > 0 && !this.#isDecided(paths); length++) {
      signal?.throwIfAborted();
      paths = await this.#advance(this.#choose(paths));
    }
    for (const path of paths) this.#finish(path, 'length');
    return this.#found.slice(0, n);
  }

  dispose(): void {
    for (const session of this.#open) session.dispose();
  }

  /** The likeliest next steps; those that end a text are taken out. */
  #choose(paths: readonly Path[]): Step[] {
    const { beams } = this.#settings;
    const steps = paths.flatMap((path) => this.#stepsFrom(path)).sort((a, b) => b.logProbability - a.logProbability);
    if (steps.length === 0)
      throw new InputError('no token is left to choose: the vocabulary has none that the constraint allows');
    const chosen: Step[] = [];
    for (const [rank, step] of steps.entries()) {
      if (chosen.length === beams) break;
      if (!this.#ends.has(step.token)) chosen.push(step);
      else if (rank < beams) this.#finish({ ...step.path, logProbability: step.logProbability }, 'end');
    }
    return chosen;
  }

  /** Twice as many as are followed, so that enough are left where half of them end the text. */
  #stepsFrom(path: Path): Step[] {
    const { logits } = path.session;
    const total = logSumExp(logits, 0, logits.length);
    const allowed = path.constraint ? masked(logits, path.constraint.allowed) : logits;
    return topTokens(allowed, 2 * this.#settings.beams).map((token) => ({
      path,
      token,
      logProbability: path.logProbability + logits[token]! - total,
    }));
  }

  /** Goes the steps: the first of a path with its session, others with forks of it, which are made before any moves on. */
  async #advance(steps: readonly Step[]): Promise<Path[]> {
    const taken = new Set<Session>();
    const paths = steps.map(({ path, token, logProbability }): Path => {
      const session = taken.has(path.session) ? path.session.fork() : path.session;
      taken.add(session);
      return { session, tokens: [...path.tokens, token], logProbability, constraint: path.constraint?.advance(token) };
    });
    for (const session of this.#open) if (!taken.has(session)) session.dispose();
    this.#open = taken;
    const going = paths.filter((path) => !this.#isComplete(path));
    for (const path of paths) if (!going.includes(path)) this.#finish(path, 'complete');
    await Promise.all(going.map(({ session, tokens }) => session.step(tokens.at(-1)!)));
    return going;
  }

  #isComplete({ constraint, session }: Path): boolean {
    if (!constraint?.isComplete) return false;
    return !constraint.canContinue || session.model.tokenizer.endOfText === undefined;
  }

  #finish({ session, tokens, logProbability, constraint }: Path, finishReason: Beam['finishReason']): void {
    const { tokenizer } = session.model;
    const decoder = constraint ? byteStream(tokenizer) : tokenizer.stream();
    const text = tokens.map((token) => decoder.push(token)).join('') + decoder.end();
    this.#found.push({ text, tokens, finishReason, logProbability });
    this.#found.sort((a, b) => this.#rating(b) - this.#rating(a));
    // Of one text that is written in tokens in several ways, the likeliest is enough.
    this.#found = this.#found.filter((beam, i, all) => all.findIndex((other) => other.text === beam.text) === i);
    this.#found.length = Math.min(this.#found.length, this.#settings.beams);
  }

  /** Whether no path can come to be better than what was found, if its tokens were certain from here on. */
  #isDecided(paths: readonly Path[]): boolean {
    const { n, beams, maxTokens, lengthPenalty } = this.#settings;
    if (this.#found.length < beams) return false;
    const worst = this.#rating(this.#found[n - 1]!);
    return paths.every(({ logProbability, tokens }) => {
      const length = lengthPenalty > 0 && maxTokens < Infinity ? maxTokens : tokens.length;
      return logProbability / Math.max(1, length) ** lengthPenalty <= worst;
    });
  }

  #rating({ logProbability, tokens }: Pick<Beam, 'logProbability' | 'tokens'>): number {
    return logProbability / Math.max(1, tokens.length) ** this.#settings.lengthPenalty;
  }
}

/** The logits, −∞ where a bit is not set. */
const masked = (logits: Float32Array, bits: Uint32Array): Float32Array =>
  logits.map((logit, v) => (bits[v >> 5]! & (1 << (v & 31)) ? logit : -Infinity));
