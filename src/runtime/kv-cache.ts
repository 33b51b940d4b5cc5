import { InputError } from '../core/errors.ts';
import { type StateFormat, stateFormats } from '../core/state-format.ts';
import type { Carry } from '../core/trace.ts';

/** How a model that carries these keeps keys and values of attention; undefined where it has none. */
export const kvCacheOf = (carries: readonly Pick<Carry, 'growing' | 'format'>[]): StateFormat | undefined => {
  const growing = carries.find((carry) => carry.growing);
  return growing && (growing.format ?? 'f32');
};

/**
 * The graph with keys and values of attention kept in a format; as it is where none is asked for. InputError for a format that is not
 * known, and for a model without attention.
 */
export function withKvCache<Graph extends { readonly carries: readonly Carry[] }>(
  graph: Graph,
  format: StateFormat | undefined,
  title: string,
): Graph {
  if (format === undefined) return graph;
  if (!stateFormats.includes(format))
    throw new InputError(`kvCache is ${String(format)}; known: ${stateFormats.join(', ')}`);
  if (kvCacheOf(graph.carries) === undefined)
    throw new InputError(
      `kvCache is ${format}, but ${title} has no attention layer: there are no keys and values to keep`,
    );
  return { ...graph, carries: graph.carries.map((carry) => (carry.growing ? { ...carry, format } : carry)) };
}
