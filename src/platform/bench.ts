import { cpus } from 'node:os';
import type { WeightFormat } from '../core/backend.ts';
import { InputError, UnsupportedError } from '../core/errors.ts';
import { Random } from '../core/random.ts';
import type { StateFormat } from '../core/state-format.ts';
import type { Model } from '../runtime/model.ts';
import type { MultiplyAdds } from '../runtime/multiply-adds.ts';
import { refuseUnknownOptions } from '../runtime/sampler.ts';
import type { Session } from '../runtime/session.ts';
import { MachineLimits } from './machine-limits.ts';
import { type LoadOptions, load } from './node-load.ts';
import { isRevectorized, setRevectorization } from './revectorization.ts';

export interface BenchOptions
  extends Pick<
    LoadOptions,
    | 'threads'
    | 'weights'
    | 'kvCache'
    | 'backend'
    | 'revectorize'
    | 'tokenizer'
    | 'adapter'
    | 'signal'
    | 'revision'
    | 'offline'
  > {
  /** Tokens of the prompt. Default 512. */
  readonly prefill?: number;
  /** Tokens generated. Default 64. */
  readonly decode?: number;
  /** Sequences generated together. Default 1. */
  readonly batch?: number;
  /** Runs, of which the best counts. Default 3. */
  readonly rounds?: number;
  /** Lengths of text at which the cost of one more token is measured, in as many sequences as `batch`. Default none. */
  readonly lengths?: readonly number[];
  /** Told what is being done. */
  readonly onProgress?: (what: string) => void;
}

/** The cost of a token after so many others. */
export interface CostAtLength {
  readonly length: number;
  /** Of the sequences of a batch together: the time of a step by the tokens in it. */
  readonly millisecondsPerToken: number;
  /** Bytes of one sequence's state. */
  readonly stateBytes: number;
}

export interface BenchResult {
  readonly model: string;
  readonly type: string;
  readonly parameters: number;
  readonly backend: string;
  readonly threads: number;
  /** How the matrices are held that most multiply-adds are with. */
  readonly weights: WeightFormat;
  /** Multiply-adds of a token with logits by how the matrices are held that they are with, most first. */
  readonly multiplyAddsByFormat: Readonly<Partial<Record<WeightFormat, number>>>;
  /** How keys and values of attention are kept; absent where there are none. */
  readonly kvCache?: StateFormat;
  /** Sequences generated together. */
  readonly batch: number;
  readonly machine: {
    readonly cpu: string;
    readonly cores: number;
    readonly node: string;
    /** Whether kernels were compiled to 256-bit operations: see `device`. */
    readonly isRevectorized: boolean;
  };
  readonly prefillTokensPerSecond: number;
  /** All sequences of the batch together. */
  readonly decodeTokensPerSecond: number;
  readonly loadSeconds: number;
  /** The most memory that the process had. */
  readonly peakBytes: number;
  /** What generating a token reads and writes at least: weights, shared by the batch, and the sequence's state. */
  readonly bytesPerToken: number;
  /** Bytes a second that a product with a matrix larger than the caches reads, on as many threads. */
  readonly bandwidth: number;
  /** Tokens a second at which generating is bound by that bandwidth. */
  readonly bandwidthBound: number;
  /** Multiply-adds that products with matrices make of a token that is read: all but the head's, which only the last token has. */
  readonly multiplyAddsPerToken: number;
  /** Multiply-adds a second of the kernels of those products, measured on as many threads: with matrices as the model's are held. */
  readonly multiplyAddsPerSecond: number;
  /** Tokens a second at which reading is bound by that rate. */
  readonly productsBound: number;
  /** The share of `productsBound` that reading reaches. Over 1: the machine was faster while reading was measured. */
  readonly prefillOfBound: number;
  /** Tokens a second at which generating is bound: by the bandwidth, or by the rate of products, the head's among them, where that is less. */
  readonly decodeBound: number;
  /** The share of `decodeBound` that generating reaches. Over 1: as above, or the weights fit into caches. */
  readonly decodeOfBound: number;
  readonly costs: readonly CostAtLength[];
  /** Lengths that were asked for and that the model or the memory does not reach, and why. */
  readonly notReached?: { readonly lengths: readonly number[]; readonly reason: string };
}

