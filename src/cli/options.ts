import { type Command, InvalidArgumentError, Option } from 'commander';
import { embeddedModel, type LoadOptions } from '../platform/node-load.ts';

/** A number of an option's text. */
export function number(text: string): number {
  const value = Number(text);
  if (text.trim() === '' || Number.isNaN(value)) throw new InvalidArgumentError('It must be a number.');
  return value;
}

/** A whole number. */
export function integer(text: string): number {
  const value = number(text);
  if (!Number.isSafeInteger(value)) throw new InvalidArgumentError('It must be a whole number.');
  return value;
}

/** A whole number from 1. */
export function positive(text: string): number {
  const value = integer(text);
  if (value < 1) throw new InvalidArgumentError('It must be at least 1.');
  return value;
}

/** Collects an option that may be given several times. */
export const collect = (text: string, before: readonly string[] = []): string[] => [...before, text];

/** Collects `PATTERN=NUMBER`, which may be given several times. A pattern may have `=` in it. */
export function rates(text: string, before: Readonly<Record<string, number>> = {}): Record<string, number> {
  const at = text.lastIndexOf('=');
  if (at < 1) throw new InvalidArgumentError('It must be PATTERN=NUMBER.');
  return { ...before, [text.slice(0, at)]: number(text.slice(at + 1)) };
}

/** Several texts with commas between. */
export const list = (text: string): string[] => text.split(',');

/** What the options of `withModel` give. */
export interface ModelFlags {
  readonly model: string;
  readonly weights: NonNullable<LoadOptions['weights']>;
  readonly kvCache?: NonNullable<LoadOptions['kvCache']>;
  readonly threads?: number;
  readonly backend: NonNullable<LoadOptions['backend']>;
  readonly revectorize: boolean;
  readonly tokenizer?: string;
  readonly adapter?: string;
  /** Of the commands with `withState`. */
  readonly load?: string;
  readonly revision?: string;
  readonly offline?: boolean;
  readonly quiet?: boolean;
}

/** Adds the option that names what texts begin with. */
export const withState = (command: Command): Command =>
  command.option(
    '--load <file>',
    "begin each text with a saved or tuned state (default: initial.state of the model's folder, where there is one)",
  );

/** Adds the options that choose and load a model. */
export const withModel = (command: Command): Command =>
  command
    .option('-m, --model <name>', 'folder, checkpoint file, hub id (org/name) or embedded model', embeddedModel)
    .addOption(
      new Option('--weights <format>', 'how matrices are held in memory: auto is each as it is stored')
        .choices(['auto', 'f32', 'bf16', 'f16', 'q8', 'q4'])
        .default('auto'),
    )
    .addOption(
      new Option('--kv-cache <format>', 'how keys and values of attention are kept (default: f32)').choices([
        'f32',
        'f16',
      ]),
    )
    .option('--threads <n>', 'threads to compute with (default: one per core, at most 8)', integer)
    .addOption(
      new Option('--backend <name>', 'what computes').choices(['wasm', 'reference', 'reference-f64']).default('wasm'),
    )
    .option('--no-revectorize', 'keep kernels to 128-bit operations: see inspect --device')
    .option(
      '--tokenizer <name>',
      "in the place of the model's own: bytes, a tokenizer.json, an rwkv_vocab.txt, or a folder",
    )
    .option(
      '--adapter <folder>',
      'a low-rank adapter (PEFT), or a folder with one in adapter/, to merge into the model',
    )
    .option('--revision <name>', 'branch, tag or commit on the hub')
    .option('--offline', 'use only what is downloaded already')
    .option('-q, --quiet', 'no progress on standard error');
