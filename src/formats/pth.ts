import { FormatError, InputError, UnsupportedError } from '../core/errors.ts';
import { formatShape } from '../core/shape.ts';
import type { ByteSource } from './byte-source.ts';
import type { Checkpoint } from './checkpoint.ts';
import { tensorSpan } from './located-checkpoint.ts';
import { unpickle } from './pickle.ts';
import { AllocationBudget } from './sequential-reader.ts';
import { elementBytes } from './tensor-bytes.ts';
import { type PthTensor, TorchTensor, torchWorld } from './torch-pickle.ts';
import { readZip, readZipEntry, type ZipEntry, zipDataAt } from './zip-archive.ts';

/** Where training scripts put a model's tensors when they save more than those. */
const modelKeys = ['state_dict', 'model_state_dict', 'model', 'module', 'params', 'weights'];

/**
 * Opens a checkpoint of `torch.save` (`.pth`, `.pt`, `.bin`; the zip format, which is PyTorch's since 1.6). Nothing in
 * it is run: the pickle may only rebuild tensors and plain values, and asking for anything else throws UnsupportedError
 * that names it. The tensors are those of the saved dictionary, or of the one within it that holds the model; plain
 * values beside them are the metadata. Throws FormatError for a file that is broken or something else.
 */
export async function openPth(source: ByteSource): Promise<Checkpoint> {
  const { name } = source;
  await checkBeginning(source);
  const budget = new AllocationBudget(source);
  const entries = await readZip(source, budget);
  const folder = archiveFolder(name, entries);
  await checkByteOrder(source, entries.get(`${folder}byteorder`), budget);
  const pickle = await readZipEntry(source, entries.get(`${folder}data.pkl`)!, budget);
  const saved = unpickle(name, pickle, torchWorld(name), budget);
  const { holder, metadata } = findTensors(name, saved);
  const tensors = new Map<string, PthTensor>();
  for (const [key, tensor] of tensorsOf(holder)) tensors.set(key, tensor.locate(name, key, entries, `${folder}data/`));
  return {
    name,
    format: 'pth',
    tensors,
    metadata,
    read: pthReader(source, tensors),
    close: () => source.close(),
  };
}

async function checkBeginning(source: ByteSource): Promise<void> {
  const bytes = new Uint8Array(Math.min(4, source.size));
  await source.read(0, bytes);
  const start = String.fromCharCode(...bytes);
  if (start.startsWith('PK')) return;
  const asked = await globalOf(source);
  if (asked) throw asked;
  if (bytes[0] === 0x80)
    throw new UnsupportedError(
      `${source.name} is in PyTorch's format before 1.6, which is not read; convert it in Python: torch.save(torch.load(path, weights_only=True), path)`,
    );
  throw new FormatError(`${source.name} is no file of torch.save: it is not a zip archive`);
}

/** What a pickle without an archive asks for that is not given, as far as its beginning tells. */
async function globalOf(source: ByteSource): Promise<UnsupportedError | undefined> {
  const bytes = new Uint8Array(Math.min(65536, source.size));
  await source.read(0, bytes);
  try {
    unpickle(source.name, bytes, torchWorld(source.name), new AllocationBudget(source));
  } catch (error) {
    if (error instanceof UnsupportedError) return error;
  }
  return undefined;
}

/** The one folder that everything in the archive is in, with the slash at its end. */
function archiveFolder(name: string, entries: ReadonlyMap<string, ZipEntry>): string {
  const pickles = [...entries.keys()].filter((path) => path.endsWith('/data.pkl'));
  if (pickles.length === 1) return pickles[0]!.slice(0, -'data.pkl'.length);
  throw new FormatError(`${name} is no file of torch.save: the archive has ${pickles.length} data.pkl, expected one`);
}

async function checkByteOrder(
  source: ByteSource,
  entry: ZipEntry | undefined,
  budget: AllocationBudget,
): Promise<void> {
  if (!entry) return;
  const order = new TextDecoder().decode(await readZipEntry(source, entry, budget)).trim();
  if (order !== 'little')
    throw new UnsupportedError(`${source.name} has byte order "${order}"; save it on a little-endian machine`);
}