/** Measures a model: random tokens, the best of some rounds. */
export async function bench(name: string, options: BenchOptions = {}): Promise<BenchResult> {
  refuseUnknownOptions(options, [
    'threads',
    'weights',
    'kvCache',
    'backend',
    'revectorize',
    'tokenizer',
    'adapter',
    'signal',
    'revision',
    'offline',
    'prefill',
    'decode',
    'batch',
    'rounds',
    'lengths',
    'onProgress',
  ]);
  const { prefill = 512, decode = 64, batch = 1, rounds = 3, lengths = [], onProgress, ...loading } = options;
  for (const [option, value] of Object.entries({ prefill, decode, batch, rounds }))
    if (!Number.isSafeInteger(value) || value < 1)
      throw new InputError(`${option} is ${value}: it must be a whole number of at least 1`);
  onProgress?.('loading');
  // Known before, so that it is not measured what a first start is without it.
  if (!loading.backend?.startsWith('reference')) await setRevectorization(loading.revectorize, true);
  const start = performance.now();
  const model = await load(name, loading);
  const loadSeconds = (performance.now() - start) / 1000;
  const limits = new MachineLimits(model.threads);
  try {
    const random = new Random(1);
    const tokens = Array.from({ length: prefill }, () => random.integer(model.vocabularySize));
    const { costs, notReached } = await costsAt(model, lengths, batch, random, options);
    const { token, head } = model.multiplyAdds;
    const byFormat = together(token, head);
    const formats = new Set(byFormat.map(([format]) => format));
    let [prefillBest, decodeBest, bandwidth, peakBytes] = [0, 0, 0, 0];
    const rates = new Map<WeightFormat, number>();
    for (let round = 1; round <= rounds; round++) {
      options.signal?.throwIfAborted();
      onProgress?.(`round ${round} of ${rounds}`);
      prefillBest = Math.max(prefillBest, await prefillSpeed(model, tokens, options.signal));
      decodeBest = Math.max(decodeBest, await decodeSpeed(model, tokens, decode, batch, options.signal));
      // Before limits are measured for the first time: the matrices that this takes are larger than many models.
      if (round === 1) peakBytes = 1024 * process.resourceUsage().maxRSS;
      const turn = await limits.measure(formats);
      bandwidth = Math.max(bandwidth, turn.bandwidth);
      for (const [format, rate] of turn.multiplyAdds) rates.set(format, Math.max(rate, rates.get(format) ?? 0));
    }
    const readSeconds = productSeconds(token, rates);
    const headSeconds = productSeconds(head, rates);
    const multiplyAddsPerToken = [...token.values()].reduce((sum, count) => sum + count, 0);
    const bytes = model.bytesPerToken;
    const context = Math.min(prefill, CONTEXT) + decode / 2;
    const seen = bytes.windows.reduce(
      (sum, { tokens, bytesPerToken }) => sum + Math.min(context, tokens) * bytesPerToken,
      0,
    );
    const bytesPerToken = bytes.weights / batch + bytes.state + context * bytes.statePerToken + seen;
    const bandwidthBound = bandwidth / bytesPerToken;
    const decodeBound = Math.min(bandwidthBound, 1 / (readSeconds + headSeconds));
    return {
      model: name,
      type: model.type,
      parameters: model.parameterCount,
      backend: model.backend,
      threads: model.threads,
      weights: byFormat[0]?.[0] ?? 'f32',
      multiplyAddsByFormat: Object.fromEntries(byFormat),
      ...(model.kvCache && { kvCache: model.kvCache }),
      batch,
      machine: {
        cpu: cpus()[0]?.model ?? 'unknown',
        cores: cpus().length,
        node: process.version,
        isRevectorized: model.backend.startsWith('wasm') && isRevectorized(),
      },
      prefillTokensPerSecond: prefillBest,
      decodeTokensPerSecond: decodeBest,
      loadSeconds,
      peakBytes,
      bytesPerToken,
      bandwidth,
      bandwidthBound,
      multiplyAddsPerToken,
      multiplyAddsPerSecond: multiplyAddsPerToken / readSeconds,
      productsBound: 1 / readSeconds,
      prefillOfBound: prefillBest * readSeconds,
      decodeBound,
      decodeOfBound: decodeBest / decodeBound,
      costs,
      ...(notReached && { notReached }),
    };
  } finally {
    limits.dispose();
    model.dispose();
  }
}

/** Multiply-adds by format, most first. */
function together(token: MultiplyAdds, head: MultiplyAdds): [WeightFormat, number][] {
  const all = new Map(token);
  for (const [format, count] of head) all.set(format, count + (all.get(format) ?? 0));
  return [...all].sort(([, a], [, b]) => b - a);
}

