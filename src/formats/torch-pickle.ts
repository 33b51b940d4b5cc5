import { FormatError } from '../core/errors.ts';
import { formatShape } from '../core/shape.ts';
import type { StoredTensor } from './checkpoint.ts';
import { type PickleFunction, PickleTuple, type PickleWorld } from './pickle.ts';
import { elementBytes, tensorBytes } from './tensor-bytes.ts';
import type { ZipEntry } from './zip-archive.ts';

type PlainType = keyof typeof elementBytes;

/** A kind of storage or an element type; `undefined` for UntypedStorage, which is bytes. */
class TorchType {
  readonly type: PlainType | undefined;

  constructor(type: PlainType | undefined) {
    this.type = type;
  }
}

/** Numbers in the archive, that tensors are views of. */
class TorchStorage {
  readonly type: PlainType | undefined;
  /** Its name in the archive's `data/`. */
  readonly key: string;
  /** How many elements, or bytes if it is untyped. */
  readonly length: number;

  constructor(type: PlainType | undefined, key: string, length: number) {
    this.type = type;
    this.key = key;
    this.length = length;
  }
}

/** A tensor of an archive: from byte `start` of the data of `entry` on. */
export interface PthTensor extends StoredTensor {
  readonly entry: ZipEntry;
  readonly start: number;
  readonly strides: readonly number[];
  /** Whether its numbers lie in order and without gaps. */
  readonly contiguous: boolean;
  /** Bytes from its first number to its last in the storage. */
  readonly extent: number;
}

/** A tensor as the pickle describes it: elements of a storage, in steps of `strides` from `offset` on. */
export class TorchTensor {
  readonly type: PlainType;
  readonly storage: TorchStorage;
  readonly offset: number;
  readonly shape: readonly number[];
  readonly strides: readonly number[];

  constructor(
    type: PlainType,
    storage: TorchStorage,
    offset: number,
    shape: readonly number[],
    strides: readonly number[],
  ) {
    this.type = type;
    this.storage = storage;
    this.offset = offset;
    this.shape = shape;
    this.strides = strides;
  }

  /** Finds its data among the archive's files; throws FormatError if they are not all there. */
  locate(file: string, name: string, entries: ReadonlyMap<string, ZipEntry>, folder: string): PthTensor {
    const { type, storage, offset, shape, strides } = this;
    const what = `${file}: tensor "${name}" of type ${type} and shape ${formatShape(shape)}`;
    const byteLength = tensorBytes(type, shape);
    if (typeof byteLength !== 'number') throw new FormatError(`${what} has ${byteLength.problem}`);
    const entry = entries.get(folder + storage.key);
    if (!entry) throw new FormatError(`${what} should be in ${folder}${storage.key}, which the archive lacks`);
    const bytes = elementBytes[type];
    const last = byteLength === 0 ? -1 : shape.reduce((sum, dim, axis) => sum + (dim - 1) * strides[axis]!, 0);
    const stored = storage.length * (storage.type ? elementBytes[storage.type] : 1);
    if (stored > entry.size || (offset + last + 1) * bytes > stored)
      throw new FormatError(
        `${what} needs ${(offset + last + 1) * bytes} bytes of its storage of ${stored}, of which the file has ${entry.size}`,
      );
    return {
      name,
      type,
      shape,
      byteLength,
      entry,
      start: offset * bytes,
      strides,
      contiguous: this.#isContiguous(),
      extent: (last + 1) * bytes,
    };
  }

  #isContiguous(): boolean {
    if (this.shape.includes(0)) return true;
    let step = 1;
    for (let axis = this.shape.length - 1; axis >= 0; axis--) {
      if (this.shape[axis] !== 1 && this.strides[axis] !== step) return false;
      step *= this.shape[axis]!;
    }
    return true;
  }
}

const storageTypes: Readonly<Record<string, PlainType>> = {
  DoubleStorage: 'f64',
  FloatStorage: 'f32',
  HalfStorage: 'f16',
  BFloat16Storage: 'bf16',
  LongStorage: 'i64',
  IntStorage: 'i32',
  ShortStorage: 'i16',
  CharStorage: 'i8',
  ByteStorage: 'u8',
  BoolStorage: 'bool',
};

const elementTypes: Readonly<Record<string, PlainType>> = {
  float64: 'f64',
  float32: 'f32',
  float16: 'f16',
  bfloat16: 'bf16',
  int64: 'i64',
  int32: 'i32',
  int16: 'i16',
  int8: 'i8',
  uint8: 'u8',
  bool: 'bool',
};

/** The globals that a checkpoint of tensors may ask for, and what they do here. */
export function torchWorld(file: string): PickleWorld {
  const fail = (problem: string): never => {
    throw new FormatError(`${file}: in its pickle, ${problem}`);
  };
  const call = (name: string, use: PickleFunction): [string, unknown] => [name, use];
  const globals = new Map<string, unknown>([
    call('collections.OrderedDict', (args) => (args.length === 0 ? new Map() : fail('an OrderedDict has arguments'))),
    call('torch.Size', ([size]) => (size instanceof PickleTuple ? size : fail('a torch.Size is no tuple'))),
    call('torch._utils._rebuild_tensor_v2', (args) => rebuildTensor(args, fail)),
    call('torch._utils._rebuild_tensor_v3', (args) => rebuildTensor(args, fail, args[6])),
    call('torch._utils._rebuild_parameter', ([data]) =>
      data instanceof TorchTensor ? data : fail('a parameter is no tensor'),
    ),
    ['torch.storage.UntypedStorage', new TorchType(undefined)],
    ...Object.entries({ ...storageTypes, ...elementTypes }).map(([name, type]): [string, unknown] => [
      `torch.${name}`,
      new TorchType(type),
    ]),
  ]);
  return { globals, persistent: (id) => storageOf(id, fail) };
}

/** The storage of a persistent id: ('storage', kind, name in the archive, device, length). */
function storageOf(id: unknown, fail: (problem: string) => never): TorchStorage {
  const [tag, kind, key, , length] = id instanceof PickleTuple ? id.items : [];
  if (tag !== 'storage' || !(kind instanceof TorchType) || typeof key !== 'string' || !isCount(length))
    return fail('a persistent id is no storage');
  return new TorchStorage(kind.type, key, length);
}

/** Arguments: storage, offset, size, stride, requires_grad, backward_hooks, and for version 3 the element type. */
function rebuildTensor(args: readonly unknown[], fail: (problem: string) => never, element?: unknown): TorchTensor {
  const [storage, offset, size, stride] = args;
  if (!(storage instanceof TorchStorage)) return fail('a tensor has no storage');
  const type = element instanceof TorchType ? element.type : storage.type;
  const shape = size instanceof PickleTuple ? size.items : [];
  const strides = stride instanceof PickleTuple ? stride.items : [];
  if (!type) return fail('a tensor of untyped storage has no element type');
  if (!(size instanceof PickleTuple) || shape.length !== strides.length || !isCount(offset))
    return fail('a tensor has no shape');
  if (!shape.every(isCount) || !strides.every(isCount))
    return fail('a tensor has a shape or strides that are no counts');
  return new TorchTensor(type, storage, offset, shape, strides);
}

const isCount = (value: unknown): value is number => Number.isSafeInteger(value) && (value as number) >= 0;
