import { InputError } from '../core/errors.ts';
import type { GenerateOptions, Generation } from '../runtime/generate.ts';
import type { Session } from '../runtime/session.ts';
import { isTokens, type Source } from '../runtime/source.ts';
import { complete } from './complete.ts';

export interface SamplesOptions extends Omit<GenerateOptions, 'onToken'> {
  /** How many texts. Default 4. */
  readonly n?: number;
}

/**
 * Several continuations of one text, in one packed step a token: after `prompt` the session is forked, and stays where the
 * prompt ends. The i-th text has the seed `seed + i`.
 */
export async function samples(
  session: Session,
  prompt: Source | undefined,
  { n = 4, ...options }: SamplesOptions = {},
): Promise<Generation[]> {
  if (!Number.isInteger(n) || n < 1) throw new InputError(`n is ${String(n)}: it must be a whole number from 1`);
  const { seed = Math.floor(Math.random() * 2 ** 48), signal } = options;
  const { tokenizer } = session.model;
  const source =
    typeof prompt === 'string' ? tokenizer.encode(prompt, { addSpecialTokens: session.position === 0 }) : prompt;
  if (source !== undefined) await session.read(source, { signal });
  const seen = [...(options.seen ?? []), ...(source !== undefined && isTokens(source) ? Array.from(source) : [])];
  const forks = await packedForks(session, n);
  try {
    return await Promise.all(
      forks.map((fork, i) => complete(fork.generate(undefined, { ...options, seen, seed: seed + i }))),
    );
  } finally {
    for (const fork of forks) fork.dispose();
  }
}

/** Sessions that go on from a session's state, their steps packed into one. */
export async function packedForks(session: Session, count: number): Promise<Session[]> {
  const batcher = session.model.batcher({ maxSessions: Math.max(64, count) });
  const state = session.state.copy();
  return await Promise.all(
    Array.from({ length: count }, async () => {
      const fork = batcher.session();
      await fork.state.restore(state);
      return fork;
    }),
  );
}
