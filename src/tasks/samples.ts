import { InputError } from '../core/errors.ts';
import type { GenerateOptions, Generation } from '../runtime/generate.ts';
import type { Session } from '../runtime/session.ts';
import type { Source } from '../runtime/source.ts';
import { complete } from './complete.ts';

export interface SamplesOptions extends Omit<GenerateOptions, 'onToken'> {
  /** How many texts. Default 4. */
  readonly n?: number;
}

/**
 * Several continuations of one text, in one packed step a token: after `prompt` the session is forked, and stays where the
 * prompt ends. The i-th text has the seed `seed + i`; penalties count what is generated.
 */
export async function samples(
  session: Session,
  prompt: Source | undefined,
  { n = 4, ...options }: SamplesOptions = {},
): Promise<Generation[]> {
  if (!Number.isInteger(n) || n < 1) throw new InputError(`n is ${String(n)}: it must be a whole number from 1`);
  const { seed = Math.floor(Math.random() * 2 ** 48), signal } = options;
  if (prompt !== undefined) await session.read(prompt, { signal });
  const forks = await packedForks(session, n);
  try {
    return await Promise.all(
      forks.map((fork, i) => complete(fork.generate(undefined, { ...options, seed: seed + i }))),
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
