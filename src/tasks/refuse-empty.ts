import { InputError } from '../core/errors.ts';
import type { Session } from '../runtime/session.ts';

/** InputError where a session has read nothing of its own: a mark that begins every text does not count. */
export function refuseEmpty({ model, position }: Session, what: string): void {
  const begin = model.hasTokenizer ? model.tokenizer.encode('').length : 0;
  if (position <= begin) throw new InputError(`${what} is empty`);
}
