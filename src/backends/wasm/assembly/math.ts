/** x · y + z: fused where the build has relaxed SIMD, two roundings otherwise. */
export function madd(x: v128, y: v128, z: v128): v128 {
  return ASC_FEATURE_RELAXED_SIMD ? f32x4.relaxed_madd(x, y, z) : f32x4.add(f32x4.mul(x, y), z);
}

/** Constant i of a table: a load, where V8 would build a splatted constant anew with several instructions at every use. */
function constant(table: usize, i: usize): v128 {
  return v128.load32_splat(table + (i << 2));
}

/**
 * 1.5 · 2²³, which leaves the nearest integer in the low bits of a sum with a number below 2²²; limits; log₂ e; ln 2 in two
 * parts; the polynomial of (eʳ − 1 − r) / r² on [−ln 2 / 2, ln 2 / 2].
 */
const EXP = memory.data<f32>([
  12582912, 89, -87.3, 1.4426950408889634, 0.693145751953125, 1.428606765330187e-6, 1.98756915e-4, 1.3981999507e-3,
  8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1, 5.0000001201e-1,
]);

/**
 * eˣ, relative error about 2e-7: x = (n + f) ln 2 with f in [−½, ½], 2ⁿ by the exponent bits and 2^f by its minimax
 * polynomial. ln 2 is split in two so that the reduction is exact. Below −87 the result is 0, above 88.7 infinite, of NaN NaN.
 * `pmin` and `pmax` are one instruction where `min` and `max` are many; they hand their first argument on when it is NaN.
 */
export function expx4(x: v128): v128 {
  const clamped = f32x4.pmax(f32x4.pmin(x, constant(EXP, 1)), constant(EXP, 2));
  const shifted = f32x4.add(f32x4.mul(clamped, constant(EXP, 3)), constant(EXP, 0));
  const n = f32x4.sub(shifted, constant(EXP, 0));
  let r = f32x4.sub(clamped, f32x4.mul(n, constant(EXP, 4)));
  r = f32x4.sub(r, f32x4.mul(n, constant(EXP, 5)));
  let p = constant(EXP, 6);
  p = madd(p, r, constant(EXP, 7));
  p = madd(p, r, constant(EXP, 8));
  p = madd(p, r, constant(EXP, 9));
  p = madd(p, r, constant(EXP, 10));
  p = madd(p, r, constant(EXP, 11));
  const e = f32x4.add(madd(f32x4.mul(p, r), r, r), f32x4.splat(1));
  // 2ⁿ⁻¹, so that n = 128 does not overflow before its time, and 0 for n = −126, the least there is.
  const power = i32x4.shl(i32x4.add(shifted, i32x4.splat(126)), 23);
  return f32x4.mul(f32x4.add(e, e), power);
}

/** 1.5 · 2²³, the limit, the polynomial of 2^f on [−½, ½]. */
export const EXP2 = memory.data<f32>([
  12582912, -126, 1.32764715e-3, 9.67554133e-3, 5.55071327e-2, 2.40221197e-1, 6.93146967e-1, 1.00000007,
]);

/** 2ˣ for x ≤ 126, relative error about 2e-7; below −126 as there. Half the steps of `expx4`: decays are most of Mamba's scan. */
export function exp2x4(x: v128): v128 {
  return exp2Ofx4(
    x,
    constant(EXP2, 0),
    constant(EXP2, 1),
    constant(EXP2, 2),
    constant(EXP2, 3),
    constant(EXP2, 4),
    constant(EXP2, 5),
    constant(EXP2, 6),
    constant(EXP2, 7),
  );
}

/** The same, for loops that have registers left for the table `EXP2`. */
export function exp2Ofx4(
  x: v128,
  integer: v128,
  limit: v128,
  c5: v128,
  c4: v128,
  c3: v128,
  c2: v128,
  c1: v128,
  c0: v128,
): v128 {
  const clamped = f32x4.pmax(x, limit);
  const shifted = f32x4.add(clamped, integer);
  const f = f32x4.sub(clamped, f32x4.sub(shifted, integer));
  let p = madd(c5, f, c4);
  p = madd(p, f, c3);
  p = madd(p, f, c2);
  p = madd(p, f, c1);
  p = madd(p, f, c0);
  return i32x4.add(p, i32x4.shl(shifted, 23));
}

/** 1.5 · 2²³, the limit, the polynomial of 2^f on [−½, ½] to 3e-9. */
const EXP2_FINE = memory.data<f32>([
  12582912, -126, 1.5461444695632573e-4, 1.3400428177416093e-3, 9.61805667853236e-3, 5.550327226670846e-2,
  2.402265092228873e-1, 6.931472067028324e-1, 1,
]);

