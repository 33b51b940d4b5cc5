import type { StoredRows } from '../core/backend.ts';
import type { ByteSource } from './byte-source.ts';

/** How the numbers of a stored tensor are encoded. Names with an underscore are GGUF's block formats. */
export type StoredType =
  | 'f64'
  | 'f32'
  | 'f16'
  | 'bf16'
  | 'i64'
  | 'i32'
  | 'i16'
  | 'i8'
  | 'u8'
  | 'bool'
  | 'q4_0'
  | 'q4_1'
  | 'q5_0'
  | 'q5_1'
  | 'q8_0'
  | 'iq4_nl'
  | 'q2_k'
  | 'q3_k'
  | 'q4_k'
  | 'q5_k'
  | 'q6_k'
  | 'iq4_xs';

/** One tensor of a checkpoint. `shape` is outermost axis first, whatever the file's own order. */
export interface StoredTensor {
  readonly name: string;
  readonly type: StoredType;
  readonly shape: readonly number[];
  /** Length of the encoded data in bytes. */
  readonly byteLength: number;
}

/** A matrix whose integers lie in one place and whose scales in another. */
export interface SplitBlocks {
  /** Reads `count` numbers, whole rows, from number `start` on into a room that has place for them in blocks. */
  read(start: number, count: number, room: Uint8Array): Promise<StoredRows>;
}

/** Named tensors in one file or several, with whatever text the format carries beside them. */
export interface Checkpoint {
  /** What to call it in messages: a path or URL. */
  readonly name: string;
  readonly format: 'safetensors' | 'gguf' | 'pth' | 'rwkv.cpp';
  readonly tensors: ReadonlyMap<string, StoredTensor>;
  /** Free-form metadata: safetensors' `__metadata__`, GGUF's key-value pairs. */
  readonly metadata: Readonly<Record<string, unknown>>;
  /**
   * Reads the encoded bytes of tensor `name` from its byte `offset` on into `into`, straight from the file, so that a
   * tensor can be decoded piece by piece without a second copy of it.
   */
  read(name: string, into: Uint8Array, offset?: number): Promise<void>;
  /** Of tensors that appear in blocks though their integers and scales lie apart: a way to read them as they lie. */
  readonly splitBlocks?: ReadonlyMap<string, SplitBlocks> | undefined;
  close(): Promise<void>;
}

/** Opens a checkpoint of one format; FormatError when the bytes are of another. */
export type CheckpointOpener = (source: ByteSource) => Promise<Checkpoint>;
