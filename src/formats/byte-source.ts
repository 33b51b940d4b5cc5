import { FormatError } from '../core/errors.ts';

/** Bytes that can be read at any offset: a file, a buffer, a range-requested URL. Formats read through this only. */
export interface ByteSource {
  /** What to call it in messages: a path or URL. */
  readonly name: string;
  /** Length in bytes. */
  readonly size: number;
  /** Fills `into` with the bytes from `offset` on; rejects with FormatError if there are not that many. */
  read(offset: number, into: Uint8Array): Promise<void>;
  close(): Promise<void>;
}

/** Bytes in memory as a source. */
export function bytesSource(bytes: Uint8Array, name = 'bytes'): ByteSource {
  return {
    name,
    size: bytes.length,
    async read(offset, into) {
      if (offset + into.length > bytes.length) {
        throw new FormatError(`${name}: it ends at byte ${bytes.length}, before byte ${offset + into.length}`);
      }
      into.set(bytes.subarray(offset, offset + into.length));
    },
    async close() {},
  };
}