/** The time of products at the rates of their kernels. */
function productSeconds(counts: MultiplyAdds, rates: ReadonlyMap<WeightFormat, number>): number {
  let seconds = 0;
  for (const [format, count] of counts) seconds += count / rates.get(format)!;
  return seconds;
}

/** Tokens that sequences have read before generating is timed. */
const CONTEXT = 16;

const secondsSince = (start: number): number => (performance.now() - start) / 1000;

async function prefillSpeed(model: Model, tokens: readonly number[], signal?: AbortSignal): Promise<number> {
  const session = model.session();
  const start = performance.now();
  await session.read(tokens, { signal });
  const speed = tokens.length / secondsSince(start);
  session.dispose();
  return speed;
}

async function decodeSpeed(
  model: Model,
  tokens: readonly number[],
  count: number,
  batch: number,
  signal?: AbortSignal,
): Promise<number> {
  const sessions = Array.from({ length: batch }, () => model.session());
  const next = (i: number, b: number) => tokens[(i + 7 * b) % tokens.length]!;
  for (const session of sessions) await session.read(tokens.slice(0, CONTEXT));
  const step = (i: number) =>
    stepTogether(
      model,
      sessions,
      sessions.map((_, b) => next(i, b)),
    );
  // The plan of a step is made when it is first needed.
  await step(0);
  const start = performance.now();
  for (let i = 1; i <= count; i++) {
    signal?.throwIfAborted();
    await step(i);
  }
  const speed = (batch * count) / secondsSince(start);
  for (const session of sessions) session.dispose();
  return speed;
}

/** One token more in each session. */
async function stepTogether(model: Model, sessions: readonly Session[], tokens: readonly number[]): Promise<void> {
  if (sessions.length === 1) await sessions[0]!.step(tokens[0]!);
  else
    await model.readTogether(
      sessions,
      tokens.map((token) => [token]),
    );
}

/** Tokens over which the cost at a length is taken, and how often: the best counts. */
const SAMPLE = 32;
const SAMPLES = 10;
/** Milliseconds of steps before the first length: until kernels are compiled for good, and the clock of the processor is up. */
const WARM = 500;

/** What a token costs after texts of some lengths, the best of some samples; the first length is measured when the machine is warm. */
export async function costsAt(
  model: Model,
  lengths: readonly number[],
  batch: number,
  random: Random,
  { signal, onProgress }: BenchOptions,
): Promise<Pick<BenchResult, 'costs' | 'notReached'>> {
  const costs: CostAtLength[] = [];
  const wanted = [...new Set(lengths)].sort((a, b) => a - b);
  const without = (reason: string) => ({ costs, notReached: { lengths: wanted.slice(costs.length), reason } });
  const session = model.session();
  /** Milliseconds of a token after those of the session. */
  const sample = async () => {
    signal?.throwIfAborted();
    const forks: Session[] = [];
    try {
      while (forks.length < batch) forks.push(session.fork());
      const start = performance.now();
      for (let i = 0; i < SAMPLE; i++)
        await stepTogether(
          model,
          forks,
          forks.map((_, b) => (i + 7 * b) % model.vocabularySize),
        );
      return (1000 * secondsSince(start)) / (SAMPLE * batch);
    } finally {
      for (const fork of forks) fork.dispose();
    }
  };
  try {
    for (const length of wanted) {
      if (length + SAMPLE > model.longest) return without(`the model has positions for ${model.longest} tokens`);
      while (session.position < length) {
        const count = Math.min(4096, length - session.position);
        onProgress?.(`${session.position} of ${length} tokens read`);
        await session.read(
          Array.from({ length: count }, () => random.integer(model.vocabularySize)),
          { signal },
        );
      }
      if (costs.length === 0) for (const start = performance.now(); performance.now() < start + WARM; ) await sample();
      let best = Infinity;
      const stateBytes = session.bytes;
      for (let n = 0; n < SAMPLES; n++) best = Math.min(best, await sample());
      costs.push({ length, millisecondsPerToken: best, stateBytes });
    }
  } catch (error) {
    // Keys and values may outgrow the memory: what was measured until then is the answer.
    if (!(error instanceof UnsupportedError) || costs.length === 0) throw error;
    return without(error.message);
  } finally {
    session.dispose();
  }
  return { costs };
}
