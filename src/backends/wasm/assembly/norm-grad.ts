import { madd } from './math';
import { loadLanes, rowAt, share, storeLanes } from './rows';
import { dot, sum } from './vectors';

/**
 * With s = 1/√(mean(x²) + ε): dx = s·(dy − x·s²·mean(dy·x)).
 * args: [rowsAt, rows of `width` in a row, x (2 words), dy (2 words), dx (2 words), width, ε (f32)]. Threads share the rows.
 */
export function rmsNormGrad(args: usize, thread: i32, threads: i32): void {
  const inner = load<i32>(args, 4);
  const width = load<i32>(args, 32);
  const epsilon = load<f32>(args, 36);
  const rows = load<i32>(<usize>load<u32>(args)) * inner;
  const to = share(rows, thread + 1, threads);
  for (let r = share(rows, thread, threads); r < to; r++) {
    const within = (<usize>((r % inner) * width)) << 2;
    const x = rowAt(args + 8, r / inner) + within;
    const dy = rowAt(args + 16, r / inner) + within;
    const dx = rowAt(args + 24, r / inner) + within;
    const scale = <f32>(1 / Math.sqrt(<f64>dot(x, x, width) / <f64>width + <f64>epsilon));
    combine(dx, dy, x, width, scale, 0, -scale * scale * scale * (dot(x, dy, width) / <f32>width));
  }
}

/** y = a·p + b·x + c. */
function combine(y: usize, p: usize, x: usize, width: i32, a: f32, c: f32, b: f32): void {
  const va = f32x4.splat(a);
  const vb = f32x4.splat(b);
  const vc = f32x4.splat(c);
  for (let i = 0; i < width; i += 4) {
    const at = (<usize>i) << 2;
    const rest = madd(vb, loadLanes(x + at, width - i), vc);
    storeLanes(y + at, width - i, madd(va, loadLanes(p + at, width - i), rest));
  }
}

/**
 * With n the normalised x and s its scale: dx = s·(dy − mean(dy) − n·mean(dy·n)).
 * args: [rowsAt, rows of `width` in a row, x (2 words), dy (2 words), dx (2 words), width, ε (f32)]. Threads share the rows.
 */
export function layerNormGrad(args: usize, thread: i32, threads: i32): void {
  const inner = load<i32>(args, 4);
  const width = load<i32>(args, 32);
  const epsilon = load<f32>(args, 36);
  const rows = load<i32>(<usize>load<u32>(args)) * inner;
  const to = share(rows, thread + 1, threads);
  for (let r = share(rows, thread, threads); r < to; r++) {
    const within = (<usize>((r % inner) * width)) << 2;
    const x = rowAt(args + 8, r / inner) + within;
    const dy = rowAt(args + 16, r / inner) + within;
    const dx = rowAt(args + 24, r / inner) + within;
    const count = <f32>width;
    const mean = sum(x, width) / count;
    const arriving = sum(dy, width) / count;
    // Centred moments, so that large means don't cancel.
    const centre = f32x4.splat(mean);
    let squares: f32 = 0;
    let products: f32 = 0;
    for (let i = 0; i < width; i++) {
      const centred = load<f32>(x + ((<usize>i) << 2)) - mean;
      squares += centred * centred;
      products += centred * (load<f32>(dy + ((<usize>i) << 2)) - arriving);
    }
    const scale = <f32>(1 / Math.sqrt(<f64>squares / <f64>width + <f64>epsilon));
    const back = f32x4.splat(scale * scale * (products / count));
    const s = f32x4.splat(scale);
    const a = f32x4.splat(arriving);
    for (let i = 0; i < width; i += 4) {
      const at = (<usize>i) << 2;
      const centred = f32x4.sub(loadLanes(x + at, width - i), centre);
      const rest = f32x4.sub(f32x4.sub(loadLanes(dy + at, width - i), a), f32x4.mul(centred, back));
      storeLanes(dx + at, width - i, f32x4.mul(s, rest));
    }
  }
}