const tensorsOf = (holder: ReadonlyMap<unknown, unknown>): [string, TorchTensor][] =>
  [...holder].filter(
    (entry): entry is [string, TorchTensor] => typeof entry[0] === 'string' && entry[1] instanceof TorchTensor,
  );

const isPlain = (value: unknown): boolean =>
  value === null || ['string', 'number', 'bigint', 'boolean'].includes(typeof value);

/** The dictionary that holds the tensors, and the plain values of the outermost one. */
function findTensors(
  name: string,
  saved: unknown,
): { holder: ReadonlyMap<unknown, unknown>; metadata: Record<string, unknown> } {
  if (!(saved instanceof Map)) throw new FormatError(`${name} holds no dictionary of tensors; save model.state_dict()`);
  const metadata = Object.fromEntries([...saved].filter(([key, value]) => typeof key === 'string' && isPlain(value)));
  if (tensorsOf(saved).length > 0) return { holder: saved, metadata };
  const nested = [...saved].filter(([, value]) => value instanceof Map && tensorsOf(value).length > 0);
  const known = modelKeys.map((key) => nested.find(([name]) => name === key)).find((entry) => entry);
  const chosen = known ?? (nested.length === 1 ? nested[0] : undefined);
  if (chosen) return { holder: chosen[1] as Map<unknown, unknown>, metadata };
  const keys = nested.map(([key]) => `"${key}"`).join(', ');
  throw new FormatError(
    keys
      ? `${name} holds tensors under ${keys}; which are the model's is unclear: save model.state_dict() alone`
      : `${name} holds no tensors; save model.state_dict()`,
  );
}

function pthReader(source: ByteSource, tensors: ReadonlyMap<string, PthTensor>): Checkpoint['read'] {
  const dataAt = new Map<ZipEntry, Promise<number>>();
  /** All that the last tensor in steps lies among: its pieces are read one after another. */
  let spread: { readonly tensor: PthTensor; readonly bytes: Promise<Uint8Array> } | undefined;
  return async (name, into, offset = 0) => {
    const tensor = tensorSpan({ name: source.name, tensors }, name, offset, into.length);
    const { entry, contiguous, shape, strides } = tensor;
    if (!dataAt.has(entry)) dataAt.set(entry, zipDataAt(source, entry));
    const at = (await dataAt.get(entry)!) + tensor.start;
    if (contiguous) return await source.read(at + offset, into);
    if (tensor.extent < tensor.byteLength)
      throw new UnsupportedError(
        `${source.name}: tensor "${name}" of shape ${formatShape(shape)} has strides ${formatShape(strides)}, which tell the same numbers several times; call .contiguous() on it before it is saved`,
      );
    if (spread?.tensor !== tensor) spread = { tensor, bytes: readWhole(source, at, tensor.extent) };
    gather(await spread.bytes, tensor, offset, into);
  };
}

async function readWhole(source: ByteSource, at: number, length: number): Promise<Uint8Array> {
  const bytes = new Uint8Array(length);
  await source.read(at, bytes);
  return bytes;
}

/** Numbers of a tensor, last axis fastest, from where its strides put them. */
function gather(bytes: Uint8Array, { shape, strides, type }: PthTensor, offset: number, into: Uint8Array): void {
  const size = elementBytes[type as keyof typeof elementBytes];
  if (offset % size !== 0 || into.length % size !== 0) throw new InputError('a tensor is read by whole numbers');
  for (let n = 0; n < into.length / size; n++) {
    let rest = offset / size + n;
    let from = 0;
    for (let axis = shape.length - 1; axis >= 0; axis--) {
      from += (rest % shape[axis]!) * strides[axis]!;
      rest = Math.floor(rest / shape[axis]!);
    }
    for (let i = 0; i < size; i++) into[n * size + i] = bytes[from * size + i]!;
  }
}
