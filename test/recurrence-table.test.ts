import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { referenceBackend } from '../src/backends/reference/index.ts';
import { Random } from '../src/core/random.ts';
import { elementCount } from '../src/core/shape.ts';
import { type Carry, input, leaf } from '../src/core/trace.ts';
import { recurrence } from '../src/ops/recurrence.ts';
import { evaluate } from '../src/verification/op-cases.ts';
import { errorRatio, tolerance } from './tolerance.ts';

const [T, H, K, V] = [7, 2, 4, 3];
const random = new Random(21);
type Rows = number[][];
const rows = (length: number, draw = () => random.normal()): Rows =>
  Array.from({ length: T }, () => Array.from({ length }, draw));
const dot = (a: readonly number[], b: readonly number[]) => a.reduce((sum, x, i) => sum + x * b[i]!, 0);
const unit = (x: number[]) => x.map((value) => value / Math.hypot(...x));
const head = (x: readonly number[], h: number, size: number) => x.slice(h * size, (h + 1) * size);
const sigmoid = (x: number) => 1 / (1 + Math.exp(-x));

/** What a row of the table gives the op, [T][…] each, and what the paper's own equation answers, [T][H·V]. */
interface Row {
  readonly inputs: Readonly<
    Record<string, { readonly shape: readonly (number | 'tokens')[]; readonly data: number[] }>
  >;
  readonly expected: Rows;
}

const tokens = (data: Rows, ...shape: number[]) => ({ shape: ['tokens' as const, ...shape], data: data.flat() });

/** Steps S [K][V] of every head by `advance`, which returns the output of a token. */
function byHand(size: [number, number], advance: (S: number[][], t: number, h: number) => number[], heads = H): Rows {
  const states = Array.from({ length: heads }, () =>
    Array.from({ length: size[0] }, () => new Array<number>(size[1]).fill(0)),
  );
  return Array.from({ length: T }, (_, t) => states.flatMap((S, h) => advance(S, t, h)));
}

/** S ← diag(α) S + k vᵀ, o = Sᵀ q: the papers' S is [K][V]. */
function fadeAndAdd(S: number[][], α: (i: number) => number, k: number[], v: number[]): void {
  for (let i = 0; i < S.length; i++) for (let j = 0; j < v.length; j++) S[i]![j] = α(i) * S[i]![j]! + k[i]! * v[j]!;
}
const read = (S: number[][], q: number[]): number[] =>
  S[0]!.map((_, j) => S.reduce((sum, row, i) => sum + q[i]! * row[j]!, 0));

const q = rows(H * K);
const k = rows(H * K);
const v = rows(H * V);
const scaled = q.map((row) => row.map((x) => x / Math.sqrt(K)));
const at = (x: Rows, t: number, h: number, size: number) => head(x[t]!, h, size);
const common = { r: tokens(scaled, H, K), k: tokens(k, H, K), v: tokens(v, H, V) };

