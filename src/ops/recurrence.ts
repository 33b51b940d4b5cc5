import type { Case, Op, View, Views } from '../core/op.ts';
import type { Shape } from '../core/shape.ts';
import type { Tensor } from '../core/tensor.ts';
import { apply } from '../core/trace.ts';
import { clear, forEachSegment } from './conv.ts';

const signature = {
  r: 'T G K',
  k: 'T G K',
  v: 'T H V',
  'g?': 'T H K | T H 1 | H K | H 1',
  'dt?': 'T H',
  'a?': 'T H K',
  'b?': 'T H K',
  'u?': 'H K',
  state: 'B H V K',
  ends: 'B',
} as const;

const sizes = { G: 2, K: 5, H: 2, V: 3 };
const decay = { g: 'negative' } as const;
const cases: Case[] = [
  { axes: sizes, segments: [1] },
  { axes: { G: 1, K: 1, H: 1, V: 1 }, segments: [3], optional: { g: 'T H K' }, fill: decay },
  { axes: sizes, segments: [1, 4, 2], optional: { g: 'T H K' }, fill: decay },
  { axes: sizes, segments: [3, 1], optional: { g: 'T H 1' }, fill: decay },
  { axes: sizes, segments: [3], optional: { g: 'H K' }, fill: decay },
  { axes: sizes, segments: [2, 2], optional: { g: 'H 1' }, fill: decay },
  {
    axes: { G: 1, K: 16, H: 63, V: 1 },
    segments: [5, 1, 71],
    optional: { g: 'H K', dt: true },
    fill: { ...decay, dt: 'positive' },
  },
  // One token of more channels than go together, in groups.
  {
    axes: { G: 2, K: 16, H: 150, V: 1 },
    segments: [1, 1],
    optional: { g: 'H K', dt: true },
    fill: { ...decay, dt: 'positive' },
  },
  {
    axes: { G: 2, K: 8, H: 6, V: 4 },
    segments: [5, 1],
    optional: { g: 'H 1', dt: true },
    fill: { ...decay, dt: 'positive' },
  },
  { axes: sizes, segments: [4, 1], optional: { g: 'H K', u: true }, fill: decay },
  { axes: sizes, segments: [1, 4], optional: { g: 'T H K', u: true }, fill: decay },
  {
    axes: sizes,
    segments: [4, 2],
    optional: { g: 'T H K', a: true, b: true },
    fill: { ...decay, a: 'unit', b: 'unit' },
  },
  { axes: sizes, segments: [6], optional: { g: 'T H 1', a: true, b: true }, fill: { ...decay, a: 'unit', b: 'unit' } },
  {
    axes: { G: 2, K: 64, H: 2, V: 64 },
    segments: [3, 1],
    optional: { g: 'T H K', a: true, b: true },
    fill: { ...decay, a: 'unit', b: 'unit' },
  },
  // Longer than a block of tokens, and rows that are not whole groups.
  { axes: { G: 1, K: 8, H: 2, V: 7 }, segments: [67, 1, 3], optional: { g: 'T H 1' }, fill: decay },
  { axes: { G: 2, K: 12, H: 2, V: 5 }, segments: [2, 66], optional: { g: 'H K', u: true }, fill: decay },
  {
    axes: { G: 1, K: 16, H: 2, V: 1 },
    segments: [2, 259],
    optional: { g: 'H K', dt: true },
    fill: { ...decay, dt: 'positive' },
  },
  {
    axes: { G: 2, K: 8, H: 2, V: 3 },
    segments: [65, 3],
    optional: { g: 'T H K', a: true, b: true },
    fill: { ...decay, a: 'unit', b: 'unit' },
  },
  {
    axes: { G: 1, K: 128, H: 2, V: 64 },
    segments: [2],
    optional: { g: 'H 1', dt: true },
    fill: { ...decay, dt: 'positive' },
  },
];

