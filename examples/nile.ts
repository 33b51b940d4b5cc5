/**
 * The flow of the Nile at Aswan as a local level model: the level's variances by maximum likelihood, the smoothed level,
 * years that are missing, and a forecast. Run: `node examples/nile.ts` (Node ≥ 22.18).
 *
 * In a program of your own the import is from 'riverrun/statespace'.
 */
import { filter, fitLocalLevel, parallelFilter, parallelSmooth, predict, smooth } from '../src/statespace/index.ts';

/**
 * Annual flow, 1871 to 1970, in 10⁸ m³. Source: Cobb (1978), The problem of the Nile: conditional solution to a
 * changepoint problem, Biometrika 65; also in Durbin & Koopman (2012), ch. 2.
 */
export const NILE: readonly number[] = [
  1120, 1160, 963, 1210, 1160, 1160, 813, 1230, 1370, 1140, 995, 935, 1110, 994, 1020, 960, 1180, 799, 958, 1140, 1100,
  1210, 1150, 1250, 1260, 1220, 1030, 1100, 774, 840, 874, 694, 940, 833, 701, 916, 692, 1020, 1050, 969, 831, 726, 456,
  824, 702, 1120, 1100, 832, 764, 821, 768, 845, 864, 862, 698, 845, 744, 796, 1040, 759, 781, 865, 845, 944, 984, 897,
  822, 1010, 771, 676, 649, 846, 812, 742, 801, 1040, 860, 874, 848, 890, 744, 749, 838, 1050, 918, 986, 797, 923, 975,
  815, 1020, 906, 901, 1170, 912, 746, 919, 718, 714, 740,
];

const FIRST_YEAR = 1871;

/** What the example finds, for a test to compare with the books. */
export function nile() {
  const fit = fitLocalLevel(NILE);
  const filtered = filter(fit.model, NILE);
  const smoothed = smooth(fit.model, filtered);

  // Durbin & Koopman's figure 2.5: twice twenty years that nobody measured.
  const gaps = NILE.map((flow, t) => ((t >= 20 && t < 40) || (t >= 60 && t < 80) ? null : flow));
  const interpolated = smooth(fit.model, filter(fit.model, gaps));

  const parallel = parallelFilter(fit.model, NILE);
  const parallelSmoothed = parallelSmooth(fit.model, parallel);
  return {
    fit,
    filtered,
    smoothed,
    interpolated,
    parallel,
    parallelSmoothed,
    forecast: predict(fit.model, filtered, 10),
  };
}

/** The example's report as lines of text. */
export function report(): string[] {
  const { fit, smoothed, interpolated, parallel, forecast } = nile();
  const { observation, level } = fit.variances;
  const row = (year: number) => {
    const t = year - FIRST_YEAR;
    return `${year}  ${fixed(NILE[t]!)}  ${estimate(smoothed[t]!)}  ${estimate(interpolated[t]!)}`;
  };
  return [
    `observation variance σ²_ε  ${observation.toFixed(0)}`,
    `level variance       σ²_η  ${level.toFixed(0)}`,
    `log-likelihood (diffuse)   ${fit.logLikelihood.toFixed(2)}`,
    '',
    'year   flow  smoothed level  without 1891–1910, 1931–1950',
    ...[1875, 1890, 1898, 1899, 1900, 1910, 1940, 1960, 1970].map(row),
    '',
    `1971   flow  ${estimate({ x: forecast[0]!.y, P: forecast[0]!.S })}`,
    `1980   flow  ${estimate({ x: forecast[9]!.y, P: forecast[9]!.S })}`,
    '',
    `as an associative scan: ${NILE.length} years in ${parallel.depth} rounds, log-likelihood ${(
      parallel.logLikelihood + 0.5 * Math.log(fit.model.P0 as number)
    ).toFixed(2)}`,
  ];
}

function estimate({ x, P }: { x: Float64Array; P: { at(i: number, j: number): number } }): string {
  return `${fixed(x[0]!)} ± ${fixed(1.645 * Math.sqrt(P.at(0, 0)))}`;
}

function fixed(value: number): string {
  return value.toFixed(0).padStart(5);
}

if (process.argv[1]?.endsWith('nile.ts')) console.log(report().join('\n'));
