import { ConfigError } from '../core/errors.ts';
import { ropeFrequencies } from '../ops/rope.ts';
import type { Rope } from './rope-config.ts';

/** YaRN's settings. Peng et al. 2023, arXiv 2309.00071, §3. */
export interface Yarn {
  /** How many times longer texts become. */
  readonly factor: number;
  /** The longest texts before. */
  readonly context: number;
  /** Turns within `context` from which on a pair keeps its frequency, and up to which it is slowed down by `factor`. */
  readonly fast: number;
  readonly slow: number;
  /** Whether the ramp between them begins and ends at whole pairs. */
  readonly truncate: boolean;
  /** What turned channels are multiplied by. */
  readonly magnitude: number;
}

/** 0.1 · m · ln s + 1: queries and keys so much larger, for scores over texts s times as long. */
export const yarnMagnitude = (factor: number, m = 1): number => (factor <= 1 ? 1 : 0.1 * m * Math.log(factor) + 1);

/**
 * Frequencies f_i (1 − γ_i) / s + f_i γ_i of the pairs i of `channels`, γ falling from 1 to 0 between the pairs that turn `fast`
 * and `slow` times within the context.
 */
export function yarnRope(yarn: Yarn, channels: number, theta: number): Rope {
  const { factor, context, fast, slow, truncate, magnitude } = yarn;
  if (channels % 2 === 1) throw new ConfigError(`config: yarn is of pairs of channels, and ${channels} are turned`);
  /** The pair that turns so often within the context. */
  const pairOf = (turns: number) => (channels * Math.log(context / (turns * 2 * Math.PI))) / (2 * Math.log(theta));
  const [first, last] = [pairOf(fast), pairOf(slow)];
  if (!Number.isFinite(first) || !Number.isFinite(last))
    throw new ConfigError(`config: yarn with ${fast} and ${slow} turns in ${context} tokens at rope_theta ${theta}`);
  const low = Math.max(truncate ? Math.floor(first) : first, 0);
  const end = Math.min(truncate ? Math.ceil(last) : last, channels - 1);
  const high = end === low ? end + 0.001 : end;
  const frequencies = ropeFrequencies(channels, theta).map((f, i) => {
    const ramp = Math.min(1, Math.max(0, (i - low) / (high - low)));
    return (f / factor) * ramp + f * (1 - ramp);
  });
  return { frequencies, magnitude, yarn };
}