/** More than a run of chunks, with groups, and tokens after which nothing remains. Their gradients are sums too long for the reference's f32. */
const chunked: Case[] = [
  { axes: { G: 2, K: 13, H: 4, V: 11 }, segments: [150, 12, 47, 1], optional: { g: 'T H 1' }, fill: decay },
  { axes: { G: 1, K: 64, H: 3, V: 24 }, segments: [49, 13] },
  { axes: { G: 1, K: 16, H: 2, V: 8 }, segments: [145], optional: { g: 'H 1' }, fill: decay },
  { axes: { G: 1, K: 8, H: 3, V: 9 }, segments: [60], optional: { g: 'T H 1' }, fill: { g: 'vanishing' } },
  {
    axes: { G: 1, K: 128, H: 2, V: 64 },
    segments: [100],
    optional: { g: 'H 1', dt: true },
    fill: { ...decay, dt: 'positive' },
  },
];

/**
 * The recurrence that every linear-time model here is a case of. Each head carries a matrix S [V, K]:
 *
 *     S_t = S_{t−1} diag(w_t) + (S_{t−1} a_t) b_tᵀ + v_t k_tᵀ          y_t = S_t r_t
 *
 * with the decay given by its logarithm, w = exp(g), or in factored form, w = exp(dt ⊗ g), which is never stored. `g` is
 * per token or not and per key channel or one for the head; without it w = 1. `a` and `b` come together (delta rules).
 * With the bonus `u` the current token is read past the state: y_t = S_{t−1} r_t + (Σ u ⊙ k_t ⊙ r_t) v_t.
 * Heads share the r and k of their group (G divides H). Which letters each paper uses: docs/recurrence.md.
 */
export const recurrenceOp: Op = {
  name: 'recurrence',
  inputs: signature,
  outputs: { y: 'T H V', next: 'B H V K' },
  dtypes: { ends: 'i32' },
  state: { state: 'next' },
  reference(inputs, outputs) {
    const { v, ends, state } = inputs as Record<string, View>;
    const { y, next } = outputs as Record<string, View>;
    const [, H, V] = v!.shape as [number, number, number];
    const K = state!.shape[3]!;
    const w = new Float64Array(K);
    forEachSegment(ends!, (b, first, last) => {
      for (let h = 0; h < H; h++) {
        const from = state!.row(b) + h * V * K;
        const S = Float64Array.from(state!.data.subarray(from, from + V * K));
        for (let t = first; t < last; t++) advance(inputs, S, w, t, h, y!);
        next!.data.set(S, next!.row(b) + h * V * K);
      }
    });
  },
  grad({ inputs, gradients: { y: dy, next: dnext } }) {
    const [r, k, v, g, dt, a, b, u, state] = apply(recurrenceGradOp, { ...inputs, dy, dnext });
    return { r, k, v, g, dt, a, b, u, state };
  },
  cases: [...cases, ...chunked],
};

/** One token of one head: reads y_t and advances S. */
function advance(inputs: Views, S: Float64Array, w: Float64Array, t: number, h: number, y: View): void {
  const { r, k, v, a, b, u } = inputs as Record<string, View>;
  const [, H, V] = v!.shape as [number, number, number];
  const [, G, K] = r!.shape as [number, number, number];
  const group = Math.floor((h * G) / H) * K;
  const [rt, kt, vt, yt] = [r!.row(t) + group, k!.row(t) + group, v!.row(t) + h * V, y.row(t) + h * V];
  decays(inputs, t, h, w);
  let bonus = 0;
  for (let j = 0; u && j < K; j++) bonus += u.data[u.row(h) + j]! * k!.data[kt + j]! * r!.data[rt + j]!;
  for (let i = 0; i < V; i++) {
    const row = i * K;
    const value = v!.data[vt + i]!;
    let read = bonus * value;
    let removed = 0;
    for (let j = 0; a && j < K; j++) removed += S[row + j]! * a.data[a.row(t) + h * K + j]!;
    for (let j = 0; j < K; j++) {
      if (u) read += S[row + j]! * r!.data[rt + j]!;
      S[row + j] = S[row + j]! * w[j]! + (b ? removed * b.data[b.row(t) + h * K + j]! : 0) + value * k!.data[kt + j]!;
      if (!u) read += S[row + j]! * r!.data[rt + j]!;
    }
    y.data[yt + i] = read;
  }
}

/** Fills `w` with the decays of head h at token t. */
function decays({ g, dt }: Views, t: number, h: number, w: Float64Array): void {
  if (!g) {
    w.fill(1);
    return;
  }
  const { at, step } = decayAddress(g, t, h);
  const factor = dt ? dt.data[dt.row(t) + h]! : 1;
  for (let j = 0; j < w.length; j++) w[j] = Math.exp(g.data[at + j * step]! * factor);
}

