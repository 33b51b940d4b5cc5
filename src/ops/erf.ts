/**
 * The error function to about 1e-16: its Maclaurin series near 0 and the continued fraction of erfc (Lentz's method)
 * beyond. Abramowitz & Stegun 7.1.6 and 7.1.14.
 */
export function erf(x: number): number {
  const z = Math.abs(x);
  if (Number.isNaN(z)) return Number.NaN;
  if (z > 6) return Math.sign(x);
  return Math.sign(x) * (z < 2.5 ? series(z) : 1 - complement(z));
}

/** erf(z) = 2/√π · e^(−z²) · Σ 2ⁿ z^(2n+1) / (1·3·5 … (2n+1)). */
function series(z: number): number {
  let term = z;
  let sum = z;
  for (let n = 1; term > sum * 1e-17; n++) {
    term *= (2 * z * z) / (2 * n + 1);
    sum += term;
  }
  return (2 / Math.sqrt(Math.PI)) * Math.exp(-z * z) * sum;
}

/** erfc(z) = e^(−z²)/√π · 1/(z + ½/(z + 1/(z + 3⁄2/(z + …)))), evaluated from far enough down. */
function complement(z: number): number {
  let fraction = 0;
  for (let n = 60; n >= 1; n--) fraction = n / 2 / (z + fraction);
  return Math.exp(-z * z) / Math.sqrt(Math.PI) / (z + fraction);
}
