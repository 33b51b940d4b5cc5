import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { NILE, nile, report } from '../../examples/nile.ts';

describe('examples/nile', () => {
  const { fit, filtered, smoothed, interpolated, parallel, parallelSmoothed, forecast } = nile();

  it('has the hundred numbers of the series', () => {
    expect(NILE.length).toBe(100);
    expect(NILE.reduce((sum, flow) => sum + flow, 0)).toBe(91_935);
  });

  it('finds the maximum-likelihood variances of Durbin & Koopman: 15,099 and 1,469', () => {
    expect(fit.converged).toBe(true);
    expect(Math.round(fit.variances.observation)).toBe(15_099);
    expect(Math.round(fit.variances.level)).toBe(1_469);
    expect(fit.logLikelihood).toBeCloseTo(-633.46, 2);
  });

  it('settles to the variance of the closed form within the first years', () => {
    const q = fit.variances.level / fit.variances.observation;
    const P = (fit.variances.observation * (q + Math.sqrt(q * q + 4 * q))) / 2;
    expect(filtered.next.P.at(0, 0)).toBeCloseTo(P, 3);
  });

  it('gives the same as an associative scan in 12 rounds', () => {
    expect(parallel.depth).toBe(12);
    expect(parallel.logLikelihood).toBeCloseTo(filtered.logLikelihood, 7);
    parallelSmoothed.smoothed.forEach(({ x, P }, t) => {
      expect(x[0]).toBeCloseTo(smoothed[t]!.x[0]!, 5);
      expect(P.at(0, 0)).toBeCloseTo(smoothed[t]!.P.at(0, 0), 4);
    });
  });

  it('draws a straight line through missing years, and is least sure in their middle', () => {
    const slopes = Array.from({ length: 20 }, (_, i) => interpolated[20 + i]!.x[0]! - interpolated[19 + i]!.x[0]!);
    for (const slope of slopes) expect(slope).toBeCloseTo(slopes[0]!, 6);
    expect(interpolated[30]!.P.at(0, 0)).toBeGreaterThan(interpolated[21]!.P.at(0, 0));
  });

  it('forecasts the last level, ever less surely', () => {
    for (const { y } of forecast) expect(y[0]).toBeCloseTo(filtered.filtered[99]!.x[0]!, 9);
    const growth = forecast[9]!.S.at(0, 0) - forecast[0]!.S.at(0, 0);
    expect(growth).toBeCloseTo(9 * fit.variances.level, 6);
  });

  it('reports what docs/statespace.md shows', () => {
    const page = readFileSync(new URL('../../docs/statespace.md', import.meta.url), 'utf8');
    expect(page).toContain(report().join('\n'));
  });
});
