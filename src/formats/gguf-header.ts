import { InputError } from '../core/errors.ts';
import type { StoredType } from './checkpoint.ts';
import { alignUp, type GgufValueType, ggufMagic, ggufTensorTypes, ggufValueTypes } from './gguf-types.ts';

type IntegerType = 'u8' | 'i8' | 'u16' | 'i16' | 'u32' | 'i32' | 'u64' | 'i64';

type ScalarType = Exclude<GgufValueType, 'array'>;
type Scalar = number | bigint | boolean | string;

/** A metadata value with the type that it has in the file. */
export type GgufValue =
  | { readonly type: IntegerType; readonly value: number | bigint }
  | { readonly type: 'f32' | 'f64'; readonly value: number }
  | { readonly type: 'bool'; readonly value: boolean }
  | { readonly type: 'string'; readonly value: string }
  | { readonly type: 'array'; readonly of: IntegerType; readonly value: ArrayLike<number | bigint> }
  | { readonly type: 'array'; readonly of: 'f32' | 'f64'; readonly value: ArrayLike<number> }
  | { readonly type: 'array'; readonly of: 'bool'; readonly value: readonly boolean[] }
  | { readonly type: 'array'; readonly of: 'string'; readonly value: readonly string[] };

const tensorCodes = new Map([...ggufTensorTypes].map(([code, type]) => [type, code]));
const utf8 = new TextEncoder();

/** Writes the part of a GGUF file that comes before the tensors' data. */
export class GgufHeader {
  #bytes = new Uint8Array(4096);
  #view = new DataView(this.#bytes.buffer);
  #length = 0;

  constructor(tensors: number, entries: number) {
    this.#u32(ggufMagic);
    this.#u32(3);
    this.#u64(tensors);
    this.#u64(entries);
  }

  /** A metadata entry. Throws InputError for values that their type can't hold. */
  entry(key: string, value: GgufValue): void {
    this.#text(key);
    this.#u32(ggufValueTypes.indexOf(value.type));
    if (value.type === 'array') this.#array(key, value.of, value.value);
    else this.#value(key, value.type, value.value);
  }

  /** A tensor; `shape` is outermost axis first, `offset` from the start of the tensors' data. */
  tensor(name: string, type: StoredType, shape: readonly number[], offset: number): void {
    this.#text(name);
    this.#u32(shape.length);
    for (const dim of shape.toReversed()) this.#u64(dim);
    this.#u32(tensorCodes.get(type)!);
    this.#u64(offset);
  }

  /** The header, padded to where the data begin. */
  finish(alignment: number): Uint8Array {
    this.#grow(alignUp(this.#length, alignment) - this.#length);
    return this.#bytes.subarray(0, this.#length);
  }

  #array(key: string, of: ScalarType, values: ArrayLike<Scalar>): void {
    this.#u32(ggufValueTypes.indexOf(of));
    this.#u64(values.length);
    for (let i = 0; i < values.length; i++) this.#value(key, of, values[i]!);
  }

  #value(key: string, type: ScalarType, value: Scalar): void {
    if (type === 'string') this.#text(value as string);
    else if (type === 'bool') this.#put(1, (view, at) => view.setUint8(at, value ? 1 : 0));
    else if (type === 'f32') this.#put(4, (view, at) => view.setFloat32(at, value as number, true));
    else if (type === 'f64') this.#put(8, (view, at) => view.setFloat64(at, value as number, true));
    else this.#integer(key, type, value as number | bigint);
  }

  #integer(key: string, type: IntegerType, value: number | bigint): void {
    const bits = Number(type.slice(1));
    const wrap = type[0] === 'u' ? BigInt.asUintN : BigInt.asIntN;
    if (!(typeof value === 'bigint' || Number.isSafeInteger(value)) || wrap(bits, BigInt(value)) !== BigInt(value))
      throw new InputError(`metadata "${key}" is ${value}, which is no ${type}`);
    if (bits === 64) this.#put(8, (view, at) => view.setBigInt64(at, BigInt(value), true));
    else if (bits === 32) this.#put(4, (view, at) => view.setInt32(at, Number(value), true));
    else if (bits === 16) this.#put(2, (view, at) => view.setInt16(at, Number(value), true));
    else this.#put(1, (view, at) => view.setInt8(at, Number(value)));
  }

  #text(text: string): void {
    const bytes = utf8.encode(text);
    this.#u64(bytes.length);
    const at = this.#grow(bytes.length);
    this.#bytes.set(bytes, at);
  }

  #u32(value: number): void {
    this.#put(4, (view, at) => view.setUint32(at, value, true));
  }

  #u64(value: number): void {
    this.#put(8, (view, at) => view.setBigUint64(at, BigInt(value), true));
  }

  #put(count: number, write: (view: DataView, at: number) => void): void {
    const at = this.#grow(count);
    write(this.#view, at);
  }

  /** Makes room for `count` more bytes and returns where they begin. */
  #grow(count: number): number {
    const at = this.#length;
    this.#length += count;
    if (this.#length > this.#bytes.length) {
      const larger = new Uint8Array(2 * this.#length);
      larger.set(this.#bytes.subarray(0, at));
      this.#bytes = larger;
      this.#view = new DataView(larger.buffer);
    }
    return at;
  }
}
