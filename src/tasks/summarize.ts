import type { GenerateOptions, Generation } from '../runtime/generate.ts';
import type { Model } from '../runtime/model.ts';
import type { ReadOptions } from '../runtime/session.ts';
import type { Source } from '../runtime/source.ts';
import { refuseEmpty } from './refuse-empty.ts';

export interface SummarizeOptions extends GenerateOptions {
  /** What asks for a summary after the text. Default `\n\nTL;DR:` (Radford et al. 2019). */
  readonly prompt?: string;
  /** Told the tokens of the text read so far. */
  readonly onProgress?: ReadOptions['onProgress'];
}

/** Reads a text of any length and yields a summary of one paragraph as it comes. */
export async function* summarize(
  model: Model,
  source: Source,
  options: SummarizeOptions = {},
): AsyncGenerator<string, Generation, void> {
  const { prompt = '\n\nTL;DR:', onProgress, maxTokens = 256, ...given } = options;
  const session = model.session();
  try {
    const write = (prompt: string | undefined, maxTokens: number) =>
      session.generate(prompt, { temperature: 0, stop: '\n', ...given, maxTokens });
    let generation = write(prompt, maxTokens);
    await session.read(source, { signal: given.signal, onProgress });
    refuseEmpty(session, 'the text');
    for (let left = maxTokens; ; generation = write(undefined, left)) {
      const part = yield* generation;
      left -= part.tokens.length;
      // A line break before the first word ends nothing.
      const isBlank = part.finishReason === 'stop' && given.stop === undefined && part.text.trim() === '';
      if (!isBlank || left <= 0) return part;
    }
  } finally {
    session.dispose();
  }
}
