import { ShapeError } from './errors.ts';

/**
 * Axes whose length is known only when a plan runs:
 * `tokens` T of a step, `segments` B (the sequences those tokens belong to), `outputs` R (the rows that logits are
 * wanted for). A plan reserves memory for a capacity of each. Only the first axis of a tensor may be one of them.
 */
export type RuntimeAxis = 'tokens' | 'segments' | 'outputs';
export const runtimeAxes: readonly RuntimeAxis[] = ['tokens', 'segments', 'outputs'];

/** The length of an axis. */
export type Dim = number | RuntimeAxis;
export type Shape = readonly Dim[];

/** What the run-time axes are in one run, or the most that they may be. */
export type Counts = Readonly<Record<RuntimeAxis, number>>;

export const isRuntime = (dim: Dim | undefined): dim is RuntimeAxis => typeof dim === 'string';

/** The length of an axis under `counts`. */
export const resolve = (dim: Dim, counts: Counts): number => (typeof dim === 'number' ? dim : counts[dim]);

/** Number of elements of one row: the product of all axes but the first. */
export const rowSize = (shape: Shape): number => product(shape.slice(1));

/** Number of elements, with the run-time axes as in `counts`. */
export const elementCount = (shape: Shape, counts: Counts): number =>
  shape.length === 0 ? 1 : resolve(shape[0]!, counts) * rowSize(shape);

/** Product of fixed dimensions. */
export function product(dims: Shape): number {
  let result = 1;
  for (const dim of dims) {
    if (typeof dim !== 'number') throw new ShapeError(`axis ${dim} of [${dims.join(', ')}] has no fixed length`);
    result *= dim;
  }
  return result;
}

export const sameShape = (a: Shape, b: Shape): boolean => a.length === b.length && a.every((dim, i) => dim === b[i]);

export const formatShape = (shape: Shape): string => `[${shape.join(', ')}]`;

/** The lengths bound to the axis names of a signature; `…` binds a list of leading axes. */
export interface Axes {
  readonly named: Map<string, Dim>;
  leading?: Shape;
}

/**
 * Matches `shape` against a pattern such as `'… I'`, `'T H K'` or `'T H | H'` (alternatives, first match wins), binding
 * axis names in `axes`. Numbers in a pattern stand for themselves and `*` takes any shape. Returns the alternative that matched, or a sentence
 * that says why none did.
 */
export function matchShape(shape: Shape, pattern: string, axes: Axes): { matched: string } | { problem: string } {
  if (pattern === '*') return { matched: pattern };
  let problem = '';
  for (const alternative of pattern.split('|').map((text) => text.trim())) {
    const trial: Axes = { named: new Map(axes.named), ...(axes.leading && { leading: axes.leading }) };
    const failure = matchAlternative(shape, alternative, trial);
    if (failure === undefined) {
      for (const [name, dim] of trial.named) axes.named.set(name, dim);
      if (trial.leading) axes.leading = trial.leading;
      return { matched: alternative };
    }
    problem = failure;
  }
  return { problem: pattern.includes('|') ? `it fits none of ${pattern}` : problem };
}

function matchAlternative(shape: Shape, pattern: string, axes: Axes): string | undefined {
  const names = pattern === '' ? [] : pattern.split(/\s+/);
  const hasLeading = names[0] === '…';
  if (hasLeading) names.shift();
  const lead = shape.length - names.length;
  if (lead < 0 || (!hasLeading && lead > 0)) return `it needs ${hasLeading ? 'at least ' : ''}${names.length} axes`;
  if (hasLeading) {
    const leading = shape.slice(0, lead);
    if (axes.leading === undefined) axes.leading = leading;
    else if (!sameShape(axes.leading, leading)) return `its leading axes should be ${formatShape(axes.leading)}`;
  }
  for (let i = 0; i < names.length; i++) {
    const name = names[i]!;
    const dim = shape[lead + i]!;
    const expected = /^\d+$/.test(name) ? Number(name) : axes.named.get(name);
    if (expected === undefined) axes.named.set(name, dim);
    else if (expected !== dim) return `axis ${name} is ${dim} but should be ${expected}`;
  }
  return undefined;
}

/** The shape that a pattern describes once all its axes are bound. */
export function buildShape(pattern: string, axes: Axes): Dim[] {
  const shape: Dim[] = [];
  for (const name of pattern === '' ? [] : pattern.trim().split(/\s+/)) {
    if (name === '…') shape.push(...(axes.leading ?? []));
    else if (/^\d+$/.test(name)) shape.push(Number(name));
    else {
      const dim = axes.named.get(name);
      if (dim === undefined) throw new ShapeError(`axis ${name} of the output "${pattern}" is bound by no input`);
      shape.push(dim);
    }
  }
  return shape;
}
