import { ShapeError } from '../core/errors.ts';
import { type Dim, formatShape, isRuntime, type Shape } from '../core/shape.ts';

/** The shape that all of `shapes` broadcast to. */
export function broadcastShape(shapes: readonly Shape[]): Shape {
  const rank = Math.max(0, ...shapes.map((shape) => shape.length));
  const result: Dim[] = new Array(rank).fill(1);
  for (const shape of shapes) {
    for (const [i, dim] of shape.entries()) {
      const axis = rank - shape.length + i;
      if (dim === 1 || dim === result[axis]) continue;
      if (result[axis] !== 1)
        throw new ShapeError(`expr: ${shapes.map(formatShape).join(' and ')} do not broadcast together`);
      result[axis] = dim;
    }
  }
  for (const shape of shapes) broadcastPattern(shape, result);
  return result;
}

/**
 * How an operand is read for element j of row t of the output: row t if `perRow`, else row 0, and in it element
 * ⌊j / inner⌋ mod size.
 */
export interface BroadcastPattern {
  readonly perRow: boolean;
  readonly inner: number;
  readonly size: number;
}

/** The pattern by which `shape` broadcasts to `output`; ShapeError when its axes are not adjacent. */
export function broadcastPattern(shape: Shape, output: Shape): BroadcastPattern {
  const padded: Dim[] = [...new Array<Dim>(output.length - shape.length).fill(1), ...shape];
  const perRow = padded.length > 0 && (isRuntime(padded[0]) || padded[0] !== 1);
  const rest = padded.slice(1) as number[];
  const target = output.slice(1) as number[];
  const spread = rest.map((dim, i) => dim === 1 && target[i] !== 1);
  const first = spread.indexOf(false);
  const last = spread.lastIndexOf(false);
  const product = (dims: readonly number[]) => dims.reduce((a, b) => a * b, 1);
  if (first < 0) return { perRow, inner: 1, size: 1 };
  if (spread.slice(first, last).includes(true)) {
    throw new ShapeError(
      `expr: ${formatShape(shape)} does not broadcast to ${formatShape(output)} by adjacent axes: repeat it first`,
    );
  }
  return { perRow, inner: product(target.slice(last + 1)), size: product(target.slice(first, last + 1)) };
}
