import { basename } from 'node:path';
import { parse } from 'csv-parse/sync';
import { InputError } from '../core/errors.ts';
import { cut } from './cut-text.ts';
import { decoded, standardInput } from './data-source.ts';

export type DataFormat = 'text' | 'jsonl' | 'csv' | 'tsv';

const formats: Readonly<Record<string, DataFormat>> = {
  txt: 'text',
  text: 'text',
  md: 'text',
  jsonl: 'jsonl',
  ndjson: 'jsonl',
  csv: 'csv',
  tsv: 'tsv',
};

/** Ends of the names of data files. */
export const dataExtensions: readonly string[] = Object.keys(formats);

/** What a file's name says that it holds; nothing for other names. */
export const formatByName = (path: string): DataFormat | undefined =>
  formats[/\.([a-z]+)(\.gz)?$/i.exec(basename(path))?.[1]?.toLowerCase() ?? ''];

/** Fields that tell what kind of examples records are: pairs, choices, endings, answers in a context, answers to learn. */
const telling = ['sentence_good', 'choices', 'ending', 'answers', 'completion', 'messages', 'context'];
/** Those of them whose examples have no lists in them, so that tables can hold them. */
const flat = ['sentence_good', 'ending', 'completion'];

/** How data is laid out, and the names of its fields: none of plain text. */
export interface DataLayout {
  readonly format: DataFormat;
  readonly fields: readonly string[];
}

/** What the caller knows of the data. */
export interface LayoutOptions {
  /** Field of the texts. Default `text`. */
  readonly field?: string | undefined;
  /** Names of the columns of tables that have no header. */
  readonly columns?: readonly string[] | undefined;
}

/** The layout of a data file, by its name and its first record; of standard input by its first line. */
export async function layoutOf(file: string, options: LayoutOptions = {}): Promise<DataLayout> {
  if (file === '-') return lineLayout(await standardInput.firstLine(), options);
  const format = formatByName(file) ?? 'text';
  if (format === 'text') return { format, fields: [] };
  if (format !== 'jsonl' && options.columns) return { format, fields: options.columns };
  for await (const line of cut(decoded(file), '\n')) {
    if (line.trim() === '') continue;
    return { format, fields: (format === 'jsonl' ? objectFields(line) : headerFields(line, format)) ?? [] };
  }
  return { format, fields: [] };
}

/** JSONL whose first line has fields that are known, and tables whose header has; all else is text. */
function lineLayout(line: string, { field = 'text', columns }: LayoutOptions): DataLayout {
  const object = objectFields(line);
  if (object?.some((name) => name === field || telling.includes(name))) return { format: 'jsonl', fields: object };
  for (const format of ['tsv', 'csv'] as const) {
    const fields = columns ?? headerFields(line, format) ?? [];
    if (columns && format === 'tsv' && !line.includes('\t')) continue;
    const isTable = fields.length > 1 && fields.some((name) => name === field || flat.includes(name));
    if (!object && (columns || isTable)) return { format, fields };
  }
  return { format: 'text', fields: object ?? [] };
}

/** The layout of records for which the caller names a field, such as their labels: where nothing else is known, JSONL or a table. */
export async function recordFormatOf(file: string, options: LayoutOptions = {}): Promise<DataFormat> {
  const { format } = await layoutOf(file, options);
  if (file !== '-' || format !== 'text') return format;
  const line = await standardInput.firstLine();
  if (line.startsWith('{')) return 'jsonl';
  return line.includes('\t') ? 'tsv' : line.includes(',') ? 'csv' : 'jsonl';
}

function objectFields(line: string): string[] | undefined {
  try {
    const value: unknown = JSON.parse(line);
    return typeof value === 'object' && value !== null && !Array.isArray(value) ? Object.keys(value) : undefined;
  } catch {
    return undefined;
  }
}

/** How tables are parsed. */
export const tableOptions = (format: 'csv' | 'tsv') =>
  format === 'tsv' ? { delimiter: '\t', quote: null } : { delimiter: ',' };

function headerFields(line: string, format: 'csv' | 'tsv'): string[] | undefined {
  try {
    const [cells] = parse(line.replace(/\r$/, ''), { ...tableOptions(format), bom: true }) as string[][];
    return cells;
  } catch {
    return undefined;
  }
}

/**
 * InputError for a field that is named where all data is plain text, which has none, and for names of columns where none is a table. `hasRecords` tells that
 * standard input is not text.
 */
export async function refuseIdleLayout(
  files: readonly string[],
  { hasRecords, ...options }: LayoutOptions & { readonly hasRecords?: boolean } = {},
): Promise<void> {
  const { field, columns } = options;
  if (field === undefined && columns === undefined) return;
  const formats = await Promise.all(
    files.map(async (file) => {
      if (file !== '-') return formatByName(file) ?? 'text';
      return hasRecords ? await recordFormatOf(file, options) : (await layoutOf(file, options)).format;
    }),
  );
  if (field !== undefined && formats.every((format) => format === 'text'))
    throw new InputError('field is given, but the data is plain text, which has no fields: leave it out');
  if (columns !== undefined && !formats.some((format) => format === 'csv' || format === 'tsv'))
    throw new InputError('columns is given, but none of the data is CSV or TSV: leave it out');
}

const titles: Readonly<Record<DataFormat, string>> = { text: 'text', jsonl: 'JSONL', csv: 'CSV', tsv: 'TSV' };

/** Says how standard input is read, where it is among the files: it has no name that would. */
export async function standardInputNotice(
  files: readonly string[],
  { hasRecords, ...options }: LayoutOptions & { readonly hasRecords?: boolean } = {},
): Promise<string | undefined> {
  const times = files.filter((file) => file === '-').length;
  if (times === 0) return undefined;
  if (times > 1)
    throw new InputError(
      `standard input (-) is named ${times} times, but can be read once: name a file for the others`,
    );
  const { format: found, fields } = await layoutOf('-', options);
  const format = hasRecords ? await recordFormatOf('-', options) : found;
  if (format !== 'text')
    return `standard input is read as ${titles[format]}${fields.length > 0 ? ` with ${fields.join(', ')}` : ''}`;
  const strange =
    fields.length > 0 ? `, for its first line is an object without a known field (it has ${fields.join(', ')})` : '';
  return `standard input is read as text${strange}`;
}
