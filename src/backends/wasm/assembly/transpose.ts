/** Four rows of four numbers, turned: bytes from row to row there and here. */
export function transpose4(from: usize, fromStep: usize, to: usize, toStep: usize): void {
  const r0 = v128.load(from);
  const r1 = v128.load(from + fromStep);
  const r2 = v128.load(from + 2 * fromStep);
  const r3 = v128.load(from + 3 * fromStep);
  storeTurned(r0, r1, r2, r3, to, toStep);
}

/** The same of rows that are loaded. */
export function storeTurned(r0: v128, r1: v128, r2: v128, r3: v128, to: usize, toStep: usize): void {
  const a = v128.shuffle<f32>(r0, r1, 0, 4, 1, 5);
  const b = v128.shuffle<f32>(r2, r3, 0, 4, 1, 5);
  const c = v128.shuffle<f32>(r0, r1, 2, 6, 3, 7);
  const d = v128.shuffle<f32>(r2, r3, 2, 6, 3, 7);
  v128.store(to, v128.shuffle<f32>(a, b, 0, 1, 4, 5));
  v128.store(to + toStep, v128.shuffle<f32>(a, b, 2, 3, 6, 7));
  v128.store(to + 2 * toStep, v128.shuffle<f32>(c, d, 0, 1, 4, 5));
  v128.store(to + 3 * toStep, v128.shuffle<f32>(c, d, 2, 3, 6, 7));
}
