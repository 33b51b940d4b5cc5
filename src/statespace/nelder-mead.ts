/** The result of a minimisation. */
export interface Minimum {
  readonly x: Float64Array;
  readonly value: number;
  readonly evaluations: number;
  /** Whether the simplex shrank to the tolerance before the evaluations ran out. */
  readonly converged: boolean;
}

interface Vertex {
  readonly x: Float64Array;
  readonly value: number;
}

/**
 * Minimises f without derivatives by the simplex method of Nelder & Mead (1965), with the coefficients 1, 2, ½, ½; for a
 * few parameters. Values that are not numbers count as +∞.
 *
 * @param size length of the first simplex's edges.
 * @param tolerance the minimum is found when the simplex is no larger than this, and f over it no more uneven.
 */
export function nelderMead(
  f: (x: Float64Array) => number,
  start: ArrayLike<number>,
  { size = 1, tolerance = 1e-7, maxEvaluations = 2000 } = {},
): Minimum {
  let evaluations = 0;
  const vertex = (x: Float64Array): Vertex => {
    evaluations++;
    const value = f(x);
    return { x, value: Number.isNaN(value) ? Number.POSITIVE_INFINITY : value };
  };
  const origin = Float64Array.from(start);
  let simplex = [origin, ...axes(origin, size)].map(vertex);
  const isSmall = () =>
    simplex.at(-1)!.value - simplex[0]!.value <= tolerance && diameter(simplex, simplex[0]!.x) <= tolerance;

  for (;;) {
    simplex.sort((a, b) => a.value - b.value);
    if (isSmall() || evaluations >= maxEvaluations) break;
    const best = simplex[0]!;
    const worst = simplex.at(-1)!;
    const centre = mean(simplex.slice(0, -1));
    const along = (step: number) => vertex(centre.map((c, i) => c + step * (c - worst.x[i]!)));

    let replacement = along(1);
    if (replacement.value < best.value) {
      const further = along(2);
      if (further.value < replacement.value) replacement = further;
    } else if (replacement.value >= simplex.at(-2)!.value) {
      replacement = along(replacement.value < worst.value ? 0.5 : -0.5);
    }
    if (replacement.value < worst.value) simplex[simplex.length - 1] = replacement;
    else simplex = [best, ...simplex.slice(1).map(({ x }) => vertex(mean([{ x }, best])))];
  }
  return { ...simplex[0]!, evaluations, converged: isSmall() };
}

function axes(origin: Float64Array, size: number): Float64Array[] {
  return Array.from(origin, (_, i) => origin.map((value, j) => (i === j ? value + size : value)));
}

function mean(points: readonly { x: Float64Array }[]): Float64Array {
  return points[0]!.x.map((_, i) => points.reduce((sum, { x }) => sum + x[i]!, 0) / points.length);
}

function diameter(simplex: readonly Vertex[], from: Float64Array): number {
  return Math.max(...simplex.map(({ x }) => Math.max(...x.map((value, i) => Math.abs(value - from[i]!)))));
}
