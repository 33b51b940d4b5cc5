/** Where the fraction of an f16 number and its sign lie once it is shifted, and 2¹¹². Loops load them once, before: V8 makes constants anew. */
const PLACES = memory.data<u32>([0x8fffffff]);
const BIAS = memory.data<f32>([5.192296858534828e33]);

/** What `fromHalfBy` wants, for loops to load before they begin. */
export function halfPlaces(): v128 {
  return v128.load32_splat(PLACES);
}

export function halfBias(): v128 {
  return v128.load32_splat(BIAS);
}

/**
 * Four f16 numbers, each in the low half of a lane, to f32: moved into place as if the exponents had one bias, then
 * multiplied by 2¹¹² to mend it, which is exact for subnormals too. Infinities and NaN are not among weights.
 * The lanes must be sign-extended: then one shift puts the sign, too, where f32 has it.
 */
export function fromHalfBy(bits: v128, places: v128, bias: v128): v128 {
  return f32x4.mul(v128.and(i32x4.shl(bits, 13), places), bias);
}

/** The same times 2⁻¹¹², for who multiplies sums or factors by what is missing. */
export function fromHalfScaled(bits: v128, places: v128): v128 {
  return v128.and(i32x4.shl(bits, 13), places);
}

/** The same, outside of loops. */
export function fromHalf(bits: v128): v128 {
  return fromHalfBy(bits, halfPlaces(), halfBias());
}

/** The bits of 65520, the least magnitude that f16 has no number near. */
export const HALF_END: i32 = 0x477ff000;

/**
 * Four f32 numbers below 65520 in magnitude to the bits of f16, each in the low half of a lane: nearest, ties to even. From 2⁻¹⁴ on the
 * exponent is moved and 13 bits are rounded off by an addition; below, adding ½ leaves multiples of 2⁻²⁴ in the low bits.
 */
export function toHalf(x: v128): v128 {
  const bits = v128.and(x, i32x4.splat(0x7fffffff));
  const sign = i32x4.shr_u(v128.xor(x, bits), 16);
  const odd = v128.and(i32x4.shr_u(bits, 13), i32x4.splat(1));
  const normal = i32x4.shr_u(i32x4.add(i32x4.add(bits, odd), i32x4.splat(0xfff - 0x38000000)), 13);
  const small = i32x4.sub(f32x4.add(bits, f32x4.splat(0.5)), i32x4.splat(0x3f000000));
  return v128.or(sign, v128.bitselect(small, normal, i32x4.lt_s(bits, i32x4.splat(0x38800000))));
}

/** Four bf16 numbers, each in the low half of a lane, to f32. */
export function fromBf16(bits: v128): v128 {
  return i32x4.shl(bits, 16);
}

/** Four numbers of format 1 (bf16) or 2 (f16), in sign-extended lanes, to f32. */
export function widened(bits: v128, format: i32): v128 {
  return format == 1 ? fromBf16(bits) : fromHalf(bits);
}
