/**
 * Whether a number is larger in magnitude than `limit`, infinite or NaN. As integers, f32 numbers without their signs are in the order
 * of their magnitudes, with infinity and then NaN after them: a loop over integers without branches is twice as fast as one over
 * numbers.
 */
export function exceeds(values: Float32Array, limit: number): boolean {
  const words = new Int32Array(values.buffer, values.byteOffset, values.length);
  const most = new Int32Array(Float32Array.of(limit).buffer)[0]!;
  let [a, b, c, d] = [0, 0, 0, 0];
  let i = 0;
  // The difference is negative, its highest bit set, where a number is too large.
  for (; i + 4 <= words.length; i += 4) {
    a |= most - (words[i]! & 0x7fffffff);
    b |= most - (words[i + 1]! & 0x7fffffff);
    c |= most - (words[i + 2]! & 0x7fffffff);
    d |= most - (words[i + 3]! & 0x7fffffff);
  }
  for (; i < words.length; i++) a |= most - (words[i]! & 0x7fffffff);
  return (a | b | c | d) < 0;
}
