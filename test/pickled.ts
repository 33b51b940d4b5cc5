/** Parts of pickles, by the names of their opcodes, to write ones that PyTorch would and ones that it never would. */

const bytes = (...parts: (number | Uint8Array | string)[]): Uint8Array =>
  Uint8Array.from(
    Buffer.concat(
      parts.map((part) =>
        typeof part === 'number' ? Uint8Array.of(part) : typeof part === 'string' ? Buffer.from(part) : part,
      ),
    ),
  );

const u32 = (value: number): Uint8Array => new Uint8Array(Uint32Array.of(value).buffer);

export const pickled = {
  bytes,
  proto: (version = 2) => bytes(0x80, version),
  stop: bytes('.'),
  mark: bytes('('),
  none: bytes('N'),
  yes: bytes(0x88),
  no: bytes(0x89),
  int: (value: number) => bytes('J', u32(value)),
  long: (length: number, ...digits: number[]) => bytes(0x8a, length, ...digits),
  float: (value: number) => {
    const view = new DataView(new ArrayBuffer(8));
    view.setFloat64(0, value);
    return bytes('G', new Uint8Array(view.buffer));
  },
  text: (value: string) => bytes('X', u32(Buffer.byteLength(value)), value),
  shortText: (value: string) => bytes(0x8c, Buffer.byteLength(value), value),
  global: (module: string, name: string) => bytes(`c${module}\n${name}\n`),
  stackGlobal: (module: string, name: string) => bytes(pickled.shortText(module), pickled.shortText(name), 0x93),
  emptyDict: bytes('}'),
  emptyList: bytes(']'),
  tuple: (...items: Uint8Array[]) => bytes('(', ...items, 't'),
  dict: (entries: Record<string, Uint8Array>) =>
    bytes('}(', ...Object.entries(entries).flatMap(([key, value]) => [pickled.text(key), value]), 'u'),
  list: (...items: Uint8Array[]) => bytes('](', ...items, 'e'),
  call: (callable: Uint8Array, ...args: Uint8Array[]) => bytes(callable, pickled.tuple(...args), 'R'),
  put: (key: number) => bytes('r', u32(key)),
  get: (key: number) => bytes('j', u32(key)),
  persistent: (id: Uint8Array) => bytes(id, 'Q'),
  orderedDict: () => pickled.call(pickled.global('collections', 'OrderedDict')),
  storage: (kind: Uint8Array, key: string, length: number) =>
    pickled.persistent(
      pickled.tuple(pickled.text('storage'), kind, pickled.text(key), pickled.text('cpu'), pickled.int(length)),
    ),
  /** `torch.Tensor` as `torch.save` writes it. */
  tensor: (storage: Uint8Array, offset: number, shape: number[], strides: number[]) =>
    pickled.call(
      pickled.global('torch._utils', '_rebuild_tensor_v2'),
      storage,
      pickled.int(offset),
      pickled.tuple(...shape.map(pickled.int)),
      pickled.tuple(...strides.map(pickled.int)),
      pickled.no,
      pickled.orderedDict(),
    ),
  file: (value: Uint8Array) => bytes(pickled.proto(), value, pickled.stop),
};