/** Where the log-decays of head h at token t lie, and the step from one key channel to the next. */
function decayAddress(g: View, t: number, h: number): { at: number; step: number } {
  const width = g.shape.at(-1)!;
  const at = g.shape.length === 3 ? g.row(t) + h * width : g.row(h);
  return { at, step: width === 1 ? 0 : 1 };
}

/** The adjoint of `recurrence`. Gradients of operands that are absent are [1] and mean nothing. */
export const recurrenceGradOp: Op = {
  name: 'recurrenceGrad',
  inputs: { ...signature, 'dy?': 'T H V', 'dnext?': 'B H V K' },
  outputs: { dr: '*', dk: '*', dv: '*', dg: '*', ddt: '*', da: '*', db: '*', du: '*', dstate: '*' },
  infer: (inputs) =>
    ['r', 'k', 'v', 'g', 'dt', 'a', 'b', 'u', 'state'].map((name): Shape => inputs[name]?.shape ?? [1]),
  dtypes: { ends: 'i32' },
  state: { state: null },
  reference(inputs, outputs) {
    clear(outputs);
    const { v, state, ends, dnext } = inputs as Record<string, View>;
    const { dstate } = outputs as Record<string, View>;
    const [, H, V] = v!.shape as [number, number, number];
    const K = state!.shape[3]!;
    forEachSegment(ends!, (b, first, last) => {
      for (let h = 0; h < H; h++) {
        const offset = h * V * K;
        const history = statesOf(inputs, b, h, first, last);
        const dS = new Float64Array(V * K);
        if (dnext) dS.set(dnext.data.subarray(dnext.row(b) + offset, dnext.row(b) + offset + V * K));
        for (let t = last - 1; t >= first; t--) {
          const before = history.subarray((t - first) * V * K, (t - first + 1) * V * K);
          const after = history.subarray((t - first + 1) * V * K, (t - first + 2) * V * K);
          retreat(inputs, outputs, before, after, dS, t, h);
        }
        dstate!.data.set(dS, dstate!.row(b) + offset);
      }
    });
  },
  cases: cases.map((one) => ({ ...one, optional: { ...one.optional, dy: true, dnext: true } })),
};

/** The states of head h before each token of a segment and after its last, [tokens + 1, V, K]. */
function statesOf(inputs: Views, b: number, h: number, first: number, last: number): Float64Array {
  const { v, state } = inputs as Record<string, View>;
  const V = v!.shape[2]!;
  const K = state!.shape[3]!;
  const from = state!.row(b) + h * V * K;
  const S = Float64Array.from(state!.data.subarray(from, from + V * K));
  const history = new Float64Array((last - first + 1) * V * K);
  const w = new Float64Array(K);
  const ignored: View = { data: new Float64Array(v!.shape[1]! * V), shape: v!.shape, row: () => 0 };
  history.set(S, 0);
  for (let t = first; t < last; t++) {
    advance(inputs, S, w, t, h, ignored);
    history.set(S, (t - first + 1) * V * K);
  }
  return history;
}

