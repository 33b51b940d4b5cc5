import { madd } from './math';

/** Rows of a tile: 6 × 8 sums, two loads and a splat fill V8's registers. */
export const TILE: i32 = 6;

/**
 * tile ← tile · fade + Σ_n q_n ⊗ panel_n: six rows of eight numbers, each row with a fade of its own. q has six numbers for every n,
 * `step` bytes apart, and the panel eight. Where this is inlined into other loops V8 unrolls it and spills, so it must have several
 * callers.
 */
export function productTile(tile: usize, fade: usize, q: usize, step: usize, panel: usize, count: i32): void {
  let x = v128.load32_splat(fade);
  let a0 = f32x4.mul(x, v128.load(tile));
  let a1 = f32x4.mul(x, v128.load(tile, 16));
  x = v128.load32_splat(fade, 4);
  let b0 = f32x4.mul(x, v128.load(tile, 32));
  let b1 = f32x4.mul(x, v128.load(tile, 48));
  x = v128.load32_splat(fade, 8);
  let c0 = f32x4.mul(x, v128.load(tile, 64));
  let c1 = f32x4.mul(x, v128.load(tile, 80));
  x = v128.load32_splat(fade, 12);
  let d0 = f32x4.mul(x, v128.load(tile, 96));
  let d1 = f32x4.mul(x, v128.load(tile, 112));
  x = v128.load32_splat(fade, 16);
  let e0 = f32x4.mul(x, v128.load(tile, 128));
  let e1 = f32x4.mul(x, v128.load(tile, 144));
  x = v128.load32_splat(fade, 20);
  let f0 = f32x4.mul(x, v128.load(tile, 160));
  let f1 = f32x4.mul(x, v128.load(tile, 176));
  for (const end = panel + ((<usize>count) << 5); panel < end; panel += 32) {
    const p0 = v128.load(panel);
    const p1 = v128.load(panel, 16);
    x = v128.load32_splat(q);
    a0 = madd(x, p0, a0);
    a1 = madd(x, p1, a1);
    x = v128.load32_splat(q, 4);
    b0 = madd(x, p0, b0);
    b1 = madd(x, p1, b1);
    x = v128.load32_splat(q, 8);
    c0 = madd(x, p0, c0);
    c1 = madd(x, p1, c1);
    x = v128.load32_splat(q, 12);
    d0 = madd(x, p0, d0);
    d1 = madd(x, p1, d1);
    x = v128.load32_splat(q, 16);
    e0 = madd(x, p0, e0);
    e1 = madd(x, p1, e1);
    x = v128.load32_splat(q, 20);
    f0 = madd(x, p0, f0);
    f1 = madd(x, p1, f1);
    q += step;
  }
  v128.store(tile, a0);
  v128.store(tile, a1, 16);
  v128.store(tile, b0, 32);
  v128.store(tile, b1, 48);
  v128.store(tile, c0, 64);
  v128.store(tile, c1, 80);
  v128.store(tile, d0, 96);
  v128.store(tile, d1, 112);
  v128.store(tile, e0, 128);
  v128.store(tile, e1, 144);
  v128.store(tile, f0, 160);
  v128.store(tile, f1, 176);
}

/**
 * Six rows of eight numbers, `apart` bytes from one to the next: Σ_n q_n ⊗ panel_n, q and panel as above. It must have several callers, too.
 */
export function productRows(to: usize, apart: usize, q: usize, step: usize, panel: usize, count: i32): void {
  let a0 = f32x4.splat(0);
  let a1 = f32x4.splat(0);
  let b0 = f32x4.splat(0);
  let b1 = f32x4.splat(0);
  let c0 = f32x4.splat(0);
  let c1 = f32x4.splat(0);
  let d0 = f32x4.splat(0);
  let d1 = f32x4.splat(0);
  let e0 = f32x4.splat(0);
  let e1 = f32x4.splat(0);
  let f0 = f32x4.splat(0);
  let f1 = f32x4.splat(0);
  for (const end = panel + ((<usize>count) << 5); panel < end; panel += 32) {
    const p0 = v128.load(panel);
    const p1 = v128.load(panel, 16);
    let x = v128.load32_splat(q);
    a0 = madd(x, p0, a0);
    a1 = madd(x, p1, a1);
    x = v128.load32_splat(q, 4);
    b0 = madd(x, p0, b0);
    b1 = madd(x, p1, b1);
    x = v128.load32_splat(q, 8);
    c0 = madd(x, p0, c0);
    c1 = madd(x, p1, c1);
    x = v128.load32_splat(q, 12);
    d0 = madd(x, p0, d0);
    d1 = madd(x, p1, d1);
    x = v128.load32_splat(q, 16);
    e0 = madd(x, p0, e0);
    e1 = madd(x, p1, e1);
    x = v128.load32_splat(q, 20);
    f0 = madd(x, p0, f0);
    f1 = madd(x, p1, f1);
    q += step;
  }
  v128.store(to, a0);
  v128.store(to, a1, 16);
  to += apart;
  v128.store(to, b0);
  v128.store(to, b1, 16);
  to += apart;
  v128.store(to, c0);
  v128.store(to, c1, 16);
  to += apart;
  v128.store(to, d0);
  v128.store(to, d1, 16);
  to += apart;
  v128.store(to, e0);
  v128.store(to, e1, 16);
  to += apart;
  v128.store(to, f0);
  v128.store(to, f1, 16);
}
