import { InputError } from '../core/errors.ts';
import { beginMarkLength } from '../runtime/begin-mark.ts';
import type { Session } from '../runtime/session.ts';

/** InputError where a session has read nothing of its own: a mark that begins every text does not count. */
export function refuseEmpty({ model, position }: Session, what: string): void {
  if (position <= beginMarkLength(model)) throw new InputError(`${what} is empty`);
}
