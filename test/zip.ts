/** How a zip archive is to be unusual. */
export interface ZipOptions {
  /** Compression method to be claimed; 0, as PyTorch has it, unless given. */
  readonly method?: number;
  /** Write sizes and offsets in 64-bit fields only. */
  readonly zip64?: boolean;
}

const u16 = (value: number): Uint8Array => new Uint8Array(Uint16Array.of(value).buffer);
const u32 = (value: number): Uint8Array => new Uint8Array(Uint32Array.of(value).buffer);
const u64 = (value: number): Uint8Array => new Uint8Array(BigUint64Array.of(BigInt(value)).buffer);
const concat = (...parts: Uint8Array[]): Uint8Array => Uint8Array.from(Buffer.concat(parts));

/** A zip archive of files that are stored, not compressed. */
export function zip(files: Record<string, Uint8Array>, { method = 0, zip64 = false }: ZipOptions = {}): Uint8Array {
  const parts: Uint8Array[] = [];
  const directory: Uint8Array[] = [];
  let at = 0;
  for (const [path, data] of Object.entries(files)) {
    const name = Buffer.from(path);
    // Padding, as PyTorch puts it before data to align them.
    const padding = concat(u16(0x4246), u16(5), new Uint8Array(5));
    const common = concat(u16(20), u16(0x800), u16(method), u16(0), u16(0), u32(0));
    const local = concat(u32(0x04034b50), common, u32(0), u32(0), u16(name.length), u16(padding.length), name, padding);
    const size = zip64 ? 0xffffffff : data.length;
    const extra = zip64 ? concat(u16(1), u16(24), u64(data.length), u64(data.length), u64(at)) : new Uint8Array();
    const rest = concat(u32(size), u32(size), u16(name.length), u16(extra.length), u16(0), u16(0), u16(0), u32(0));
    directory.push(concat(u32(0x02014b50), u16(20), common, rest, u32(zip64 ? 0xffffffff : at), name, extra));
    parts.push(local, data);
    at += local.length + data.length;
  }
  const entries = concat(...directory);
  const count = directory.length;
  const large = zip64
    ? concat(
        concat(u32(0x06064b50), u64(44), u16(45), u16(45), u32(0), u32(0), u64(count), u64(count)),
        concat(u64(entries.length), u64(at), u32(0x07064b50), u32(0), u64(at + entries.length), u32(1)),
      )
    : new Uint8Array();
  const short = zip64 ? [0xffff, 0xffffffff, 0xffffffff] : [count, entries.length, at];
  const end = concat(
    u32(0x06054b50),
    u16(0),
    u16(0),
    u16(short[0]!),
    u16(short[0]!),
    u32(short[1]!),
    u32(short[2]!),
    u16(0),
  );
  return concat(...parts, entries, large, end);
}
