import { InputError } from '../../core/errors.ts';

/** The texts that a pipeline was called with: one, or a list. InputError for anything else. */
export function textsOf(texts: unknown, what = 'the input'): readonly string[] {
  if (typeof texts === 'string') return [texts];
  if (!Array.isArray(texts)) throw new InputError(`${what} is ${String(texts)}: it must be a text or a list of texts`);
  for (const [i, text] of texts.entries())
    if (typeof text !== 'string')
      throw new InputError(`${what} has ${String(text)} as its text ${i + 1}: it must be a string`);
  return texts as string[];
}