/** 2ˣ as above, its error no more than rounding: where decays are multiplied over and over, as in the sums of gradients. */
export function exp2Finex4(x: v128): v128 {
  const clamped = f32x4.pmax(x, constant(EXP2_FINE, 1));
  const shifted = f32x4.add(clamped, constant(EXP2_FINE, 0));
  const f = f32x4.sub(clamped, f32x4.sub(shifted, constant(EXP2_FINE, 0)));
  let p = constant(EXP2_FINE, 2);
  p = madd(p, f, constant(EXP2_FINE, 3));
  p = madd(p, f, constant(EXP2_FINE, 4));
  p = madd(p, f, constant(EXP2_FINE, 5));
  p = madd(p, f, constant(EXP2_FINE, 6));
  p = madd(p, f, constant(EXP2_FINE, 7));
  p = madd(p, f, constant(EXP2_FINE, 8));
  return i32x4.add(p, i32x4.shl(shifted, 23));
}

/** ln x, relative error about 1e-7 (Cephes' logf): −∞ at 0, NaN below. */
export function logx4(x: v128): v128 {
  const tiny = f32x4.lt(x, f32x4.splat(1.17549435e-38));
  const scaled = v128.bitselect(f32x4.mul(x, f32x4.splat(8388608)), x, tiny);
  const bits = i32x4.sub(scaled, i32x4.splat(0x3f3504f3));
  const exponent = i32x4.shr_s(bits, 23);
  const m = f32x4.sub(i32x4.add(v128.and(bits, i32x4.splat(0x007fffff)), i32x4.splat(0x3f3504f3)), f32x4.splat(1));
  let n = f32x4.convert_i32x4_s(exponent);
  n = f32x4.sub(n, v128.and(tiny, f32x4.splat(23)));
  let p = f32x4.splat(7.0376836292e-2);
  p = madd(p, m, f32x4.splat(-1.151461031e-1));
  p = madd(p, m, f32x4.splat(1.167699874e-1));
  p = madd(p, m, f32x4.splat(-1.2420140846e-1));
  p = madd(p, m, f32x4.splat(1.4249322787e-1));
  p = madd(p, m, f32x4.splat(-1.6668057665e-1));
  p = madd(p, m, f32x4.splat(2.0000714765e-1));
  p = madd(p, m, f32x4.splat(-2.4999993993e-1));
  p = madd(p, m, f32x4.splat(3.3333331174e-1));
  const square = f32x4.mul(m, m);
  let y = f32x4.mul(f32x4.mul(p, m), square);
  y = madd(n, f32x4.splat(-2.1219444e-4), y);
  y = f32x4.sub(y, f32x4.mul(f32x4.splat(0.5), square));
  let result = f32x4.add(f32x4.add(m, y), f32x4.mul(n, f32x4.splat(0.693359375)));
  result = v128.bitselect(f32x4.splat(-Infinity), result, f32x4.eq(x, f32x4.splat(0)));
  result = v128.bitselect(f32x4.splat(Infinity), result, f32x4.eq(x, f32x4.splat(Infinity)));
  return v128.bitselect(result, f32x4.splat(NaN), f32x4.ge(x, f32x4.splat(0)));
}

/** 1.5 · 2²³; limits; log₂ e; ln 2 in two parts; the polynomial of e⁻ʳ on [−ln 2 / 2, ln 2 / 2] to 9e-8; one. */
const FADING = memory.data<f32>([
  12582912, 87, -87, -1.4426950408889634, 0.693145751953125, 1.428606765330187e-6, -8.29008687287569e-3,
  4.189916327595711e-2, -1.6667646169662476e-1, 4.9999141693115234e-1, -9.999997019767761e-1, 1,
]);

/** e⁻ˣ for |x| ≤ 87, and beyond as there; relative error about 2e-7, of NaN NaN. No more steps than its users need: `expx4` has twice as many. */
function fadingx4(x: v128): v128 {
  const clamped = f32x4.pmax(f32x4.pmin(x, constant(FADING, 1)), constant(FADING, 2));
  const shifted = madd(clamped, constant(FADING, 3), constant(FADING, 0));
  const n = f32x4.sub(shifted, constant(FADING, 0));
  let r = madd(n, constant(FADING, 4), clamped);
  r = madd(n, constant(FADING, 5), r);
  let p = constant(FADING, 6);
  p = madd(p, r, constant(FADING, 7));
  p = madd(p, r, constant(FADING, 8));
  p = madd(p, r, constant(FADING, 9));
  p = madd(p, r, constant(FADING, 10));
  p = madd(p, r, constant(FADING, 11));
  return i32x4.add(p, i32x4.shl(shifted, 23));
}

/** 1 / (1 + e⁻ˣ). */
export function sigmoidx4(x: v128): v128 {
  const one = constant(FADING, 11);
  return f32x4.div(one, f32x4.add(one, fadingx4(x)));
}

