import { InputError } from '../core/errors.ts';
import { explain } from '../platform/node-file.ts';
import { load } from '../platform/node-load.ts';
import type { Model } from '../runtime/model.ts';
import { textOf } from '../runtime/text-chunks.ts';
import type { ModelFlags } from './options.ts';

/** Writes to standard output; resolves when the reader has taken it, so that endless output needs no endless memory. InputError where it can't be written. */
export function print(text: string): Promise<void> {
  return new Promise((resolve, reject) => {
    process.stdout.write(text, (error) => {
      // A closed pipe (`| head`) is an end, not a failure.
      if (error && (error as NodeJS.ErrnoException).code === 'EPIPE') process.exit(0);
      if (error) reject(new InputError(explain(error, 'standard output'), { cause: error }));
      else resolve();
    });
  });
}

/** A number of threads in words. */
export const threadsInWords = (count: number): string => `${count} ${count === 1 ? 'thread' : 'threads'}`;

/** An abort signal that Ctrl-C raises. A second Ctrl-C ends the process at once. */
export function interruptSignal(): AbortSignal {
  const controller = new AbortController();
  process.once('SIGINT', () => controller.abort());
  return controller.signal;
}

/** Standard input as text, in pieces as they come. Invalid UTF-8 is an error that says where. The signal ends the waiting for more. */
export async function* standardInput(signal: AbortSignal): AsyncGenerator<string> {
  signal.throwIfAborted();
  const stop = () => void process.stdin.destroy(signal.reason as Error);
  signal.addEventListener('abort', stop, { once: true });
  try {
    yield* textOf(process.stdin as AsyncIterable<Buffer>, { name: 'standard input' });
  } finally {
    signal.removeEventListener('abort', stop);
  }
}

/** Its lines that are not empty. */
export async function* standardInputLines(signal: AbortSignal): AsyncGenerator<string> {
  let held: string[] = [];
  for await (const piece of standardInput(signal)) {
    const lines = piece.split('\n');
    held.push(lines.shift()!);
    if (lines.length === 0) continue;
    const complete = [held.join(''), ...lines.slice(0, -1)];
    held = [lines.at(-1)!];
    for (const line of complete) if (line.trim() !== '') yield line.trimEnd();
  }
  const last = held.join('');
  if (last.trim() !== '') yield last.trimEnd();
}

/** Columns of the terminal that standard error is; none where it is no terminal. */
export const terminalWidth = (): number | undefined =>
  process.stderr.isTTY === true ? process.stderr.columns || 80 : undefined;

/** A line on standard error that replaces itself, shown only on a terminal. */
export class ProgressLine {
  readonly #shown: boolean;
  #last = 0;

  constructor(quiet: boolean | undefined) {
    this.#shown = !quiet && process.stderr.isTTY === true;
  }

  /** Shows `text`, at most ten times a second; with a bar where it is known how much of how much is done. */
  show(text: string, done?: number, total?: number): void {
    const now = performance.now();
    if (!this.#shown || now - this.#last < 100) return;
    this.#last = now;
    const isKnown = done !== undefined && total !== undefined && total > 0;
    process.stderr.write(`\r\x1b[K${isKnown ? `${bar(done / total)} ` : ''}${text}`);
  }

  clear(): void {
    if (this.#shown && this.#last > 0) process.stderr.write('\r\x1b[K');
  }
}

const BAR = 20;

/** A fraction as a bar, with percent. */
function bar(fraction: number): string {
  const part = Math.min(1, Math.max(0, fraction));
  const filled = Math.round(BAR * part);
  return `[${'█'.repeat(filled)}${'·'.repeat(BAR - filled)}] ${String(Math.floor(100 * part)).padStart(3)} %`;
}

const megabytes = (bytes: number): string => `${(bytes / 1e6).toFixed(0)} MB`;

/** Loads the model that the options name, with progress on standard error. */
export async function loadModel(flags: ModelFlags, signal: AbortSignal): Promise<Model> {
  const {
    model,
    weights,
    kvCache,
    threads,
    backend,
    revectorize,
    tokenizer,
    adapter,
    load: state,
    revision,
    offline,
    quiet,
  } = flags;
  const line = new ProgressLine(quiet);
  try {
    const loaded = await load(model, {
      weights,
      backend,
      signal,
      ...(!revectorize && { revectorize }),
      ...(kvCache !== undefined && { kvCache }),
      ...(threads !== undefined && { threads }),
      ...(tokenizer !== undefined && { tokenizer }),
      ...(adapter !== undefined && { adapter }),
      ...(state !== undefined && { state }),
      ...(revision !== undefined && { revision }),
      ...(offline !== undefined && { offline }),
      onProgress: ({ loaded, total }) =>
        line.show(`loading ${model}: ${megabytes(loaded)} of ${megabytes(total)}`, loaded, total),
      onDownload: ({ file, loaded, total }) =>
        line.show(`downloading ${file}: ${megabytes(loaded)} of ${megabytes(total)}`, loaded, total),
    });
    line.clear();
    if (loaded.initialState && state === undefined && !quiet)
      process.stderr.write(
        `riverrun: texts begin with ${model}/initial.state, the state that this model was tuned to\n`,
      );
    return loaded;
  } finally {
    line.clear();
  }
}
