import { createReadStream, existsSync, readdirSync, statSync } from 'node:fs';
import { basename, join } from 'node:path';
import { createGunzip } from 'node:zlib';
import { parse } from 'csv-parse/sync';
import { InputError } from '../core/errors.ts';

/** What stands between two texts of one file. */
export const SEPARATOR = '<|endoftext|>';

/** A longer line is no record of a data set. */
const LONGEST_LINE = 1 << 26;

/** One example of a data set, and where it was found, for messages. */
export interface DataRecord {
  readonly fields: Readonly<Record<string, unknown>>;
  readonly where: string;
}

const kinds: Readonly<Record<string, 'text' | 'jsonl' | 'csv' | 'tsv'>> = {
  txt: 'text',
  text: 'text',
  md: 'text',
  jsonl: 'jsonl',
  ndjson: 'jsonl',
  csv: 'csv',
  tsv: 'tsv',
};

const kindOf = (path: string): 'text' | 'jsonl' | 'csv' | 'tsv' | undefined =>
  path === '-' ? 'text' : kinds[/\.([a-z]+)(\.gz)?$/i.exec(basename(path))?.[1]?.toLowerCase() ?? ''];

/** The data files that paths name: themselves, or those in folders and below, in the order of their names. `-` is standard input. */
export function dataFiles(paths: readonly string[]): string[] {
  if (paths.length === 0) throw new InputError('no data is named');
  return paths.flatMap((path) => {
    if (path === '-') return [path];
    if (!existsSync(path)) throw new InputError(`${path}: there is no such file or folder`);
    if (!statSync(path).isDirectory()) return [path];
    const found = readdirSync(path, { recursive: true })
      .map((name) => join(path, String(name)))
      .filter((name) => kindOf(name) && statSync(name).isFile())
      .sort();
    if (found.length === 0)
      throw new InputError(`${path} has no data files (${Object.keys(kinds).join(', ')}, or these with .gz)`);
    return found;
  });
}

/**
 * The texts of data files: plain text, cut at `<|endoftext|>`; the field `field` of every line of JSONL, and of every row of CSV
 * and TSV, whose first row names the columns. Gzipped where the name ends in .gz. Empty texts are left out.
 */
export async function* readTexts(files: readonly string[], field = 'text'): AsyncGenerator<string> {
  for (const file of files) {
    if ((kindOf(file) ?? 'text') === 'text') {
      yield* cut(decoded(file), SEPARATOR);
      continue;
    }
    for await (const { fields, where } of readRecords([file])) {
      const text = fields[field];
      if (typeof text !== 'string')
        throw new InputError(
          `${where} has no text "${field}" (it has ${Object.keys(fields).join(', ')}): name the field`,
        );
      if (text !== '') yield text;
    }
  }
}

/** The examples of JSONL, CSV and TSV files. A TSV or CSV file without a header gets columns named 0, 1, …: see `columns`. */
export async function* readRecords(files: readonly string[], columns?: readonly string[]): AsyncGenerator<DataRecord> {
  for (const file of files) {
    const kind = file === '-' ? 'jsonl' : kindOf(file);
    if (kind === 'jsonl') yield* jsonLines(file);
    else if (kind === 'csv' || kind === 'tsv') yield* table(file, kind, columns);
    else throw new InputError(`${file}: examples are read from JSONL, CSV or TSV files`);
  }
}

/** The fields of the first example of data that begins with a JSONL file; of other data none are told. */
export async function firstFields(paths: readonly string[]): Promise<DataRecord['fields']> {
  const [file] = dataFiles(paths);
  if (!/\.(jsonl|ndjson)(\.gz)?$/.test(file!)) return {};
  for await (const { fields } of readRecords([file!])) return fields;
  return {};
}

async function* jsonLines(file: string): AsyncGenerator<DataRecord> {
  let number = 0;
  for await (const line of cut(decoded(file), '\n', { longest: LONGEST_LINE, file })) {
    number++;
    if (line.trim() === '') continue;
    const where = `${file}: line ${number}`;
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

async function* table(file: string, kind: 'csv' | 'tsv', columns?: readonly string[]): AsyncGenerator<DataRecord> {
  let text = '';
  for await (const chunk of decoded(file)) text += chunk;
  const options = kind === 'tsv' ? { delimiter: '\t', quote: null } : { delimiter: ',' };
  let rows: Record<string, string>[];
  try {
    rows = parse(text, { ...options, columns: columns ? [...columns] : true, bom: true, skip_empty_lines: true });
  } catch (cause) {
    throw new InputError(`${file} is not valid ${kind.toUpperCase()}: ${(cause as Error).message}`, { cause });
  }
  for (const [i, fields] of rows.entries()) {
    const where = `${file}: row ${i + 1}`;
    if (Object.values(fields).some((field) => field.length > LONGEST_LINE))
      throw new InputError(`${where} has a field of more than ${LONGEST_LINE} characters: it is no example`);
    yield { fields, where };
  }
}

/** A file's text. InputError for what is not UTF-8, or holds NUL. */
async function* decoded(file: string): AsyncGenerator<string> {
  const raw = file === '-' ? process.stdin : createReadStream(file, { highWaterMark: 1 << 20 });
  const stream = file.endsWith('.gz') ? raw.pipe(createGunzip()) : raw;
  const decoder = new TextDecoder('utf-8', { fatal: true });
  const name = file === '-' ? 'standard input' : file;
  let bytes = 0;
  try {
    for await (const chunk of stream as AsyncIterable<Buffer>) {
      const text = decoder.decode(chunk, { stream: true });
      if (text.includes('\0')) throw new InputError(`${name} holds a NUL byte (after byte ${bytes}): it is not text`);
      bytes += chunk.length;
      yield text;
    }
    decoder.decode();
  } catch (cause) {
    if (cause instanceof InputError) throw cause;
    if (cause instanceof TypeError) throw new InputError(`${name} is not UTF-8 text (near byte ${bytes})`, { cause });
    const { code, message } = cause as NodeJS.ErrnoException;
    throw new InputError(`${name}: ${code?.startsWith('Z') ? `damaged gzip data (${message})` : message}`, { cause });
  }
  if (bytes === 0) throw new InputError(`${name} is empty`);
}

/** What stands between separators, without empty pieces. */
async function* cut(
  chunks: AsyncIterable<string>,
  separator: string,
  { longest, file }: { readonly longest: number; readonly file: string } = { longest: Infinity, file: '' },
): AsyncGenerator<string> {
  let held: string[] = [];
  let length = 0;
  let tail = '';
  let number = 1;
  for await (const chunk of chunks) {
    const pieces = (tail + chunk).split(separator);
    // The end may be the beginning of a separator that goes on in the next chunk.
    const last = pieces.pop()!;
    number += pieces.length;
    for (const piece of pieces) {
      const whole = held.join('') + piece;
      held = [];
      length = 0;
      if (whole !== '') yield whole;
    }
    const keep = Math.min(separator.length - 1, last.length);
    held.push(last.slice(0, last.length - keep));
    length += last.length - keep;
    tail = last.slice(last.length - keep);
    if (length > longest)
      throw new InputError(`${file}: line ${number} is longer than ${longest} characters: it is no example`);
  }
  const whole = held.join('') + tail;
  if (whole !== '') yield whole;
}