const table: Readonly<Record<string, () => Row>> = {
  mamba() {
    // h[d, n] ← exp(Δ_d A[d, n]) h + Δ_d B[n] x_d, y_d = Σ_n C[n] h[d, n].
    const [B, C, x, Δ] = [rows(K), rows(K), rows(H), rows(H, () => random.uniform())];
    const A = Array.from({ length: H * K }, () => -1 - random.uniform());
    const expected = byHand([K, 1], (S, t, d) => {
      for (let n = 0; n < K; n++)
        S[n]![0] = Math.exp(Δ[t]![d]! * A[d * K + n]!) * S[n]![0]! + Δ[t]![d]! * B[t]![n]! * x[t]![d]!;
      return [S.reduce((sum, [h], n) => sum + C[t]![n]! * h!, 0)];
    });
    const written = x.map((row, t) => row.map((value, d) => Δ[t]![d]! * value));
    return {
      inputs: {
        r: tokens(C, 1, K),
        k: tokens(B, 1, K),
        v: tokens(written, H, 1),
        g: { shape: [H, K], data: A },
        dt: tokens(Δ, H),
      },
      expected,
    };
  },
  mamba2() {
    const [B, C, x, Δ] = [rows(K), rows(K), rows(H * V), rows(H, () => random.uniform())];
    const A = [-0.5, -1.5];
    const expected = byHand([K, V], (S, t, h) => {
      fadeAndAdd(
        S,
        () => Math.exp(Δ[t]![h]! * A[h]!),
        B[t]!,
        at(x, t, h, V).map((value) => Δ[t]![h]! * value),
      );
      return read(S, C[t]!);
    });
    const written = x.map((row, t) => row.map((value, i) => Δ[t]![Math.floor(i / V)]! * value));
    return {
      inputs: {
        r: tokens(C, 1, K),
        k: tokens(B, 1, K),
        v: tokens(written, H, V),
        g: { shape: [H, 1], data: A },
        dt: tokens(Δ, H),
      },
      expected,
    };
  },
  linear_attn: () => ({
    inputs: common,
    expected: byHand([K, V], (S, t, h) => {
      fadeAndAdd(S, () => 1, at(k, t, h, K), at(v, t, h, V));
      return read(S, at(scaled, t, h, K));
    }),
  }),
  retnet() {
    const γ = [0, 1].map((h) => 1 - 2 ** (-5 - h));
    const expected = byHand([K, V], (S, t, h) => {
      fadeAndAdd(S, () => γ[h]!, at(k, t, h, K), at(v, t, h, V));
      return read(S, at(scaled, t, h, K));
    });
    return { inputs: { ...common, g: { shape: [H, 1], data: γ.map(Math.log) } }, expected };
  },
  gla() {
    const gate = rows(H * K);
    const α = gate.map((row) => row.map((x) => sigmoid(x) ** (1 / 16)));
    const expected = byHand([K, V], (S, t, h) => {
      fadeAndAdd(S, (i) => at(α, t, h, K)[i]!, at(k, t, h, K), at(v, t, h, V));
      return read(S, at(scaled, t, h, K));
    });
    return {
      inputs: {
        ...common,
        g: tokens(
          α.map((row) => row.map(Math.log)),
          H,
          K,
        ),
      },
      expected,
    };
  },
  rwkv5() {
    const [decay, u] = [rows(H * K)[0]!, rows(H * K)[0]!];
    return rwkv56(() => decay, u, { shape: [H, K], data: decay.map((x) => -Math.exp(x)) });
  },
  rwkv6() {
    const [decay, u] = [rows(H * K), rows(H * K)[0]!];
    return rwkv56(
      (t) => decay[t]!,
      u,
      tokens(
        decay.map((row) => row.map((x) => -Math.exp(x))),
        H,
        K,
      ),
    );
  },
  delta_net: () => delta(rows(H, () => 0)),
  gated_deltanet: () => delta(rows(H, () => -random.uniform())),
  rwkv7() {
    const [w, α] = [rows(H * K, () => -random.uniform()), rows(H * K, () => random.uniform())];
    const κ = k.map((row) => [0, 1].flatMap((h) => unit(head(row, h, K))));
    // S [V][K] in the paper: S ← S diag(w) − (S κ)(κ ⊙ α)ᵀ + v kᵀ.
    const expected = byHand([V, K], (S, t, h) => {
      const [kt, κt] = [at(k, t, h, K), at(κ, t, h, K)];
      const removed = S.map((row) => dot(row, κt));
      for (let i = 0; i < V; i++) {
        S[i] = S[i]!.map(
          (s, j) =>
            s * Math.exp(at(w, t, h, K)[j]!) - removed[i]! * κt[j]! * at(α, t, h, K)[j]! + at(v, t, h, V)[i]! * kt[j]!,
        );
      }
      return S.map((row) => dot(row, at(q, t, h, K)));
    });
    const b = κ.map((row, t) => row.map((x, i) => -x * α[t]![i]!));
    return {
      inputs: {
        r: tokens(q, H, K),
        k: tokens(k, H, K),
        v: tokens(v, H, V),
        g: tokens(w, H, K),
        a: tokens(κ, H, K),
        b: tokens(b, H, K),
      },
      expected,
    };
  },
};

