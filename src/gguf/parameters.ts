import { InputError } from '../core/errors.ts';
import type { Checkpoint, StoredTensor } from '../formats/checkpoint.ts';
import { readF32 } from '../formats/read-f32.ts';
import { type Dialect, type Holding, size } from './dialect.ts';

type Table = ReturnType<Dialect['tensors']>;

/** Where a parameter's numbers lie in the file. */
interface Source {
  readonly stored: StoredTensor;
  readonly holding: Holding;
  readonly layer: number;
  /** Which of the holding's parameters it is. */
  readonly part: number;
}

/** A GGUF file's tensors under the names, in the shapes and in the order of the model's parameters. */
export interface GgufParameters {
  readonly checkpoint: Checkpoint;
  /** The parameters that each tensor of the file holds. */
  readonly held: ReadonlyMap<string, readonly string[]>;
}

export function parametersOf(file: Checkpoint, table: Table): GgufParameters {
  const tensors = new Map<string, StoredTensor>();
  const sources = new Map<string, Source>();
  for (const stored of file.tensors.values()) {
    const { holding, layer } = lookUp(stored.name, table);
    if (holding === null) continue;
    for (const [part, template] of holding.parameters.entries()) {
      const name = template.replace('#', String(layer));
      // Gates are optional in RWKV-7: a file may have fewer mixing vectors than there are names.
      if (holding.parameters.length > 1 && part >= stored.shape[0]!) break;
      const parameter = parameterOf(name, stored, holding);
      tensors.set(name, parameter);
      sources.set(name, { stored, holding, layer, part });
    }
  }
  const held = new Map<string, string[]>();
  for (const [name, { stored }] of sources) held.set(stored.name, [...(held.get(stored.name) ?? []), name]);
  const checkpoint: Checkpoint = {
    ...file,
    tensors,
    async read(name, into, offset = 0) {
      const source = sources.get(name);
      if (!source) throw new InputError(`${file.name} has no tensor for "${name}"`);
      await readParameter(file, tensors.get(name)!, source, into, offset);
    },
  };
  return { checkpoint, held };
}

/** What the tensor `name` holds; by default a parameter of the same name, which no model will know. */
function lookUp(name: string, table: Table): { holding: Holding | null; layer: number } {
  const [, digits] = /^blk\.(\d+)\./.exec(name) ?? [];
  const template = digits === undefined ? name : name.replace(`blk.${digits}.`, 'blk.#.');
  const key = [name, template].find((key) => Object.hasOwn(table, key));
  const found = key === undefined ? name : table[key];
  return { holding: typeof found === 'string' ? { parameters: [found] } : (found ?? null), layer: Number(digits ?? 0) };
}

function parameterOf(name: string, stored: StoredTensor, holding: Holding): StoredTensor {
  const parts = holding.parameters.length;
  if (parts > 1) {
    const shape = stored.shape.slice(1);
    // [1, 1, D] whatever axes of length 1 the file has.
    return { name, type: stored.type, shape: [1, 1, size(shape)], byteLength: stored.byteLength / stored.shape[0]! };
  }
  const shape = holding.shape?.(stored.shape) ?? stored.shape;
  if (holding.read) return { name, type: 'f32', shape, byteLength: 4 * size(shape) };
  return { name, type: stored.type, shape, byteLength: stored.byteLength };
}

async function readParameter(
  file: Checkpoint,
  parameter: StoredTensor,
  { stored, holding, layer, part }: Source,
  into: Uint8Array,
  offset: number,
): Promise<void> {
  if (holding.read) {
    const values = holding.read(await readF32(file, stored), stored.shape, layer);
    into.set(new Uint8Array(values.buffer, values.byteOffset + offset, into.length));
  } else if (holding.order) {
    await gatherRows(file, parameter, stored.name, holding.order, into, offset);
  } else {
    await file.read(stored.name, into, offset + part * parameter.byteLength);
  }
}

/** Reads rows in the parameter's order: the stretch of the file that holds them all, and from it row by row. */
async function gatherRows(
  file: Checkpoint,
  parameter: StoredTensor,
  name: string,
  order: NonNullable<Holding['order']>,
  into: Uint8Array,
  offset: number,
): Promise<void> {
  const rows = parameter.shape[0]!;
  const rowBytes = parameter.byteLength / rows;
  const [start, count] = [offset / rowBytes, into.length / rowBytes];
  if (!Number.isInteger(start) || !Number.isInteger(count))
    throw new InputError(`${file.name}: ${name} is read by whole rows only`);
  const places = Array.from({ length: count }, (_, row) => order(start + row, rows));
  const [first, last] = places.reduce(([least, most], row) => [Math.min(least, row), Math.max(most, row)], [rows, 0]);
  const stretch = new Uint8Array((last - first + 1) * rowBytes);
  await file.read(name, stretch, first * rowBytes);
  for (const [row, place] of places.entries())
    into.set(stretch.subarray((place - first) * rowBytes, (place - first + 1) * rowBytes), row * rowBytes);
}
