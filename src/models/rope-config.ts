import { ConfigError } from '../core/errors.ts';
import { ropeFrequencies } from '../ops/rope.ts';
import type { ConfigReader } from './config.ts';

/** Channels that a head may have: usual is 64 to 256. */
const LONGEST_HEAD = 65536;

/**
 * Frequencies of the rotary embedding of heads of `channels`, from either dialect: `rope_parameters`, or the older
 * `rope_theta`, `rotary_pct` and `rope_scaling`.
 */
export function readRope(c: ConfigReader, channels: number, rotated = 1): number[] {
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
  for (const name of ['rope_type', 'type'])
    scaling.only(name, ['default', 'linear', 'llama3', 'longrope'], 'other rope scalings are not built');
  const type = scaling.string(['rope_type', 'type'], 'default');
  if (type === 'default') return frequencies;
  if (type === 'longrope') return frequencies.map(listed(scaling, frequencies.length));
  const factor = scaling.positive('factor');
  if (type === 'linear') return frequencies.map((f) => f / factor);
  return frequencies.map(llama3(factor, scaling));
}

/** Base θ of the rotary embedding: channel pair i of K turns by θ^(−2i/K) per token. */
export function ropeBase(c: ConfigReader): number {
  return c.object('rope_parameters').positive('rope_theta', c.positive(['rope_theta', 'rotary_emb_base'], 10000));
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
function llama3(factor: number, scaling: ConfigReader): (frequency: number) => number {
  const low = scaling.number('low_freq_factor', 1);
  const high = scaling.number('high_freq_factor', 4);
  const context = scaling.number('original_max_position_embeddings', 8192);
  return (frequency) => {
    const waves = (context * frequency) / (2 * Math.PI);
    const blend = Math.min(1, Math.max(0, (waves - low) / (high - low)));
    return frequency * (blend + (1 - blend) / factor);
  };
}