/** y = rᵀ (S + diag(u) k vᵀ), then S ← diag(exp(−exp(decay))) S + k vᵀ. */
function rwkv56(decay: (t: number) => number[], u: number[], g: Row['inputs'][string]): Row {
  const expected = byHand([K, V], (S, t, h) => {
    const [r, kt, vt] = [at(q, t, h, K), at(k, t, h, K), at(v, t, h, V)];
    const past = S.map((row, i) => row.map((s, j) => s + u[h * K + i]! * kt[i]! * vt[j]!));
    const y = read(past, r);
    fadeAndAdd(S, (i) => Math.exp(-Math.exp(decay(t)[h * K + i]!)), kt, vt);
    return y;
  });
  return {
    inputs: { r: tokens(q, H, K), k: tokens(k, H, K), v: tokens(v, H, V), g, u: { shape: [H, K], data: u } },
    expected,
  };
}

/** S̃ = e^g S, S = S̃ + k (β (v − S̃ᵀ k))ᵀ. */
function delta(g: Rows): Row {
  const β = rows(H, () => random.uniform());
  const keys = k.map((row) => [0, 1].flatMap((h) => unit(head(row, h, K))));
  const expected = byHand([K, V], (S, t, h) => {
    const key = at(keys, t, h, K);
    for (const row of S) for (let j = 0; j < V; j++) row[j]! *= Math.exp(g[t]![h]!);
    const held = read(S, key);
    const correction = at(v, t, h, V).map((value, j) => β[t]![h]! * (value - held[j]!));
    fadeAndAdd(S, () => 1, key, correction);
    return read(S, at(scaled, t, h, K));
  });
  const times = (factor: (t: number, h: number) => number) =>
    keys.map((row, t) => row.map((x, i) => factor(t, Math.floor(i / K)) * x));
  const [k2, b] = [times((t, h) => β[t]![h]!), times((t, h) => -β[t]![h]! * Math.exp(g[t]![h]!))];
  return {
    inputs: { ...common, k: tokens(k2, H, K), g: tokens(g, H, 1), a: tokens(keys, H, K), b: tokens(b, H, K) },
    expected,
  };
}

test.each(Object.entries(table))('%s is the recurrence with the letters of its row', (_, row) => {
  const { inputs, expected } = row();
  const tensors = Object.fromEntries(Object.entries(inputs).map(([name, { shape }]) => [name, input(name, shape)]));
  const [heads, channels, size] = [
    inputs['v']!.shape[1] as number,
    inputs['v']!.shape[2] as number,
    inputs['r']!.shape[2] as number,
  ];
  const previous = leaf({ kind: 'state', name: 'S', fill: 0 }, ['segments', heads, channels, size]);
  const ends = input('ends', ['segments'], 'i32');
  const [y, next] = recurrence({ ...(tensors as { r: never; k: never; v: never }), state: previous, ends });
  const carries: Carry[] = [{ name: 'S', shape: [heads, channels, size], fill: 0, growing: false, previous, next }];
  const counts = { tokens: T, segments: 1, outputs: T };
  const data = Object.fromEntries(Object.entries(inputs).map(([name, one]) => [name, one.data]));
  const state = new Array<number>(elementCount(previous.shape, counts)).fill(0);
  const result = evaluate(
    new Map([['y', y]]),
    carries,
    counts,
    { ...data, S: state, ends: [T] },
    referenceBackend('f64'),
  );
  expect(errorRatio(result['y']!, expected.flat())).toBeLessThan(tolerance.exact);
});

test('the page lists these rows', () => {
  const page = readFileSync(new URL('../docs/recurrence.md', import.meta.url), 'utf8');
  const listed = [...page.matchAll(/^\| `(\w+)` \|/gm)].map(([, name]) => name);
  expect(listed).toEqual(Object.keys(table));
});
