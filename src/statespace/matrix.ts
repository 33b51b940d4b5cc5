import { InputError, ShapeError } from '../core/errors.ts';

/**
 * What may be written where a matrix is wanted: a number is [1, 1], a list of numbers is a column [n, 1] (a vector, or a
 * series of one variable over time), a list of lists is a matrix by rows.
 */
export type MatrixLike = Matrix | number | ArrayLike<number> | readonly ArrayLike<number>[];

/** A dense real matrix, float64, row-major. Operations return new matrices; the letters of the papers read as they are written. */
export class Matrix {
  readonly rows: number;
  readonly columns: number;
  readonly data: Float64Array;

  constructor(rows: number, columns: number, data: Float64Array = new Float64Array(rows * columns)) {
    if (data.length !== rows * columns) {
      throw new ShapeError(`Matrix: [${rows}, ${columns}] needs ${rows * columns} numbers, got ${data.length}`);
    }
    this.rows = rows;
    this.columns = columns;
    this.data = data;
  }

  /** @throws ShapeError for rows of unequal length, InputError for an entry that is not a finite number. */
  static from(like: MatrixLike): Matrix {
    if (like instanceof Matrix) return like;
    if (typeof like === 'number') return Matrix.from([like]);
    const rows = isRows(like) ? like : Array.from(like, (value) => [value]);
    const columns = rows[0]?.length ?? 0;
    if (columns === 0) throw new ShapeError('Matrix: got no numbers; a matrix has at least one row and one column');
    const result = new Matrix(rows.length, columns);
    rows.forEach((row, i) => {
      if (row.length !== columns) {
        throw new ShapeError(`Matrix: row ${i} has ${row.length} numbers but row 0 has ${columns}`);
      }
      for (let j = 0; j < columns; j++) result.data[i * columns + j] = finite(row[j], i, j);
    });
    return result;
  }

  static identity(n: number): Matrix {
    return Matrix.diagonal(new Float64Array(n).fill(1));
  }

  static diagonal(values: ArrayLike<number>): Matrix {
    const n = values.length;
    const result = new Matrix(n, n);
    for (let i = 0; i < n; i++) result.data[i * n + i] = values[i]!;
    return result;
  }

  /** A vector seen as [n, 1]; shares its memory. */
  static column(vector: Float64Array): Matrix {
    return new Matrix(vector.length, 1, vector);
  }

  get shape(): string {
    return `[${this.rows}, ${this.columns}]`;
  }

  at(i: number, j: number): number {
    return this.data[i * this.columns + j]!;
  }

  /** Row i, sharing this matrix's memory. */
  row(i: number): Float64Array {
    return this.data.subarray(i * this.columns, (i + 1) * this.columns);
  }

  /** The transpose. */
  get T(): Matrix {
    const { rows, columns, data } = this;
    const result = new Matrix(columns, rows);
    for (let i = 0; i < rows; i++) {
      for (let j = 0; j < columns; j++) result.data[j * rows + i] = data[i * columns + j]!;
    }
    return result;
  }

  times(right: Matrix): Matrix {
    if (this.columns !== right.rows) {
      throw new ShapeError(
        `times: ${this.shape} × ${right.shape}: the left matrix has ${this.columns} columns but the right one ${right.rows} rows`,
      );
    }
    const { rows, columns: inner } = this;
    const { columns } = right;
    const result = new Matrix(rows, columns);
    for (let i = 0; i < rows; i++) {
      for (let k = 0; k < inner; k++) {
        const left = this.data[i * inner + k]!;
        for (let j = 0; j < columns; j++) result.data[i * columns + j]! += left * right.data[k * columns + j]!;
      }
    }
    return result;
  }

  plus(other: Matrix): Matrix {
    return this.#combined('plus', other, 1);
  }

  minus(other: Matrix): Matrix {
    return this.#combined('minus', other, -1);
  }

  scaled(factor: number): Matrix {
    const result = new Matrix(this.rows, this.columns);
    for (let i = 0; i < this.data.length; i++) result.data[i] = this.data[i]! * factor;
    return result;
  }

  /** (M + Mᵀ)/2: removes the asymmetry that rounding gives a covariance. */
  symmetrised(): Matrix {
    return this.plus(this.T).scaled(0.5);
  }

  /** The rows and columns named, in that order. */
  select(rows: readonly number[], columns: readonly number[]): Matrix {
    const result = new Matrix(rows.length, columns.length);
    let next = 0;
    for (const i of rows) for (const j of columns) result.data[next++] = this.at(i, j);
    return result;
  }

  /** The largest entry in absolute value; NaN if any entry is NaN. */
  maxAbs(): number {
    return this.data.reduce((largest, value) => Math.max(largest, Math.abs(value)), 0);
  }

  #combined(operation: string, other: Matrix, sign: 1 | -1): Matrix {
    if (this.rows !== other.rows || this.columns !== other.columns) {
      throw new ShapeError(`${operation}: ${this.shape} and ${other.shape} differ in shape`);
    }
    const result = new Matrix(this.rows, this.columns);
    for (let i = 0; i < this.data.length; i++) result.data[i] = this.data[i]! + sign * other.data[i]!;
    return result;
  }
}

/** [[A, B], [C, D]] as one matrix. */
export function blocks(grid: readonly (readonly Matrix[])[]): Matrix {
  const rows = grid.reduce((sum, row) => sum + row[0]!.rows, 0);
  const columns = grid[0]!.reduce((sum, block) => sum + block.columns, 0);
  const result = new Matrix(rows, columns);
  let top = 0;
  for (const row of grid) {
    const height = row[0]!.rows;
    let left = 0;
    for (const block of row) {
      if (block.rows !== height || left + block.columns > columns) {
        throw new ShapeError(`blocks: ${block.shape} does not fit at [${top}, ${left}] of a ${result.shape} matrix`);
      }
      for (let i = 0; i < height; i++) result.data.set(block.row(i), (top + i) * columns + left);
      left += block.columns;
    }
    top += height;
  }
  return result;
}

/** `matrix` itself if its shape is [rows, columns]. @throws ShapeError that names it otherwise. */
export function expectShape(name: string, matrix: Matrix, rows: number, columns: number): Matrix {
  if (matrix.rows === rows && matrix.columns === columns) return matrix;
  const hint =
    matrix.rows === columns && matrix.columns === rows ? '; a list of numbers is a column, a row is [[…]]' : '';
  throw new ShapeError(`${name} is ${matrix.shape}, expected [${rows}, ${columns}]${hint}`);
}

function isRows(like: ArrayLike<number> | readonly ArrayLike<number>[]): like is readonly ArrayLike<number>[] {
  return like.length > 0 && typeof like[0] === 'object';
}

function finite(value: number | undefined, i: number, j: number): number {
  if (!Number.isFinite(value)) throw new InputError(`Matrix: entry [${i}, ${j}] is ${value}, expected a finite number`);
  return value!;
}