/** x / (1 + e⁻ˣ). */
export function silux4(x: v128): v128 {
  return f32x4.div(x, f32x4.add(constant(FADING, 11), fadingx4(x)));
}

/** tanh x: an odd polynomial near 0, where (1 − e^−2x)/(1 + e^−2x) would cancel. */
export function tanhx4(x: v128): v128 {
  const magnitude = f32x4.abs(x);
  const square = f32x4.mul(x, x);
  let p = f32x4.splat(-5.70498872745e-3);
  p = madd(p, square, f32x4.splat(2.06390887954e-2));
  p = madd(p, square, f32x4.splat(-5.37397155531e-2));
  p = madd(p, square, f32x4.splat(1.33314422036e-1));
  p = madd(p, square, f32x4.splat(-3.33332819422e-1));
  const near = madd(f32x4.mul(p, square), x, x);
  const e = expx4(f32x4.mul(f32x4.splat(-2), magnitude));
  const one = f32x4.splat(1);
  const far = f32x4.div(f32x4.sub(one, e), f32x4.add(one, e));
  const signed = v128.or(far, v128.and(x, f32x4.splat(-0.0)));
  return v128.bitselect(near, signed, f32x4.lt(magnitude, f32x4.splat(0.625)));
}

/** 2 artanh(s) / s in powers of s², for s² ≤ 1/9 to 4e-9. */
const ARTANH = memory.data<f32>([
  2.817833423614502e-1, 2.7960601449012756e-1, 4.0024909377098083e-1, 6.666631698608398e-1, 2,
]);

/**
 * ln(1 + eˣ) = max(x, 0) + ln(1 + e), e = e^−|x|, and ln(1 + e) = 2 artanh(e / (2 + e)), whose argument is at most 1/3: no
 * cancellation anywhere.
 */
export function softplusx4(x: v128): v128 {
  const e = fadingx4(f32x4.abs(x));
  const s = f32x4.div(e, f32x4.add(e, constant(ARTANH, 4)));
  const square = f32x4.mul(s, s);
  let p = constant(ARTANH, 0);
  p = madd(p, square, constant(ARTANH, 1));
  p = madd(p, square, constant(ARTANH, 2));
  p = madd(p, square, constant(ARTANH, 3));
  p = madd(p, square, constant(ARTANH, 4));
  return madd(p, s, f32x4.pmax(x, f32x4.splat(0)));
}

/** erf x, absolute error about 2e-7: its Maclaurin series below 1, 1 − e^−x² · polynomial beyond (Abramowitz & Stegun 7.1.26's form, refitted). */
export function erfx4(x: v128): v128 {
  const magnitude = f32x4.pmin(f32x4.abs(x), f32x4.splat(6));
  const square = f32x4.mul(magnitude, magnitude);
  // Σ (−1)ⁿ z²ⁿ / (n! (2n + 1)), ten terms.
  let p = f32x4.splat(-1.4503852e-7);
  p = madd(p, square, f32x4.splat(1.6462114365889246e-6));
  p = madd(p, square, f32x4.splat(-1.4925650358406251e-5));
  p = madd(p, square, f32x4.splat(1.2055332981789664e-4));
  p = madd(p, square, f32x4.splat(-8.548327023450852e-4));
  p = madd(p, square, f32x4.splat(5.223977625442188e-3));
  p = madd(p, square, f32x4.splat(-2.6866170645131252e-2));
  p = madd(p, square, f32x4.splat(1.1283791670955126e-1));
  p = madd(p, square, f32x4.splat(-3.7612638903183754e-1));
  p = madd(p, square, f32x4.splat(1.1283791670955126));
  const near = f32x4.mul(p, magnitude);
  const one = f32x4.splat(1);
  const t = f32x4.div(one, madd(f32x4.splat(0.5), magnitude, one));
  // Numerical Recipes' erfcc: t · exp(−z² + polynomial(t)), relative error 1.2e-7 everywhere.
  let q = f32x4.splat(0.17087277);
  q = madd(q, t, f32x4.splat(-0.82215223));
  q = madd(q, t, f32x4.splat(1.48851587));
  q = madd(q, t, f32x4.splat(-1.13520398));
  q = madd(q, t, f32x4.splat(0.27886807));
  q = madd(q, t, f32x4.splat(-0.18628806));
  q = madd(q, t, f32x4.splat(0.09678418));
  q = madd(q, t, f32x4.splat(0.37409196));
  q = madd(q, t, f32x4.splat(1.00002368));
  q = madd(q, t, f32x4.splat(-1.26551223));
  const far = f32x4.sub(one, f32x4.mul(t, expx4(f32x4.sub(q, square))));
  const result = v128.bitselect(near, far, f32x4.lt(magnitude, one));
  const signed = v128.or(result, v128.and(x, f32x4.splat(-0.0)));
  return v128.bitselect(signed, x, f32x4.eq(x, x));
}
