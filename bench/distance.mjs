/** How far numbers are from others, against the others' size: √(Σ(a − b)² / Σb²). */
export function distance(a, b) {
  let [apart, size] = [0, 0];
  for (let i = 0; i < b.length; i++) {
    apart += (a[i] - b[i]) ** 2;
    size += b[i] ** 2;
  }
  return Math.sqrt(apart / size);
}
