import { existsSync, readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { pipeline, Readable } from 'node:stream';
import { parse } from 'csv-parse';
import { InputError } from '../core/errors.ts';
import { Pace } from '../runtime/pause.ts';
import type { TextPiece } from '../tokenizers/encode-stream.ts';
import { cut, textPieces } from './cut-text.ts';
import {
  dataExtensions,
  formatByName,
  type LayoutOptions,
  layoutOf,
  recordFormatOf,
  tableOptions,
} from './data-format.ts';
import { decoded, LONGEST_LINE, nameOf } from './data-source.ts';
import { explain } from './node-file.ts';
import { textField } from './record-fields.ts';

/** Characters within which a table's first line ends, if it is one. */
const LONGEST_HEADER = 1 << 16;

/** What stands between two texts of one file. */
export const SEPARATOR = '<|endoftext|>';

/** Longer texts come in pieces: far below what a string can hold. */
const LONGEST_PIECE = 1 << 22;

/** A NUL as JSON writes it: its backslash is not one that another escapes. */
const NUL_ESCAPE = /(?<!\\)(?:\\\\)*\\u0000/;

/** One example of a data set, and where it was found, for messages. */
export interface DataRecord {
  readonly fields: Readonly<Record<string, unknown>>;
  readonly where: string;
}

export interface ReadDataOptions extends LayoutOptions {
  readonly signal?: AbortSignal | undefined;
  /** Characters after which a text is cut into pieces. */
  readonly longest?: number | undefined;
}

/** The data files that paths name: themselves, or those in folders and below, in the order of their names. `-` is standard input. */
export function dataFiles(paths: readonly string[]): string[] {
  if (paths.length === 0) throw new InputError('no data is named');
  return paths.flatMap((path) => {
    if (path === '-') return [path];
    if (!existsSync(path)) throw new InputError(`${path}: there is no such file or folder`);
    if (!inWords(path, () => statSync(path).isDirectory())) return [path];
    const found = inWords(path, () => readdirSync(path, { recursive: true }))
      .map((name) => join(path, String(name)))
      .filter((name) => formatByName(name) && isFile(name))
      .sort();
    if (found.length === 0)
      throw new InputError(`${path} has no data files (${dataExtensions.join(', ')}, or these with .gz)`);
    return found;
  });
}

function isFile(path: string): boolean {
  if (!existsSync(path)) throw new InputError(`${path} is a link that leads nowhere: mend it, or remove it`);
  return inWords(path, () => statSync(path).isFile());
}

function inWords<T>(path: string, look: () => T): T {
  try {
    return look();
  } catch (cause) {
    throw new InputError(explain(cause as NodeJS.ErrnoException, path), { cause });
  }
}

/**
 * The texts of data files: plain text, cut at `<|endoftext|>`; the field `field` of every line of JSONL, and of every row of CSV
 * and TSV, whose first row names the columns unless `columns` does. Gzipped where the name ends in .gz. Empty texts are left out, and long ones come in pieces.
 */
export async function* readTexts(
  files: readonly string[],
  { field = 'text', columns, signal, longest = LONGEST_PIECE }: ReadDataOptions = {},
): AsyncGenerator<TextPiece> {
  const pace = new Pace();
  for (const file of files) {
    if ((await layoutOf(file, { field, columns })).format === 'text') {
      for await (const piece of textPieces(decoded(file, signal), SEPARATOR, longest)) {
        signal?.throwIfAborted();
        yield piece;
        await pace.breathe();
      }
      continue;
    }
    for await (const { fields, where } of readRecords([file], { field, columns, signal })) {
      if (fields[field] === undefined)
        throw new InputError(
          `${where} has no text "${field}" (it has ${Object.keys(fields).join(', ')}): name the field`,
        );
      if (fields[field] !== '') yield { text: textField({ fields, where }, field), continues: false };
    }
  }
}

/** The examples of JSONL, CSV and TSV files. A TSV or CSV file without a header gets columns named 0, 1, …: see `columns`. */
export async function* readRecords(
  files: readonly string[],
  { field, columns, signal }: ReadDataOptions = {},
): AsyncGenerator<DataRecord> {
  const pace = new Pace();
  for (const file of files) {
    const format = await recordFormatOf(file, { field, columns });
    if (format === 'text') throw new InputError(`${file}: examples are read from JSONL, CSV or TSV files`);
    for await (const record of format === 'jsonl' ? jsonLines(file, signal) : table(file, format, columns, signal)) {
      signal?.throwIfAborted();
      yield record;
      // Between the lines of a file that is in memory nothing else has its turn.
      await pace.breathe();
    }
  }
}

/** The names of the fields of the first file's examples; none of text. */
export async function fieldsOf(paths: readonly string[], options?: LayoutOptions): Promise<readonly string[]> {
  const { format, fields } = await layoutOf(dataFiles(paths)[0]!, options);
  return format === 'text' ? [] : fields;
}

async function* jsonLines(file: string, signal?: AbortSignal): AsyncGenerator<DataRecord> {
  const name = nameOf(file);
  let number = 0;
  for await (const line of cut(decoded(file, signal), '\n', { longest: LONGEST_LINE, file: name })) {
    number++;
    if (line.trim() === '') continue;
    const where = `${name}: line ${number}`;
    if (NUL_ESCAPE.test(line)) throw new InputError(`${where} holds a NUL character (\\u0000): it is not text`);
    let fields: unknown;
    try {
      fields = JSON.parse(line);
    } catch (cause) {
      throw new InputError(`${where} is not valid JSON: ${(cause as Error).message}`, { cause });
    }
    if (typeof fields !== 'object' || fields === null || Array.isArray(fields))
      throw new InputError(`${where} is no JSON object`);
    yield { fields: fields as DataRecord['fields'], where };
  }
}

/**
 * A table's text, and the ends that its lines may have: one file has both \n and \r\n where programs of several systems wrote it. The parser alone takes all
 * to be as the first one; that is left to it where the first is \r, as old systems had it.
 */
async function lineEndsOf(
  chunks: AsyncGenerator<string>,
): Promise<[text: AsyncGenerator<string>, ends: string[] | undefined]> {
  let head = '';
  let ended = false;
  // The \n after a \r may be in the next chunk.
  while (!ended && head.length < LONGEST_HEADER && !/\n|\r./.test(head)) {
    const next = await chunks.next();
    ended = next.done === true;
    if (!next.done) head += next.value;
  }
  async function* text(): AsyncGenerator<string> {
    try {
      yield head;
      yield* chunks;
    } finally {
      await chunks.return(undefined);
    }
  }
  const isOld = /^[^\r\n]*\r(?!\n)/.test(head);
  return [text(), isOld ? undefined : ['\r\n', '\n']];
}

async function* table(
  file: string,
  format: 'csv' | 'tsv',
  columns: readonly string[] | undefined,
  signal: AbortSignal | undefined,
): AsyncGenerator<DataRecord> {
  const name = nameOf(file);
  const distinct = (names: readonly string[]): string[] => {
    const twice = names.find((one, i) => one !== '' && names.indexOf(one) < i);
    if (twice !== undefined)
      throw new InputError(`${name} has two columns that are named ${JSON.stringify(twice)}: rename one of them`);
    return [...names];
  };
  const [begun, lineEnds] = await lineEndsOf(decoded(file, signal));
  const parser = parse({
    ...tableOptions(format),
    columns: columns ? distinct(columns) : distinct,
    bom: true,
    skip_empty_lines: true,
    ...(lineEnds && { record_delimiter: lineEnds }),
  });
  pipeline(Readable.from(begun), parser, () => {});
  let number = 0;
  try {
    for await (const fields of parser as AsyncIterable<Record<string, string>>) {
      const where = `${name}: row ${++number}`;
      if (Object.values(fields).some((field) => field.length > LONGEST_LINE))
        throw new InputError(`${where} has a field of more than ${LONGEST_LINE} characters: it is no example`);
      yield { fields, where };
    }
  } catch (cause) {
    if ((cause as { code?: unknown }).code?.toString().startsWith('CSV_'))
      throw new InputError(`${name} is not valid ${format.toUpperCase()}: ${(cause as Error).message}`, { cause });
    throw cause;
  }
}
