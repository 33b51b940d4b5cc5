import { FormatError } from '../core/errors.ts';
import { type GgufValueType, ggufValueTypes } from './gguf-types.ts';
import type { AllocationBudget, SequentialReader } from './sequential-reader.ts';

type ScalarType = Exclude<GgufValueType, 'string' | 'array'>;

const scalarBytes: Readonly<Record<ScalarType, number>> = {
  u8: 1,
  i8: 1,
  u16: 2,
  i16: 2,
  u32: 4,
  i32: 4,
  f32: 4,
  bool: 1,
  u64: 8,
  i64: 8,
  f64: 8,
};

const typedArrays = {
  u8: Uint8Array,
  i8: Int8Array,
  u16: Uint16Array,
  i16: Int16Array,
  u32: Uint32Array,
  i32: Int32Array,
  f32: Float32Array,
  u64: BigUint64Array,
  i64: BigInt64Array,
  f64: Float64Array,
};

/** The least that an entry takes: the length of its key, a type, one byte. */
const leastEntry = 8 + 4 + 1;
const longestKey = 65535;
const deepestArray = 4;
const utf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

/** Where a value is read from, and what to call it in messages. */
interface Place {
  readonly reader: SequentialReader;
  readonly budget: AllocationBudget;
  readonly file: string;
  readonly key: string;
}

/** Reads `count` entries of metadata. */
export async function readGgufMetadata(
  reader: SequentialReader,
  budget: AllocationBudget,
  file: string,
  count: number,
): Promise<Record<string, unknown>> {
  reader.check(count * leastEntry, `a list of ${count} metadata entries`);
  const entries = new Map<string, unknown>();
  for (let i = 0; i < count; i++) {
    budget.spend(128);
    const key = await readText(reader, budget, 'a metadata key');
    if (typeof key !== 'string' || key.length > longestKey)
      throw new FormatError(`${file}: metadata key ${i + 1} is not text of at most ${longestKey} bytes`);
    if (entries.has(key)) throw new FormatError(`${file} has two metadata entries called "${key}"`);
    const place = { reader, budget, file, key };
    entries.set(key, await readValue(place, await readType(place), 0));
  }
  return Object.fromEntries(entries);
}

/** Reads a length and as many bytes of UTF-8; other bytes come as they are. */
export async function readText(
  reader: SequentialReader,
  budget: AllocationBudget,
  what: string,
): Promise<string | Uint8Array> {
  if (!reader.holds(8)) await reader.need(8, what);
  const length = reader.count();
  // Asking first keeps the lists of a vocabulary's many tokens free of as many promises.
  if (!reader.holds(length)) await reader.need(length, what);
  budget.spend(2 * length + 48);
  const bytes = reader.take(length);
  try {
    return utf8.decode(bytes);
  } catch {
    budget.spend(192);
    return bytes.slice();
  }
}

async function readType({ reader, file, key }: Place): Promise<GgufValueType> {
  await reader.need(4, `metadata "${key}"`);
  const code = reader.u32();
  const type = ggufValueTypes[code];
  if (!type) throw new FormatError(`${file}: metadata "${key}" is of type ${code}, which is not defined`);
  return type;
}

async function readValue(place: Place, type: GgufValueType, depth: number): Promise<unknown> {
  const { reader, budget, key } = place;
  if (type === 'array') return readArray(place, depth + 1);
  if (type === 'string') return readText(reader, budget, `metadata "${key}"`);
  await reader.need(scalarBytes[type], `metadata "${key}"`);
  return readScalar(place, type);
}

function readScalar(place: Place, type: ScalarType): number | bigint | boolean {
  const { reader } = place;
  if (type === 'bool') return toBoolean(place, reader.u8());
  const value = reader[type]();
  return typeof value === 'bigint' && Number.isSafeInteger(Number(value)) ? Number(value) : value;
}

function toBoolean({ file, key }: Place, byte: number): boolean {
  if (byte > 1) throw new FormatError(`${file}: metadata "${key}" is ${byte}, expected 0 or 1`);
  return byte === 1;
}

async function readArray(place: Place, depth: number): Promise<unknown> {
  const { reader, budget, file, key } = place;
  if (depth > deepestArray)
    throw new FormatError(`${file}: metadata "${key}" nests arrays more than ${deepestArray} deep`);
  const type = await readType(place);
  await reader.need(8, `metadata "${key}"`);
  const count = reader.count();
  if (type === 'string' || type === 'array') return readList(place, type, count, depth);
  reader.check(count * scalarBytes[type], `metadata "${key}"`);
  budget.spend(count * scalarBytes[type] + 256);
  const values = new (type === 'bool' ? Uint8Array : typedArrays[type])(count);
  await reader.fill(new Uint8Array(values.buffer), `metadata "${key}"`);
  if (type !== 'bool') return values;
  budget.spend(count * 8);
  return Array.from(values as Uint8Array, (byte) => toBoolean(place, byte));
}

async function readList(place: Place, type: 'string' | 'array', count: number, depth: number): Promise<unknown[]> {
  const { reader, budget, key } = place;
  reader.check(count * (type === 'string' ? 8 : 12), `metadata "${key}"`);
  budget.spend(count * 8 + 64);
  const values: unknown[] = [];
  for (let i = 0; i < count; i++) values.push(await readValue(place, type, depth));
  return values;
}
