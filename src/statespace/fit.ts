import { InputError } from '../core/errors.ts';
import { logLikelihood } from './kalman.ts';
import type { KalmanModel, Observations } from './kalman-model.ts';
import { nelderMead } from './nelder-mead.ts';
import {
  DIFFUSE_RATIO,
  type DiffusePrior,
  diffusePrior,
  type LocalLevelVariances,
  type LocalLinearTrendVariances,
  localLevel,
  localLinearTrend,
} from './structural.ts';

/** A model fitted by maximum likelihood. */
export interface Fit<Variances> {
  readonly variances: Variances;
  readonly model: KalmanModel;
  /** The greatest log-likelihood found. */
  readonly logLikelihood: number;
  /** Likelihoods computed on the way. */
  readonly evaluations: number;
  /** False if the search stopped at its limit of evaluations. */
  readonly converged: boolean;
}

/** A variance below this fraction of its initial value is as good as zero, and keeps the likelihood defined. */
const SMALLEST = 1e-12;

/**
 * Finds the variances under which the observations are most likely, over their logarithms so that they stay positive.
 * A variance whose best value is zero comes out as next to nothing, at least 10⁻¹² of its initial value.
 *
 * @param build the model with the given variances.
 * @param initial where the search begins, each > 0, of the right order of magnitude.
 */
export function maximumLikelihood(
  build: (variances: Float64Array) => KalmanModel,
  y: Observations,
  initial: readonly number[],
): Fit<Float64Array> {
  if (initial.length === 0 || initial.some((variance) => !(variance > 0 && Number.isFinite(variance)))) {
    throw new InputError(
      `maximumLikelihood: the initial variances are [${initial.join(', ')}], expected positive numbers`,
    );
  }
  const variancesAt = (logs: Float64Array) => logs.map((log, i) => Math.max(Math.exp(log), SMALLEST * initial[i]!));
  const objective = (logs: Float64Array) => -logLikelihood(build(variancesAt(logs)), y);
  const coarse = starts(initial).map((start) =>
    nelderMead(objective, start.map(Math.log), { size: 2, tolerance: 1e-2 }),
  );
  const best = coarse.reduce((a, b) => (b.value < a.value ? b : a));
  // A second simplex around the optimum: the first may have collapsed on its way there.
  const fine = nelderMead(objective, best.x, { size: 0.1 });
  const variances = variancesAt(fine.x);
  return {
    variances,
    model: build(variances),
    logLikelihood: -fine.value,
    evaluations: [...coarse, fine].reduce((sum, { evaluations }) => sum + evaluations, 0),
    converged: fine.converged,
  };
}

/**
 * The likelihood may have several peaks, one for each way of explaining the series by a single source of disturbance: the
 * search begins at the point given and once near each of those.
 */
function starts(initial: readonly number[]): number[][] {
  const dominant = initial.map((_, i) => initial.map((variance, j) => (i === j ? variance : variance * 1e-3)));
  return initial.length === 1 ? [[...initial]] : [[...initial], ...dominant];
}

/**
 * Fits the local level model to a series (null or NaN where missing) with a diffuse prior. The log-likelihood is the
 * diffuse one of Durbin & Koopman (2012, §7.2).
 */
export function fitLocalLevel(y: ArrayLike<number | null>): Fit<LocalLevelVariances> {
  return fitStructural(y, ['observation', 'level'], 1, localLevel);
}

/** Fits the local linear trend model in the same way. */
export function fitLocalLinearTrend(y: ArrayLike<number | null>): Fit<LocalLinearTrendVariances> {
  return fitStructural(y, ['observation', 'level', 'slope'], 2, localLinearTrend);
}

function fitStructural<Name extends string>(
  y: ArrayLike<number | null>,
  names: readonly Name[],
  states: number,
  build: (variances: Record<Name, number>, prior: DiffusePrior) => KalmanModel,
): Fit<Record<Name, number>> {
  const prior = diffusePrior(y, states);
  const named = (values: ArrayLike<number>) =>
    Object.fromEntries(names.map((name, i) => [name, values[i]!])) as Record<Name, number>;
  const initial = names.map((_, i) => (prior.kappa / DIFFUSE_RATIO) * 10 ** -i);
  const fit = maximumLikelihood((variances) => build(named(variances), prior), y, initial);
  // The limit of log p(y) + ½ log κ for each flat direction, as κ → ∞.
  const diffuse = fit.logLikelihood + 0.5 * states * Math.log(prior.kappa);
  return { ...fit, variances: named(fit.variances), logLikelihood: diffuse };
}
