// What the kernels must compute, in plain loops.
const f = Math.fround;

/** Nearest integer, ties to even. */
function nearest(x) {
  const floor = Math.floor(x);
  const rest = x - floor;
  return rest > 0.5 || (rest === 0.5 && floor % 2 !== 0) ? floor + 1 : floor;
}

/** x Wᵀ + b in float64; x [T, I], W [O, I]. */
export function product(x, w, bias, T, I, O) {
  const y = new Float64Array(T * O);
  for (let t = 0; t < T; t++) {
    for (let o = 0; o < O; o++) {
      let sum = bias ? bias[o] : 0;
      for (let i = 0; i < I; i++) sum += x[t * I + i] * w[o * I + i];
      y[t * O + o] = sum;
    }
  }
  return y;
}

const largestMagnitude = (values) => values.reduce((largest, value) => Math.max(largest, Math.abs(value)), 0);

/** Integers of x and what they are multiplied by, as the kernels that quantise rows have it. */
function quantised(x, limit) {
  const largest = largestMagnitude(x);
  const inverse = largest > f(1e-30) ? f(limit / largest) : 0;
  return { scale: f(largest / limit), integers: Array.from(x, (value) => nearest(f(value * inverse))) };
}

/** The product that `linearQ8` or `linearQ4` must give to the last bit: f32 arithmetic in the kernels' order. */
export function quantisedProduct({ format, integers, scales }, x, bias, T, I, O) {
  const groups = Math.ceil(I / 32);
  const y = new Float32Array(T * O);
  for (let t = 0; t < T; t++) {
    const row = x.subarray(t * I, (t + 1) * I);
    const whole = format === 'q8' ? quantised(row, 32767) : undefined;
    const parts = Array.from({ length: groups }, (_, g) =>
      whole
        ? { scale: 1, integers: whole.integers.slice(g * 32, g * 32 + 32) }
        : quantised(row.subarray(g * 32, g * 32 + 32), 127),
    );
    for (let o = 0; o < O; o++) {
      let total = 0;
      for (const [g, part] of parts.entries()) {
        let sum = 0;
        for (let k = 0; k < part.integers.length; k++) sum += part.integers[k] * integers[o * I + g * 32 + k];
        total = f(total + f(f(sum) * f(part.scale * scales[o * groups + g])));
      }
      y[t * O + o] = f((whole ? f(total * whole.scale) : total) + (bias ? bias[o] : 0));
    }
  }
  return y;
}

/** rms(a − b) / rms(b). */
export function errorRatio(a, b) {
  let difference = 0;
  let size = 0;
  for (let i = 0; i < b.length; i++) {
    difference += (a[i] - b[i]) ** 2;
    size += b[i] ** 2;
  }
  return difference === 0 ? 0 : Math.sqrt(difference / size);
}

/** Seeded random numbers, about normal. */
export function gaussian(seed) {
  let state = seed >>> 0;
  const uniform = () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return (state + 0.5) / 4294967296;
  };
  return () => Math.sqrt(-2 * Math.log(uniform())) * Math.cos(2 * Math.PI * uniform());
}
