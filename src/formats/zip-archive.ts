import { FormatError, UnsupportedError } from '../core/errors.ts';
import type { ByteSource } from './byte-source.ts';
import type { AllocationBudget } from './sequential-reader.ts';

/** A file in a zip archive, stored without compression. */
export interface ZipEntry {
  readonly name: string;
  /** Length in bytes. */
  readonly size: number;
  /** Where its local header begins; the data follow it. */
  readonly headerAt: number;
}

const endSignature = 0x06054b50;
const zip64EndSignature = 0x06064b50;
const zip64LocatorSignature = 0x07064b50;
const entrySignature = 0x02014b50;
const localSignature = 0x04034b50;
const longestComment = 0xffff;

interface Directory {
  readonly at: number;
  readonly size: number;
  readonly count: number;
}

/**
 * Lists a zip archive's files by name (PKWARE APPNOTE 6.3, with zip64). Only what PyTorch writes is read: throws
 * UnsupportedError for compressed or encrypted files, FormatError for an archive that is broken.
 */
export async function readZip(source: ByteSource, budget: AllocationBudget): Promise<Map<string, ZipEntry>> {
  const directory = await findDirectory(source, budget);
  budget.spend(directory.size);
  const bytes = await readBytes(source, directory.at, directory.size, 'the directory');
  const view = new DataView(bytes.buffer);
  const entries = new Map<string, ZipEntry>();
  for (let at = 0, i = 0; i < directory.count; i++) {
    budget.spend(192);
    if (at + 46 > bytes.length || view.getUint32(at, true) !== entrySignature)
      throw new FormatError(`${source.name}: entry ${i + 1} of the zip directory is broken`);
    const { entry, length } = readEntry(source.name, bytes, at);
    if (entry.headerAt + 30 + entry.size > directory.at)
      throw new FormatError(`${source.name}: "${entry.name}" reaches beyond the zip archive's data`);
    if (entries.has(entry.name)) throw new FormatError(`${source.name} has two files called "${entry.name}"`);
    entries.set(entry.name, entry);
    at += length;
  }
  return entries;
}

/** Where the data of an entry begin: after its local header, whose length only the header itself tells. */
export async function zipDataAt(source: ByteSource, entry: ZipEntry): Promise<number> {
  const bytes = await readBytes(source, entry.headerAt, 30, `the header of "${entry.name}"`);
  const view = new DataView(bytes.buffer);
  const at = entry.headerAt + 30 + view.getUint16(26, true) + view.getUint16(28, true);
  if (view.getUint32(0, true) !== localSignature || at + entry.size > source.size)
    throw new FormatError(`${source.name}: the zip header of "${entry.name}" is broken`);
  return at;
}

/** The bytes of a file in the archive. */
export async function readZipEntry(
  source: ByteSource,
  entry: ZipEntry,
  budget: AllocationBudget,
): Promise<Uint8Array<ArrayBuffer>> {
  budget.spend(entry.size);
  return readBytes(source, await zipDataAt(source, entry), entry.size, `"${entry.name}"`);
}

async function readBytes(
  source: ByteSource,
  at: number,
  length: number,
  what: string,
): Promise<Uint8Array<ArrayBuffer>> {
  if (at + length > source.size)
    throw new FormatError(`${source.name}: ${what} should end at byte ${at + length}, but the file has ${source.size}`);
  const bytes = new Uint8Array(length);
  await source.read(at, bytes);
  return bytes;
}

/** Finds the directory by the record at the archive's end, which only a comment may follow. */
async function findDirectory(source: ByteSource, budget: AllocationBudget): Promise<Directory> {
  const length = Math.min(source.size, 22 + longestComment);
  budget.spend(length);
  const tailAt = source.size - length;
  const tail = new DataView((await readBytes(source, tailAt, length, 'the end')).buffer);
  let at = length - 22;
  while (at >= 0 && !(tail.getUint32(at, true) === endSignature && at + 22 + tail.getUint16(at + 20, true) === length))
    at--;
  if (at < 0) throw new FormatError(`${source.name} has no zip directory at its end; it is truncated or corrupt`);
  const short: Directory = {
    count: tail.getUint16(at + 10, true),
    size: tail.getUint32(at + 12, true),
    at: tail.getUint32(at + 16, true),
  };
  const directory = (await zip64Directory(source, tailAt + at - 20)) ?? short;
  if (directory.at + directory.size > tailAt + at)
    throw new FormatError(`${source.name}: its zip directory reaches beyond its end; it is truncated or corrupt`);
  return directory;
}

/** The directory of an archive with more or larger files than zip's first form can count. */
async function zip64Directory(source: ByteSource, locatorAt: number): Promise<Directory | undefined> {
  if (locatorAt < 0) return undefined;
  const locator = new DataView((await readBytes(source, locatorAt, 20, 'the zip64 locator')).buffer);
  if (locator.getUint32(0, true) !== zip64LocatorSignature) return undefined;
  const at = count64(locator, 8);
  const end = new DataView((await readBytes(source, at, 56, 'the zip64 record')).buffer);
  if (end.getUint32(0, true) !== zip64EndSignature) throw new FormatError(`${source.name}: its zip64 record is broken`);
  return { count: count64(end, 32), size: count64(end, 40), at: count64(end, 48) };
}

function readEntry(file: string, bytes: Uint8Array<ArrayBuffer>, at: number): { entry: ZipEntry; length: number } {
  const view = new DataView(bytes.buffer, at);
  const nameLength = view.getUint16(28, true);
  const extraLength = view.getUint16(30, true);
  const length = 46 + nameLength + extraLength + view.getUint16(32, true);
  if (length > view.byteLength) throw new FormatError(`${file}: its zip directory is cut off`);
  const name = new TextDecoder().decode(bytes.subarray(at + 46, at + 46 + nameLength));
  if (view.getUint16(8, true) & 1) throw new UnsupportedError(`${file}: "${name}" is encrypted`);
  const method = view.getUint16(10, true);
  if (method !== 0)
    throw new UnsupportedError(
      `${file}: "${name}" is compressed (zip method ${method}), which torch.save never does; save the model anew with it`,
    );
  const wide = [view.getUint32(24, true), view.getUint32(20, true), view.getUint32(42, true)] as const;
  const [size, stored, headerAt] = widen(file, name, wide, view, 46 + nameLength, extraLength);
  if (size !== stored) throw new FormatError(`${file}: "${name}" has two lengths, ${size} and ${stored}`);
  return { entry: { name, size: size!, headerAt: headerAt! }, length };
}

/** Sizes and offset that are all ones in 32 bits stand, in this order, in the zip64 extra field. */
function widen(
  file: string,
  name: string,
  short: readonly number[],
  view: DataView,
  extraAt: number,
  extraLength: number,
): number[] {
  if (!short.includes(0xffffffff)) return [...short];
  const end = extraAt + extraLength;
  for (let at = extraAt; at + 4 <= end; at += 4 + view.getUint16(at + 2, true)) {
    if (view.getUint16(at, true) !== 1) continue;
    const fields = short.filter((value) => value === 0xffffffff).length;
    if (view.getUint16(at + 2, true) < fields * 8 || at + 4 + fields * 8 > end) break;
    let next = at + 4;
    return short.map((value) => (value === 0xffffffff ? count64(view, (next += 8) - 8) : value));
  }
  throw new FormatError(`${file}: "${name}" lacks its 64-bit size in the zip directory`);
}

const count64 = (view: DataView, at: number): number =>
  view.getUint32(at, true) + view.getUint32(at + 4, true) * 2 ** 32;
