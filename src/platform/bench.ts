import { cpus } from 'node:os';
import type { WeightFormat } from '../core/backend.ts';
import { InputError, UnsupportedError } from '../core/errors.ts';
import { Random } from '../core/random.ts';
import type { Model } from '../runtime/model.ts';
import { refuseUnknownOptions } from '../runtime/sampler.ts';
import { measureBandwidth } from './machine-limits.ts';
import { type LoadOptions, load } from './node-load.ts';
import { isRevectorized } from './revectorization.ts';

export interface BenchOptions
  extends Pick<
    LoadOptions,
    'threads' | 'weights' | 'backend' | 'revectorize' | 'tokenizer' | 'adapter' | 'signal' | 'revision' | 'offline'
  > {
  /** Tokens of the prompt. Default 512. */
  readonly prefill?: number;
  /** Tokens generated. Default 64. */
  readonly decode?: number;
  /** Sequences generated together. Default 1. */
  readonly batch?: number;
  /** Runs, of which the best counts. Default 3. */
  readonly rounds?: number;
  /** Lengths of text at which the cost of one more token is measured. Default none. */
  readonly lengths?: readonly number[];
  /** Told what is being done. */
  readonly onProgress?: (what: string) => void;
}

/** The cost of a token after so many others. */
export interface CostAtLength {
  readonly length: number;
  readonly millisecondsPerToken: number;
  /** Bytes of the sequence's state. */
  readonly stateBytes: number;
}

export interface BenchResult {
  readonly model: string;
  readonly type: string;
  readonly parameters: number;
  readonly backend: string;
  readonly threads: number;
  readonly weights: WeightFormat | 'auto';
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
  readonly costs: readonly CostAtLength[];
}

/** Measures a model: random tokens, the best of some rounds. */
export async function bench(name: string, options: BenchOptions = {}): Promise<BenchResult> {
  refuseUnknownOptions(options, [
    'threads',
    'weights',
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
  const start = performance.now();
  const model = await load(name, loading);
  const loadSeconds = (performance.now() - start) / 1000;
  try {
    const random = new Random(1);
    const tokens = Array.from({ length: prefill }, () => random.integer(model.vocabularySize));
    let [prefillBest, decodeBest] = [0, 0];
    for (let round = 1; round <= rounds; round++) {
      options.signal?.throwIfAborted();
      onProgress?.(`round ${round} of ${rounds}`);
      prefillBest = Math.max(prefillBest, await prefillSpeed(model, tokens, options.signal));
      decodeBest = Math.max(decodeBest, await decodeSpeed(model, tokens, decode, batch, options.signal));
    }
    const costs = await costsAt(model, lengths, random, options);
    const peakBytes = 1024 * process.resourceUsage().maxRSS;
    // Last, for the matrices that it takes are larger than many models.
    onProgress?.('measuring memory');
    const bandwidth = await measureBandwidth(model.threads);
    const bytes = model.bytesPerToken;
    const context = Math.min(prefill, CONTEXT) + decode / 2;
    const seen = bytes.windows.reduce(
      (sum, { tokens, bytesPerToken }) => sum + Math.min(context, tokens) * bytesPerToken,
      0,
    );
    const bytesPerToken = bytes.weights / batch + bytes.state + context * bytes.statePerToken + seen;
    return {
      model: name,
      type: model.type,
      parameters: model.parameterCount,
      backend: model.backend,
      threads: model.threads,
      weights: options.weights ?? 'auto',
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
      bandwidthBound: bandwidth / bytesPerToken,
      costs,
    };
  } finally {
    model.dispose();
  }
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
  // The plan of a step is made when it is first needed.
  const step = (i: number) =>
    batch === 1
      ? sessions[0]!.step(next(i, 0))
      : model.readTogether(
          sessions,
          sessions.map((_, b) => [next(i, b)]),
        );
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

/** Tokens over which the cost at a length is taken, and how often: the best counts. */
const SAMPLE = 32;
const SAMPLES = 10;

async function costsAt(
  model: Model,
  lengths: readonly number[],
  random: Random,
  { signal, onProgress }: BenchOptions,
): Promise<CostAtLength[]> {
  const costs: CostAtLength[] = [];
  const session = model.session();
  try {
    for (const length of [...lengths].sort((a, b) => a - b)) {
      if (length > model.longest) break;
      while (session.position < length) {
        const count = Math.min(4096, length - session.position);
        onProgress?.(`${session.position} of ${length} tokens read`);
        await session.read(
          Array.from({ length: count }, () => random.integer(model.vocabularySize)),
          { signal },
        );
      }
      let best = Infinity;
      const stateBytes = session.bytes;
      for (let n = 0; n < SAMPLES; n++) {
        const fork = session.fork();
        const start = performance.now();
        for (let i = 0; i < SAMPLE; i++) await fork.step(i % model.vocabularySize);
        best = Math.min(best, (1000 * secondsSince(start)) / SAMPLE);
        fork.dispose();
      }
      costs.push({ length, millisecondsPerToken: best, stateBytes });
    }
  } catch (error) {
    // Keys and values may outgrow the memory: what was measured until then is the answer.
    if (!(error instanceof UnsupportedError) || costs.length === 0) throw error;
  } finally {
    session.dispose();
  }
  return costs;
}
