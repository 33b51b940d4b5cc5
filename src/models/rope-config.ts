import { ConfigError } from '../core/errors.ts';
import { ropeFrequencies } from '../ops/rope.ts';
import type { ConfigReader } from './config.ts';
import { type Yarn, yarnMagnitude, yarnRope } from './yarn.ts';

/** Channels that a head may have: usual is 64 to 256. */
const LONGEST_HEAD = 65536;

/** A rotary embedding. */
export interface Rope {
  /** Angles per token of the pairs of channels that are turned. */
  readonly frequencies: readonly number[];
  /** What the turned channels are multiplied by; 1 where there is none. */
  readonly magnitude?: number;
  /** How the frequencies were made, where by YaRN. */
  readonly yarn?: Yarn;
}

/**
 * The rotary embedding of heads of `channels`, from either dialect: `rope_parameters`, or the older `rope_theta`, `rotary_pct` and
 * `rope_scaling`.
 */
export function readRope(c: ConfigReader, channels: number, rotated = 1): Rope {
  if (channels > LONGEST_HEAD)
    throw new ConfigError(`config: heads of ${channels} channels; at most ${LONGEST_HEAD} are expected`);
  const parameters = c.object('rope_parameters');
  const older = c.object('rope_scaling');
  const isScaled = parameters.has('rope_type') && parameters.string('rope_type') !== 'default';
  const scaling = isScaled ? parameters : older;
  const theta = ropeBase(c);
  const part = parameters.number('partial_rotary_factor', c.number(['rotary_pct', 'partial_rotary_factor'], rotated));
  const turned = Math.floor(channels * part);
  if (turned % 2 === 1 && turned === channels)
    throw new ConfigError(`config: heads of ${channels} channels can not be turned in pairs`);
  const frequencies = ropeFrequencies(turned, theta);
  for (const name of ['rope_type', 'type']) {
    if (scaling.is(name, 'dynamic'))
      throw new ConfigError(
        `config: ${name} is "dynamic": frequencies that change with the text's length are not built, for what was read before would have to be turned anew; for long texts such models are mostly given "yarn" or "linear"`,
      );
    scaling.only(name, ['default', 'linear', 'llama3', 'longrope', 'yarn'], 'other rope scalings are not built');
  }
  const type = scaling.string(['rope_type', 'type'], 'default');
  if (type === 'default') return { frequencies };
  if (type === 'longrope') return { frequencies: frequencies.map(listed(scaling, frequencies.length)) };
  if (type === 'yarn') return yarnRope(readYarn(c, scaling), turned, theta);
  const factor = scaling.positive('factor');
  if (type === 'linear') return { frequencies: frequencies.map((f) => f / factor) };
  return { frequencies: frequencies.map(llama3(factor, scaling, originalLength(c, scaling, 8192))) };
}

/** Base θ of the rotary embedding: channel pair i of K turns by θ^(−2i/K) per token. */
export function ropeBase(c: ConfigReader): number {
  return c.object('rope_parameters').positive('rope_theta', c.positive(['rope_theta', 'rotary_emb_base'], 10000));
}

/** The longest texts of the training before the scaling, wherever the configuration says it. */
function originalLength(c: ConfigReader, scaling: ConfigReader, usual?: number): number {
  const name = 'original_max_position_embeddings';
  if (c.has(name)) return c.integer(name);
  return scaling.integer(name, c.has('max_position_embeddings') ? c.integer('max_position_embeddings') : usual);
}

function readYarn(c: ConfigReader, scaling: ConfigReader): Yarn {
  const context = originalLength(c, scaling);
  const factor = scaling.has('factor') ? scaling.positive('factor') : c.positive('max_position_embeddings') / context;
  const given = (name: string) => (scaling.has(name) && !scaling.is(name, 0) ? scaling.number(name) : undefined);
  const [part, all] = [given('mscale'), given('mscale_all_dim')];
  const usual =
    part !== undefined && all !== undefined
      ? yarnMagnitude(factor, part) / yarnMagnitude(factor, all)
      : yarnMagnitude(factor);
  return {
    factor,
    context,
    fast: given('beta_fast') ?? 32,
    slow: given('beta_slow') ?? 1,
    truncate: scaling.boolean('truncate', true),
    magnitude: scaling.number('attention_factor', usual),
  };
}

/** LongRoPE's form with one list of factors for texts of any length and nothing else scaled. */
function listed(scaling: ConfigReader, pairs: number): (frequency: number, i: number) => number {
  const [short, long] = [scaling.numbers('short_factor'), scaling.numbers('long_factor')];
  const same = short.length === pairs && long.length === pairs && short.every((factor, i) => factor === long[i]);
  if (!same || scaling.number('attention_factor') !== 1)
    throw new ConfigError(
      `config: longrope is built for one list of ${pairs} factors (short_factor the same as long_factor) and attention_factor 1`,
    );
  return (frequency, i) => frequency / short[i]!;
}

/**
 * Llama 3's scaling: wave lengths up to the original context over `high_freq_factor` stay, those beyond it over
 * `low_freq_factor` are stretched by `factor`, and those between are blended.
 */
function llama3(factor: number, scaling: ConfigReader, context: number): (frequency: number) => number {
  const low = scaling.number('low_freq_factor', 1);
  const high = scaling.number('high_freq_factor', 4);
  return (frequency) => {
    const waves = (context * frequency) / (2 * Math.PI);
    const blend = Math.min(1, Math.max(0, (waves - low) / (high - low)));
    return frequency * (blend + (1 - blend) / factor);
  };
}
