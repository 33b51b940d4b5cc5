/**
 * Four f16 numbers, each in the low half of a lane, to f32: moved into place as if the exponents had one bias, then
 * multiplied by 2¹¹² to mend it, which is exact for subnormals too. Infinities and NaN are not among weights.
 * The lanes must be sign-extended: then one shift puts the sign, too, where f32 has it.
 */
export function fromHalf(bits: v128): v128 {
  return f32x4.mul(v128.and(i32x4.shl(bits, 13), i32x4.splat(0x8fffffff)), f32x4.splat(5.192296858534828e33));
}

/** Four bf16 numbers, each in the low half of a lane, to f32. */
export function fromBf16(bits: v128): v128 {
  return i32x4.shl(bits, 16);
}

/** Four numbers of format 1 (bf16) or 2 (f16), in sign-extended lanes, to f32. */
export function widened(bits: v128, format: i32): v128 {
  return format == 1 ? fromBf16(bits) : fromHalf(bits);
}
