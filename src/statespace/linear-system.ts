import { InputError } from '../core/errors.ts';
import { expectShape, Matrix, type MatrixLike } from './matrix.ts';

/** A linear time-invariant system as it is written down. C is the identity and D zero unless given. */
export interface LinearSystemLike {
  /** [n, n] */
  readonly A: MatrixLike;
  /** [n, p] */
  readonly B: MatrixLike;
  /** [q, n] */
  readonly C?: MatrixLike;
  /** [q, p] */
  readonly D?: MatrixLike;
}

/** n states, p inputs, q outputs; in continuous time ẋ = Ax + Bu, y = Cx + Du. */
export interface LinearSystem {
  readonly A: Matrix;
  readonly B: Matrix;
  readonly C: Matrix;
  readonly D: Matrix;
}

/** x_{k+1} = A x_k + B u_k,  y_k = C x_k + D u_k, one sample every `step` units of time. */
export interface DiscreteSystem extends LinearSystem {
  readonly step: number;
}

/** A system with its shapes checked. @throws ShapeError */
export function linearSystem(system: LinearSystemLike): LinearSystem {
  const A = Matrix.from(system.A);
  const B = Matrix.from(system.B);
  const n = A.rows;
  const C = system.C === undefined ? Matrix.identity(n) : Matrix.from(system.C);
  const D = system.D === undefined ? new Matrix(C.rows, B.columns) : Matrix.from(system.D);
  return {
    A: expectShape('A', A, n, n),
    B: expectShape('B', B, n, B.columns),
    C: expectShape('C', C, C.rows, n),
    D: expectShape('D', D, C.rows, B.columns),
  };
}

/** A discrete-time system with its shapes checked. @throws ShapeError, InputError for a step that is not positive. */
export function discreteSystem(system: LinearSystemLike, step = 1): DiscreteSystem {
  if (!(step > 0 && Number.isFinite(step))) {
    throw new InputError(`step is ${step}, expected a positive length of time between samples`);
  }
  return { ...linearSystem(system), step };
}

/**
 * The system with the same A and B in which u_k already acts on y_k through the state, as S4 and Mamba write it:
 * x_k = A x_{k−1} + B u_k, y_k = C x_k + D u_k. In the control engineer's form that is (A, B, CA, D + CB).
 */
export function inputBeforeOutput(system: DiscreteSystem): DiscreteSystem {
  const { A, B, C, D, step } = system;
  return { A, B, C: C.times(A), D: D.plus(C.times(B)), step };
}

/** A discrete-time system running step by step; its whole memory is the state x. */
export class Simulation {
  readonly system: DiscreteSystem;
  /** The state x_k [n] that the next input will meet. */
  x: Float64Array;

  /** @param x0 the initial state [n]; zero unless given. */
  constructor(system: DiscreteSystem, x0?: MatrixLike) {
    this.system = system;
    const n = system.A.rows;
    this.x = x0 === undefined ? new Float64Array(n) : expectShape('x0', Matrix.from(x0), n, 1).data.slice();
  }

  /** Takes u_k [p], returns y_k [q], moves the state on to x_{k+1}. */
  step(u: MatrixLike): Float64Array {
    const { A, B, C, D } = this.system;
    const x = Matrix.column(this.x);
    const input = expectShape('u', Matrix.from(u), B.columns, 1);
    this.x = A.times(x).plus(B.times(input)).data;
    return C.times(x).plus(D.times(input)).data;
  }
}

/** What `simulate` returns. */
export interface Trajectory {
  /** Outputs [T, q]. */
  readonly y: Matrix;
  /** The state [n] after the last input: the x0 with which a continuation starts. */
  readonly x: Float64Array;
}

/** Runs a system as a recurrence over the inputs u [T, p], from x0 (zero unless given): O(T n²), memory O(n²). */
export function simulate(system: DiscreteSystem, u: MatrixLike, x0?: MatrixLike): Trajectory {
  const inputs = Matrix.from(u);
  expectShape('u', inputs, inputs.rows, system.B.columns);
  const simulation = new Simulation(system, x0);
  const y = new Matrix(inputs.rows, system.C.rows);
  for (let k = 0; k < inputs.rows; k++) y.row(k).set(simulation.step(inputs.row(k)));
  return { y, x: simulation.x };
}
