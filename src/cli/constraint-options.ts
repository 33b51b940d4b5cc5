import { readFile } from 'node:fs/promises';
import type { Command } from 'commander';
import type { Constraint } from '../constraints/constraint.ts';
import { InputError } from '../core/errors.ts';
import { openFile } from '../platform/node-file.ts';
import { list } from './options.ts';

/** What the options of `withConstraint` give. */
export interface ConstraintFlags {
  readonly choices?: string[];
  readonly regex?: string;
  readonly jsonSchema?: string;
}

/** Adds the options that say what a generated text must be. */
export const withConstraint = (command: Command): Command =>
  command
    .option('--choices <list>', 'generate one of these texts, separated by commas', list)
    .option('--regex <pattern>', 'generate a match of this regular expression (JavaScript’s syntax)')
    .option('--json-schema <schema>', 'generate JSON of this schema: a file, or the schema itself');

/** The constraint that was asked for. InputError for more than one, and for a schema that is not JSON. */
export async function constraintOf({ choices, regex, jsonSchema }: ConstraintFlags): Promise<Constraint | undefined> {
  if ([choices, regex, jsonSchema].filter((one) => one !== undefined).length > 1)
    throw new InputError('a text is held to one of --choices, --regex and --json-schema');
  if (choices) return { choices };
  if (regex !== undefined) return { regex };
  return jsonSchema === undefined ? undefined : { jsonSchema: await readSchema(jsonSchema) };
}

async function readSchema(given: string): Promise<object> {
  const isInline = /^\s*([{[]|(true|false)\s*$)/.test(given);
  if (!isInline) await (await openFile(given)).close();
  try {
    return JSON.parse(isInline ? given : await readFile(given, 'utf8')) as object;
  } catch (cause) {
    throw new InputError(`${isInline ? '--json-schema' : given} is not valid JSON: ${(cause as Error).message}`, {
      cause,
    });
  }
}
