/** IEEE 754 half precision, which `Float16Array` will make superfluous once every supported Node has it. */

const bits = new Uint32Array(1);
const float = new Float32Array(bits.buffer);

/** 2^(e - 25) for every biased exponent e of a normal number, by which its 11-bit significand is multiplied. */
const powers = Float64Array.from({ length: 31 }, (_, exponent) => 2 ** (exponent - 25));

/** The number that the 16 bits `half` stand for. */
export function float16ToNumber(half: number): number {
  const exponent = (half >> 10) & 31;
  const fraction = half & 1023;
  let magnitude: number;
  if (exponent === 0) magnitude = fraction * 2 ** -24;
  else if (exponent === 31) magnitude = fraction === 0 ? Infinity : NaN;
  else magnitude = (1024 + fraction) * powers[exponent]!;
  return half & 0x8000 ? -magnitude : magnitude;
}

/** The 16 bits of the half-precision number nearest to `value`, ties to even; overflow gives infinity. */
export function numberToFloat16(value: number): number {
  float[0] = value;
  const sign = (bits[0]! >>> 16) & 0x8000;
  const magnitude = Math.abs(float[0]!);
  if (Number.isNaN(magnitude)) return 0x7e00;
  if (magnitude >= 65520) return sign | 0x7c00;
  // Adding 2^52 leaves a double no fraction bits, so that the addition itself rounds to even.
  if (magnitude < 2 ** -14) return sign | (magnitude * 2 ** 24 + 2 ** 52 - 2 ** 52);
  const unsigned = bits[0]! & 0x7fffffff;
  return sign | ((unsigned + 0xfff + ((unsigned >>> 13) & 1) - 0x38000000) >>> 13);
}

let table: Float32Array | undefined;

/** The numbers of all 65,536 patterns: a look-up is several times faster than the arithmetic. Made on first use. */
export function float16Table(): Float32Array {
  table ??= Float32Array.from({ length: 65536 }, (_, half) => float16ToNumber(half));
  return table;
}
