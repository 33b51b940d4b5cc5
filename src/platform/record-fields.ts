import { InputError } from '../core/errors.ts';
import type { DataRecord } from './data-files.ts';

/** A field that must be a text. */
export function textField({ fields, where }: DataRecord, name: string): string {
  const value = fields[name];
  if (value === '') throw new InputError(`${where}: ${name} is empty`);
  if (value === undefined)
    throw new InputError(`${where} has no text "${name}" (it has ${Object.keys(fields).join(', ')})`);
  if (typeof value !== 'string') throw new InputError(`${where}: ${name} is ${shown(value)}: it must be a text`);
  return value;
}

/** A label, or a text with one: a text, or a number, true or false as it is written. InputError for what is missing, empty, a list or an object. */
export function plainField({ fields, where }: DataRecord, name: string): string {
  const value = fields[name];
  if (value === '') throw new InputError(`${where}: ${name} is empty`);
  if (value === undefined) throw new InputError(`${where} has no "${name}" (it has ${Object.keys(fields).join(', ')})`);
  if (typeof value === 'object')
    throw new InputError(`${where}: ${name} is ${shown(value)}: it must be a text or a number`);
  return String(value);
}

/** A value for a message. */
const shown = (value: unknown): string => JSON.stringify(value).slice(0, 80);