/** One token of one head, backwards: adds to the operands' gradients and turns ∂/∂S_t into ∂/∂S_{t−1}. */
function retreat(
  inputs: Views,
  outputs: Views,
  P: Float64Array,
  S: Float64Array,
  dS: Float64Array,
  t: number,
  h: number,
): void {
  const { r, k, v, g, dt, a, b, u, dy } = inputs as Record<string, View>;
  const { dr, dk, dv, dg, ddt, da, db, du } = outputs as Record<string, View>;
  const [, H, V] = v!.shape as [number, number, number];
  const [, G, K] = r!.shape as [number, number, number];
  const group = Math.floor((h * G) / H) * K;
  const [rt, kt, vt] = [r!.row(t) + group, k!.row(t) + group, v!.row(t) + h * V];
  const w = new Float64Array(K);
  decays(inputs, t, h, w);
  const arriving = (i: number) => (dy ? dy.data[dy.row(t) + h * V + i]! : 0);

  // The read: y = S r, or past the state with the bonus u.
  let vdy = 0;
  let ruk = 0;
  for (let i = 0; i < V; i++) vdy += v!.data[vt + i]! * arriving(i);
  for (let j = 0; j < K; j++) {
    const [rj, kj, uj] = [r!.data[rt + j]!, k!.data[kt + j]!, u ? u.data[u.row(h) + j]! : 0];
    ruk += rj * uj * kj;
    let read = 0;
    for (let i = 0; i < V; i++) {
      read += (u ? P : S)[i * K + j]! * arriving(i);
      if (!u) dS[i * K + j]! += arriving(i) * rj;
    }
    dr!.data[dr!.row(t) + group + j]! += read + uj * kj * vdy;
    dk!.data[dk!.row(t) + group + j]! += rj * uj * vdy;
    if (u) du!.data[du!.row(h) + j]! += rj * kj * vdy;
  }
  for (let i = 0; i < V; i++) dv!.data[dv!.row(t) + h * V + i]! += ruk * arriving(i);

  // The write v kᵀ, and the decay.
  for (let i = 0; i < V; i++) {
    for (let j = 0; j < K; j++) {
      dk!.data[dk!.row(t) + group + j]! += dS[i * K + j]! * v!.data[vt + i]!;
      dv!.data[dv!.row(t) + h * V + i]! += dS[i * K + j]! * k!.data[kt + j]!;
    }
  }
  if (g) {
    const from = decayAddress(g, t, h);
    const to = decayAddress({ ...dg!, shape: g.shape, row: (n) => dg!.row(n) }, t, h);
    const factor = dt ? dt.data[dt.row(t) + h]! : 1;
    for (let j = 0; j < K; j++) {
      let dw = 0;
      for (let i = 0; i < V; i++) dw += dS[i * K + j]! * P[i * K + j]!;
      const dlog = dw * w[j]!;
      dg!.data[to.at + j * to.step]! += dlog * factor;
      if (dt) ddt!.data[ddt!.row(t) + h]! += dlog * g.data[from.at + j * from.step]!;
    }
  }

  // The removal (S a) bᵀ, and on to the state before.
  const dsa = new Float64Array(V);
  if (a && b) {
    const [at, bt] = [a.row(t) + h * K, b.row(t) + h * K];
    for (let i = 0; i < V; i++) {
      let sa = 0;
      for (let j = 0; j < K; j++) {
        sa += P[i * K + j]! * a.data[at + j]!;
        dsa[i]! += dS[i * K + j]! * b.data[bt + j]!;
      }
      for (let j = 0; j < K; j++) {
        db!.data[db!.row(t) + h * K + j]! += dS[i * K + j]! * sa;
        da!.data[da!.row(t) + h * K + j]! += P[i * K + j]! * dsa[i]!;
      }
    }
  }
  for (let i = 0; i < V; i++) {
    for (let j = 0; j < K; j++) {
      const removal = a ? dsa[i]! * a.data[a.row(t) + h * K + j]! : 0;
      const read = u ? arriving(i) * r!.data[rt + j]! : 0;
      dS[i * K + j] = dS[i * K + j]! * w[j]! + removal + read;
    }
  }
}

/** Operands of `recurrence`; shapes as in `recurrenceOp`. */
export interface RecurrenceInputs {
  /** What the output reads, [tokens, G, K]: C in Mamba, q in linear attention, r in RWKV. */
  readonly r: Tensor;
  /** The address written to, [tokens, G, K]: B in Mamba. */
  readonly k: Tensor;
  /** What is written, [tokens, H, V]: Δx in Mamba. */
  readonly v: Tensor;
  /** Logarithm of the decay, [tokens, H, K or 1] or [H, K or 1]; 0 without. */
  readonly g?: Tensor | undefined;
  /** Factor of `g` per token and head, [tokens, H]: Δ in Mamba. */
  readonly dt?: Tensor | undefined;
  /** Direction that is removed from the state, and where it is put back, [tokens, H, K] each. */
  readonly a?: Tensor | undefined;
  readonly b?: Tensor | undefined;
  /** Bonus of the current token, [H, K]. */
  readonly u?: Tensor | undefined;
  /** S before each segment, [segments, H, V, K]. */
  readonly state: Tensor;
  /** Where segments end, i32 [segments]. */
  readonly ends: Tensor;
}

/** Runs the recurrence; returns y [tokens, H, V] and the state after each segment. */
export function recurrence(inputs: RecurrenceInputs): [Tensor, Tensor] {
  const [y, next] = apply(recurrenceOp, { ...inputs });
  return [y!, next!];
}
