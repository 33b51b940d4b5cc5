import type { WeightDeclaration, WeightFormat } from '../core/backend.ts';
import type { StoredType } from '../formats/checkpoint.ts';
import { isBlockType } from '../formats/gguf-blocks.ts';
import type { FoldedGraph } from './fold.ts';
import type { ModelGraph } from './graph.ts';
import { declareWeights, isWide, type Origin } from './parameters.ts';

/** Parameters that a file has in 4 bits, which no other format holds better. */
export const storedInFour = (origins: ReadonlyMap<string, Origin>): Set<string> =>
  new Set([...origins].filter(([, { stored, convert }]) => stored.type === 'q4_0' && !convert).map(([name]) => name));

/** Formats that have the numbers of stored types as they are. */
const exact: Readonly<Partial<Record<StoredType, WeightFormat>>> = {
  bf16: 'bf16',
  f16: 'f16',
  q8_0: 'q8',
  q4_0: 'q4',
};

/** The format that loses least of a matrix in a type: nothing, but of GGUF's other blocks, which 8 bits come nearest to. */
export const formatOf = (type: StoredType): WeightFormat => exact[type] ?? (isBlockType(type) ? 'q8' : 'f32');

/**
 * The format of every parameter's own type in the file. Narrow matrices are in integers only where these are the file's; what is
 * computed from others goes by the largest of them.
 *
 * @param types of tensors by their names, where the file has them in others than the checkpoint
 */
export function formatsAsStored(
  { parameters, layouts, derived = [] }: ModelGraph & Partial<FoldedGraph>,
  origins: ReadonlyMap<string, Origin>,
  types?: ReadonlyMap<string, StoredType>,
): Map<string, WeightFormat> {
  const sourcesOf = new Map(derived.map(({ name, sources }) => [name, sources]));
  const formats = new Map<string, WeightFormat>();
  for (const { name, shape } of parameters.values()) {
    const { stored, convert } = origins.get(name) ?? origins.get(largest(sourcesOf.get(name)!))!;
    const type = types?.get(stored.name) ?? stored.type;
    const isTaken = origins.has(name) && !convert && stored.type in exact && layouts.get(name) === 'linear';
    const format = formatOf(type);
    const isOfIntegers = format === 'q8' || format === 'q4';
    formats.set(name, isOfIntegers && !isTaken && !isWide(shape) ? 'bf16' : format);
  }
  return formats;
}

function largest(shapes: ReadonlyMap<string, readonly number[]>): string {
  const size = (shape: readonly number[]) => shape.reduce((a, b) => a * b, 1);
  return [...shapes].reduce((most, one) => (size(one[1]) > size(most[1]) ? one : most))[0];
}

const formats: readonly WeightFormat[] = ['f32', 'bf16', 'f16', 'q8', 'q4'];

/** The format that would hold all parameters as they are declared, or `auto` where there is none. */
export function commonFormat(graph: ModelGraph, declarations: readonly WeightDeclaration[]): WeightFormat | 'auto' {
  const held = new Map(declarations.map(({ name, format }) => [name, format]));
  const isHeldIn = (format: WeightFormat, inFour?: ReadonlySet<string>) =>
    declareWeights(graph, format, inFour).every((declaration) => declaration.format === held.get(declaration.name));
  const found = formats.find((format) => isHeldIn(format));
  return found ?? (isHeldIn('q4', new Set(held.keys())) ? 'q4' : 'auto');
}
