/**
 * Linear state spaces for time series: discretisation, recurrence and convolution, HiPPO and S4D, the Kalman filter,
 * predictor and smoother, their associative scans, and maximum likelihood. `docs/statespace.md` is the guide.
 */
export { type Affine, composeAffine } from './affine.ts';
export {
  combineFiltering,
  type FilteringElement,
  type ParallelFiltered,
  type ParallelSmoothed,
  parallelFilter,
  parallelSmooth,
} from './associative-kalman.ts';
export { associativeScan, associativeScanReverse, type Scan } from './associative-scan.ts';
export { convolve, impulseResponse } from './convolution.ts';
export { bilinear, zeroOrderHold } from './discretise.ts';
export { type Cholesky, cholesky, semidefiniteCholesky, solve } from './factorisation.ts';
export { type Fit, fitLocalLevel, fitLocalLinearTrend, maximumLikelihood } from './fit.ts';
export { type ComplexMatrix, frequencyResponse } from './frequency-response.ts';
export { type Hippo, hippoLegS, LegendreMemory, legendreBasis } from './hippo.ts';
export {
  type Filtered,
  filter,
  KalmanFilter,
  type KalmanStep,
  logLikelihood,
  type Prediction,
  predict,
  smooth,
} from './kalman.ts';
export type { Gaussian, KalmanModel, Observation, Observations, Varying } from './kalman-model.ts';
export type { Innovation } from './kalman-update.ts';
export {
  type DiscreteSystem,
  discreteSystem,
  inputBeforeOutput,
  type LinearSystem,
  type LinearSystemLike,
  linearSystem,
  Simulation,
  simulate,
  type Trajectory,
} from './linear-system.ts';
export { Matrix, type MatrixLike } from './matrix.ts';
export { matrixExponential } from './matrix-exponential.ts';
export { type Minimum, nelderMead } from './nelder-mead.ts';
export {
  type ComplexVector,
  type DiagonalSystem,
  realForm,
  s4dInv,
  s4dKernel,
  s4dLin,
  s4dReal,
} from './s4d.ts';
export { type Path, sample } from './sample.ts';
export { type SteadyState, steadyState, steadyStatePredictor } from './steady-state.ts';
export {
  type DiffusePrior,
  diffusePrior,
  type LocalLevelVariances,
  type LocalLinearTrendVariances,
  localLevel,
  localLinearTrend,
} from './structural.ts';
