import { describe, expect, it } from 'vitest';
import { Random } from '../core/random.ts';
import { cholesky, semidefiniteCholesky, solve } from './factorisation.ts';
import { blocks, Matrix } from './matrix.ts';
import { matrixExponential } from './matrix-exponential.ts';

function randomMatrix(rows: number, columns: number, seed: number): Matrix {
  const random = new Random(seed);
  return new Matrix(
    rows,
    columns,
    Float64Array.from({ length: rows * columns }, () => random.normal()),
  );
}

function distance(a: Matrix, b: Matrix): number {
  return a.minus(b).maxAbs();
}

describe('Matrix', () => {
  it('is written as a number, a column or rows', () => {
    expect(Matrix.from(3).shape).toBe('[1, 1]');
    expect(Matrix.from([1, 2, 3]).shape).toBe('[3, 1]');
    expect(Matrix.from([[1, 2, 3]]).shape).toBe('[1, 3]');
    expect(Matrix.from([new Float64Array([1, 2]), new Float64Array([3, 4])]).at(1, 0)).toBe(3);
  });

  it('multiplies, adds, transposes', () => {
    const A = Matrix.from([
      [1, 2, 3],
      [4, 5, 6],
    ]);
    expect([...A.times(A.T).data]).toEqual([14, 32, 32, 77]);
    expect([...A.plus(A).minus(A.scaled(3)).data]).toEqual([-1, -2, -3, -4, -5, -6]);
    expect([...A.select([1], [2, 0]).data]).toEqual([6, 4]);
  });

  it('puts blocks together', () => {
    const grid = [
      [Matrix.from([[1, 2]]), Matrix.from(3)],
      [Matrix.from([[4, 5]]), Matrix.from(6)],
    ];
    expect([...blocks(grid).data]).toEqual([1, 2, 3, 4, 5, 6]);
    expect(() => blocks([[Matrix.from([1, 2]), Matrix.from(3)]])).toThrow(/does not fit/);
  });

  it('names the shapes that do not fit', () => {
    const A = Matrix.from([[1, 2, 3]]);
    expect(() => A.times(A)).toThrow('times: [1, 3] × [1, 3]: the left matrix has 3 columns but the right one 1 rows');
    expect(() => A.plus(A.T)).toThrow('plus: [1, 3] and [3, 1] differ in shape');
    expect(() => Matrix.from([[1, 2], [3]])).toThrow('row 1 has 1 numbers but row 0 has 2');
    expect(() => Matrix.from([])).toThrow('got no numbers');
    expect(() => Matrix.from([[1, Number.NaN]])).toThrow('entry [0, 1] is NaN');
  });
});

describe('solve', () => {
  it.each([1, 2, 7, 20])('solves %i equations', (n) => {
    const A = randomMatrix(n, n, n);
    const X = randomMatrix(n, 3, n + 100);
    expect(distance(solve(A, A.times(X)), X)).toBeLessThan(1e-11);
  });

  it('pivots, and is not misled by mixed units', () => {
    const swap = Matrix.from([
      [0, 1],
      [1, 0],
    ]);
    expect([...solve(swap, Matrix.from([1, 2])).data]).toEqual([2, 1]);
    const wideRow = Matrix.from([
      [1e20, 1e20],
      [0, 1],
    ]);
    expect([...solve(wideRow, Matrix.from([3e20, 1])).data]).toEqual([2, 1]);
    expect([...solve(wideRow.T, Matrix.from([2e20, 2e20 + 1])).data]).toEqual([2, 0]);
  });

  it('refuses a singular matrix', () => {
    const A = Matrix.from([
      [1, 2, 3],
      [4, 5, 6],
      [7, 8, 9],
    ]);
    expect(() => solve(A, Matrix.identity(3))).toThrow('singular');
    expect(() => solve(Matrix.from([[1, 2]]), Matrix.from(1))).toThrow('expected a square one');
  });
});

describe('cholesky', () => {
  it.each([1, 4, 15])('factors a covariance of %i variables', (n) => {
    const G = randomMatrix(n, n + 2, n);
    const S = G.times(G.T);
    const { L, logDeterminant, solve: solveS } = cholesky(S);
    expect(distance(L.times(L.T), S)).toBeLessThan(1e-12 * S.maxAbs());
    expect(distance(S.times(solveS(Matrix.identity(n))), Matrix.identity(n))).toBeLessThan(1e-10);
    const diagonal = [...Array(n).keys()].map((i) => L.at(i, i));
    expect(logDeterminant).toBeCloseTo(2 * diagonal.reduce((sum, value) => sum + Math.log(value), 0), 12);
  });

  it('refuses what is not positive definite', () => {
    const indefinite = Matrix.from([
      [1, 2],
      [2, 1],
    ]);
    expect(() => cholesky(indefinite)).toThrow('pivot 1 is -3');
    expect(() => semidefiniteCholesky(indefinite)).toThrow('not a covariance');
  });

  it('solves within the range of a singular covariance', () => {
    const G = randomMatrix(5, 2, 1);
    const S = G.times(G.T);
    const B = S.times(randomMatrix(5, 3, 2));
    expect(() => cholesky(S.minus(Matrix.identity(5).scaled(1e-9)))).toThrow('not positive definite');
    expect(distance(S.times(semidefiniteCholesky(S).solve(B)), B)).toBeLessThan(1e-12);
    expect(semidefiniteCholesky(new Matrix(2, 2)).solve(new Matrix(2, 1)).maxAbs()).toBe(0);
  });
});

describe('matrixExponential', () => {
  it('of a rotation', () => {
    const J = Matrix.from([
      [0, -1],
      [1, 0],
    ]);
    for (const angle of [1e-9, 0.3, 3, 200]) {
      const [c, s] = [Math.cos(angle), Math.sin(angle)];
      const R = Matrix.from([
        [c, -s],
        [s, c],
      ]);
      expect(distance(matrixExponential(J.scaled(angle)), R)).toBeLessThan(1e-13 * Math.max(1, angle));
    }
  });

  it('of a nilpotent matrix is its finite series', () => {
    const N = Matrix.from([
      [0, 1, 5],
      [0, 0, 2],
      [0, 0, 0],
    ]);
    const series = Matrix.identity(3).plus(N).plus(N.times(N).scaled(0.5));
    expect(distance(matrixExponential(N), series)).toBeLessThan(1e-14);
  });

  it('of a diagonal matrix, wide in range', () => {
    const E = matrixExponential(Matrix.diagonal([-700, -1, 0, 5]));
    [-700, -1, 0, 5].forEach((value, i) => {
      expect(E.at(i, i) / Math.exp(value)).toBeCloseTo(1, 9);
    });
  });

  it('turns sums into products and the trace into the determinant', () => {
    const A = randomMatrix(6, 6, 3);
    const E = matrixExponential(A);
    const square = matrixExponential(A.scaled(2));
    expect(distance(E.times(E), square)).toBeLessThan(1e-12 * square.maxAbs());
    expect(distance(E.times(matrixExponential(A.scaled(-1))), Matrix.identity(6))).toBeLessThan(1e-11);
    const symmetric = A.plus(A.T);
    const trace = [0, 1, 2, 3, 4, 5].reduce((sum, i) => sum + symmetric.at(i, i), 0);
    expect(cholesky(matrixExponential(symmetric)).logDeterminant).toBeCloseTo(trace, 8);
  });

  it('names what it can not take', () => {
    expect(() => matrixExponential(Matrix.from([[1, 2]]))).toThrow('expected a square one');
    expect(() => matrixExponential(new Matrix(1, 1, new Float64Array([Number.NaN])))).toThrow('not finite');
  });
});
