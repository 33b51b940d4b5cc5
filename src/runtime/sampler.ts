import { InputError, nearest } from '../core/errors.ts';
import { Random } from '../core/random.ts';
import { type SampleOptions, sample } from '../ops/sample.ts';

/** How tokens are chosen. All have defaults; unknown names are refused. */
export interface SamplerOptions extends Partial<SampleOptions> {
  /** Divides positive logits and multiplies negative ones of tokens seen before (Keskar et al. 2019); 1 is off. */
  readonly repetitionPenalty?: number;
  /** Subtracted from a token's logit for every time it was seen; 0 is off. */
  readonly frequencyPenalty?: number;
  /** Subtracted once from the logits of tokens seen before; 0 is off. */
  readonly presencePenalty?: number;
  /** How many of the last tokens the penalties look at; Infinity for all. Default 256. */
  readonly penaltyWindow?: number;
  /** Added to the logits of single tokens, by id; -Infinity forbids one. */
  readonly logitBias?: Readonly<Record<number, number>>;
  /** Makes the choice repeatable. Default: a random seed. */
  readonly seed?: number;
}

interface Rule {
  readonly fallback: number;
  readonly valid: (value: number) => boolean;
  readonly expected: string;
}

const rules: Readonly<Record<string, Rule>> = {
  temperature: { fallback: 0.8, valid: (x) => x >= 0 && x < Infinity, expected: 'a number from 0' },
  topK: { fallback: 0, valid: (x) => Number.isInteger(x) && x >= 0, expected: 'a whole number, 0 for all' },
  topP: { fallback: 1, valid: (x) => x > 0 && x <= 1, expected: 'a probability above 0' },
  minP: { fallback: 0, valid: (x) => x >= 0 && x <= 1, expected: 'a fraction from 0 to 1' },
  typicalP: { fallback: 1, valid: (x) => x > 0 && x <= 1, expected: 'a probability above 0' },
  repetitionPenalty: { fallback: 1, valid: (x) => x > 0 && x < Infinity, expected: 'a number above 0' },
  frequencyPenalty: { fallback: 0, valid: Number.isFinite, expected: 'a number' },
  presencePenalty: { fallback: 0, valid: Number.isFinite, expected: 'a number' },
  penaltyWindow: {
    fallback: 256,
    valid: (x) => x >= 0 && (Number.isInteger(x) || x === Infinity),
    expected: 'a whole number',
  },
  seed: { fallback: 0, valid: (x) => Number.isSafeInteger(x), expected: 'a whole number' },
};

export const samplerOptionNames: readonly string[] = [...Object.keys(rules), 'logitBias'];

/** Refuses option names that nothing reads, with the nearest that exist. */
export function refuseUnknownOptions(options: object, known: readonly string[]): void {
  if (typeof options !== 'object' || options === null)
    throw new InputError(`the options are ${String(options)}: they must be an object; known: ${known.join(', ')}`);
  for (const name of Object.keys(options)) {
    if (known.includes(name)) continue;
    const near = nearest(name, known);
    throw new InputError(
      `unknown option ${name}${near.length > 0 ? `: did you mean ${near.join(' or ')}?` : `; known: ${known.join(', ')}`}`,
    );
  }
}

/** Chooses tokens from logits, with memory of what was chosen. */
export class Sampler {
  readonly #options: SampleOptions;
  readonly #penalties: { repetition: number; frequency: number; presence: number; window: number };
  readonly #bias: readonly (readonly [number, number])[];
  readonly #random: Random;
  readonly #seen: number[] = [];
  readonly #counts = new Map<number, number>();
  #adjusted = new Float32Array(0);

  constructor(options: SamplerOptions = {}) {
    const value = (name: keyof SamplerOptions): number => {
      const { fallback, valid, expected } = rules[name]!;
      const given = options[name] as number | undefined;
      if (given === undefined) return fallback;
      if (typeof given !== 'number' || !valid(given))
        throw new InputError(`${name} is ${String(given)}: it must be ${expected}`);
      return given;
    };
    this.#options = {
      temperature: value('temperature'),
      topK: value('topK'),
      topP: value('topP'),
      minP: value('minP'),
      typicalP: value('typicalP'),
    };
    this.#penalties = {
      repetition: value('repetitionPenalty'),
      frequency: value('frequencyPenalty'),
      presence: value('presencePenalty'),
      window: value('penaltyWindow'),
    };
    this.#bias = Object.entries(options.logitBias ?? {}).map(([id, bias]) => {
      if (!Number.isInteger(Number(id)) || typeof bias !== 'number' || Number.isNaN(bias)) {
        throw new InputError(`logitBias maps token ids to numbers, not ${id} to ${String(bias)}`);
      }
      return [Number(id), bias];
    });
    this.#random = new Random(options.seed === undefined ? Math.floor(Math.random() * 2 ** 48) : value('seed'));
  }

  /** Tells the sampler of a token of the text, so that penalties count it. */
  accept(token: number): void {
    const { window } = this.#penalties;
    if (window === 0) return;
    this.#seen.push(token);
    this.#counts.set(token, (this.#counts.get(token) ?? 0) + 1);
    if (this.#seen.length <= window) return;
    const forgotten = this.#seen.shift()!;
    const left = this.#counts.get(forgotten)! - 1;
    if (left === 0) this.#counts.delete(forgotten);
    else this.#counts.set(forgotten, left);
  }

  /**
   * The next token. `logits` [V] are not changed.
   *
   * @param allowed the tokens to choose among, as bits: token t is bit t % 32 of word ⌊t / 32⌋
   */
  next(logits: Float32Array, allowed?: Uint32Array): number {
    const token = sample(this.adjust(logits, allowed), this.#options, this.#random.uniform());
    this.accept(token);
    return token;
  }

  /** The logits after penalties and bias, and without the tokens that are not allowed. */
  adjust(logits: Float32Array, allowed?: Uint32Array): Float32Array {
    const { repetition, frequency, presence } = this.#penalties;
    const penalised = repetition !== 1 || frequency !== 0 || presence !== 0;
    if (!penalised && this.#bias.length === 0 && !allowed) return logits;
    if (this.#adjusted.length !== logits.length) this.#adjusted = new Float32Array(logits.length);
    const adjusted = this.#adjusted;
    adjusted.set(logits);
    for (const [token, count] of penalised ? this.#counts : []) {
      const logit = adjusted[token]!;
      adjusted[token] = (logit > 0 ? logit / repetition : logit * repetition) - frequency * count - presence;
    }
    for (const [token, bias] of this.#bias) {
      if (token < 0 || token >= adjusted.length)
        throw new InputError(`logitBias: token ${token} is not in the vocabulary of ${adjusted.length}`);
      adjusted[token]! += bias;
    }
    if (allowed)
      for (let v = 0; v < adjusted.length; v++) if (!(allowed[v >> 5]! & (1 << (v & 31)))) adjusted[v] = -Infinity;
    return adjusted;
  }
}
