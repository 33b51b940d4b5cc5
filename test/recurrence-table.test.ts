import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { referenceBackend } from '../src/backends/reference/index.ts';
import { reachable } from '../src/core/grad.ts';
import { Random } from '../src/core/random.ts';
import { elementCount } from '../src/core/shape.ts';
import type { Tensor } from '../src/core/tensor.ts';
import { type Carry, input, leaf } from '../src/core/trace.ts';
import { recurrence } from '../src/ops/recurrence.ts';
import { evaluate } from '../src/verification/op-cases.ts';
import { type Letters, mathematics } from './cell-mathematics.ts';
import { lookAt } from './looked-at.ts';
import { errorRatio, tolerance } from './tolerance.ts';

const page = readFileSync(new URL('../docs/recurrence.md', import.meta.url), 'utf8');
/** The table as the page has it: cells by column, by model. */
const rowsOfPage = new Map(
  [...page.matchAll(/^\| `(\w+)` \|(.*)\|$/gm)].map(([, name, cells]) => {
    const [r, k, v, w, a, b, u, ...rest] = cells!.split('|').map((cell) => cell.trim());
    if (u === undefined || rest.length > 0) throw new Error(`the row of ${name} has another number of cells`);
    return [name!, { r, k, v, w, a, b, u } as Record<Column, string>];
  }),
);
type Column = 'r' | 'k' | 'v' | 'w' | 'a' | 'b' | 'u';
const columns: readonly Column[] = ['r', 'k', 'v', 'w', 'a', 'b', 'u'];
/** A cell's formula, and what it says besides; no formula where it says that there is none. */
function parts(cell: string): { formula: string | undefined; note: string } {
  const [formula, ...notes] = cell.split(', ');
  return { formula: formula === '–' ? undefined : formula, note: notes.join(', ') };
}

const [T, H, K, V] = [7, 2, 4, 3];
const random = new Random(21);
const dot = (a: readonly number[], b: readonly number[]) => a.reduce((sum, x, i) => sum + x * b[i]!, 0);
const unit = (x: readonly number[]) => x.map((value) => value / Math.hypot(...x));
const sigmoid = (x: number) => 1 / (1 + Math.exp(-x));
const φ = (x: number) => (x > 0 ? x + 1 : Math.exp(x));

type Vectors = number[][][];
/** A vector of `size` numbers for every token and head. */
const vectors = (size: number, draw = () => random.normal()): Vectors =>
  Array.from({ length: T }, () => Array.from({ length: H }, () => Array.from({ length: size }, draw)));
/** The same vector for all heads, or for all tokens. */
const shared = (x: Vectors): Vectors => x.map((heads) => heads.map(() => heads[0]!));
const fixed = (x: Vectors): Vectors => x.map(() => x[0]!);
/** A letter that stands for a vector's elements, or for one number where it has one. */
const elements =
  (x: Vectors): Letters[string] =>
  ({ t, h, i }) =>
    x[t]![h]![x[t]![h]!.length === 1 ? 0 : i]!;

/** What the letters of a row stand for, and what the paper's own equation answers: V numbers for every token and head. */
interface Paper {
  readonly letters: Letters;
  readonly V?: number;
  readonly expected: Vectors;
}

/** Steps a matrix [rows][columns] of every head by the paper's equation, which returns the output of a token. */
function byHand(rows: number, columns: number, advance: (S: number[][], t: number, h: number) => number[]): Vectors {
  const states = Array.from({ length: H }, () =>
    Array.from({ length: rows }, () => new Array<number>(columns).fill(0)),
  );
  return Array.from({ length: T }, (_, t) => states.map((S, h) => advance(S, t, h)));
}

/** S ← diag(α) S + k vᵀ, o = Sᵀ q: the papers' S is [K][V]. */
function fadeAndAdd(S: number[][], α: (i: number) => number, k: readonly number[], v: readonly number[]): void {
  for (let i = 0; i < S.length; i++) for (let j = 0; j < v.length; j++) S[i]![j] = α(i) * S[i]![j]! + k[i]! * v[j]!;
}
const read = (S: number[][], q: readonly number[]): number[] =>
  S[0]!.map((_, j) => S.reduce((sum, row, i) => sum + q[i]! * row[j]!, 0));
const over = (x: readonly number[], by: number) => x.map((value) => value / by);

const papers: Readonly<Record<string, () => Paper>> = {
  mamba() {
    // h[d, n] ← exp(Δ_d A[d, n]) h + Δ_d B[n] x_d, y_d = Σ_n C[n] h[d, n].
    const [B, C, x, Δ] = [shared(vectors(K)), shared(vectors(K)), vectors(1), vectors(1, () => random.uniform())];
    const A = fixed(vectors(K, () => -1 - random.uniform()));
    const expected = byHand(K, 1, (S, t, d) => {
      const [step] = Δ[t]![d]!;
      for (let n = 0; n < K; n++)
        S[n]![0] = Math.exp(step! * A[t]![d]![n]!) * S[n]![0]! + step! * B[t]![d]![n]! * x[t]![d]![0]!;
      return [S.reduce((sum, [h], n) => sum + C[t]![d]![n]! * h!, 0)];
    });
    return { letters: named({ B_t: B, C_t: C, x_t: x, Δ_t: Δ, A }), V: 1, expected };
  },
  mamba2() {
    const [B, C, x, Δ] = [shared(vectors(K)), shared(vectors(K)), vectors(V), vectors(1, () => random.uniform())];
    const A = fixed(vectors(1, () => -1 - random.uniform()));
    const expected = byHand(K, V, (S, t, h) => {
      const step = Δ[t]![h]![0]!;
      fadeAndAdd(
        S,
        () => Math.exp(step * A[t]![h]![0]!),
        B[t]![h]!,
        x[t]![h]!.map((value) => step * value),
      );
      return read(S, C[t]![h]!);
    });
    return { letters: named({ B_t: B, C_t: C, x_t: x, Δ_t: Δ, A }), expected };
  },
  linear_attn() {
    const [q, k, v] = queriesKeysValues();
    const expected = byHand(K, V, (S, t, h) => {
      fadeAndAdd(S, () => 1, k[t]![h]!.map(φ), v[t]![h]!);
      return read(S, over(q[t]![h]!.map(φ), Math.sqrt(K)));
    });
    return { letters: named({ q_t: q, k_t: k, v_t: v }), expected };
  },
  retnet() {
    const [q, k, v] = queriesKeysValues();
    const γ = [0.96875, 0.984375]; // 1 − 1/32, 1 − 1/64
    const expected = byHand(K, V, (S, t, h) => {
      fadeAndAdd(S, () => γ[h]!, k[t]![h]!, v[t]![h]!);
      return read(S, over(q[t]![h]!, Math.sqrt(K)));
    });
    return { letters: named({ q_t: q, k_t: k, v_t: v }), expected };
  },
  gla() {
    const [q, k, v] = queriesKeysValues();
    const gate = vectors(K);
    const expected = byHand(K, V, (S, t, h) => {
      fadeAndAdd(S, (i) => sigmoid(gate[t]![h]![i]!) ** (1 / 16), k[t]![h]!, v[t]![h]!);
      return read(S, over(q[t]![h]!, Math.sqrt(K)));
    });
    return { letters: named({ q_t: q, k_t: k, v_t: v, gate_t: gate }), expected };
  },
  rwkv5: () => rwkv56('decay', fixed(vectors(K))),
  rwkv6: () => rwkv56('decay_t', vectors(K)),
  delta_net: () => delta(vectors(1, () => 0)),
  gated_deltanet: () => delta(vectors(1, () => -random.uniform())),
  rwkv7() {
    const [r, k, v] = queriesKeysValues();
    const [w, α] = [vectors(K), vectors(K, () => random.uniform())];
    const κ = vectors(K).map((heads) => heads.map(unit));
    // S [V][K] in the paper: S ← S diag(w) − (S κ)(κ ⊙ α)ᵀ + v kᵀ.
    const expected = byHand(V, K, (S, t, h) => {
      const removed = S.map((row) => dot(row, κ[t]![h]!));
      for (let i = 0; i < V; i++)
        S[i] = S[i]!.map(
          (s, j) =>
            s * Math.exp(-0.6065306597126334 * sigmoid(w[t]![h]![j]!)) -
            removed[i]! * κ[t]![h]![j]! * α[t]![h]![j]! +
            v[t]![h]![i]! * k[t]![h]![j]!,
        );
      return S.map((row) => dot(row, r[t]![h]!));
    });
    return { letters: named({ r_t: r, k_t: k, v_t: v, w_t: w, κ_t: κ, α_t: α }), expected };
  },
};

const named = (letters: Readonly<Record<string, Vectors>>): Letters =>
  Object.fromEntries(Object.entries(letters).map(([name, x]) => [name, elements(x)]));
const queriesKeysValues = (): [Vectors, Vectors, Vectors] => [vectors(K), vectors(K), vectors(V)];

/** y = rᵀ (S + diag(u) k vᵀ), then S ← diag(exp(−exp(decay))) S + k vᵀ. */
function rwkv56(letter: string, decay: Vectors): Paper {
  const [r, k, v] = queriesKeysValues();
  const u = fixed(vectors(K));
  const expected = byHand(K, V, (S, t, h) => {
    const [kt, vt] = [k[t]![h]!, v[t]![h]!];
    const y = read(
      S.map((row, i) => row.map((s, j) => s + u[t]![h]![i]! * kt[i]! * vt[j]!)),
      r[t]![h]!,
    );
    fadeAndAdd(S, (i) => Math.exp(-Math.exp(decay[t]![h]![i]!)), kt, vt);
    return y;
  });
  return { letters: named({ r_t: r, k_t: k, v_t: v, u, [letter]: decay }), expected };
}

/** S̃ = e^g S, S = S̃ + k (β (v − S̃ᵀ k))ᵀ. */
function delta(g: Vectors): Paper {
  const [q, , v] = queriesKeysValues();
  const β = vectors(1, () => random.uniform());
  const k = vectors(K).map((heads) => heads.map(unit));
  const expected = byHand(K, V, (S, t, h) => {
    for (const row of S) for (let j = 0; j < V; j++) row[j]! *= Math.exp(g[t]![h]![0]!);
    const held = read(S, k[t]![h]!);
    const correction = v[t]![h]!.map((value, j) => β[t]![h]![0]! * (value - held[j]!));
    fadeAndAdd(S, () => 1, k[t]![h]!, correction);
    return read(S, over(q[t]![h]!, Math.sqrt(K)));
  });
  return { letters: named({ q_t: q, k_t: k, v_t: v, β_t: β, g_t: g }), expected };
}

/** Runs the op on numbers given by operand, each with its shape after the tokens' (or whole, where it is the same for all). */
function run(given: Readonly<Record<string, { shape: readonly (number | 'tokens')[]; data: number[] }>>): number[] {
  const size = given['v']!.shape[2] as number;
  const tensors = Object.fromEntries(Object.entries(given).map(([name, { shape }]) => [name, input(name, shape)]));
  const previous = leaf({ kind: 'state', name: 'S', fill: 0 }, ['segments', H, size, K]);
  const ends = input('ends', ['segments'], 'i32');
  const [y, next] = recurrence({ ...(tensors as { r: never; k: never; v: never }), state: previous, ends });
  const carries: Carry[] = [{ name: 'S', shape: [H, size, K], fill: 0, growing: false, previous, next }];
  const counts = { tokens: T, segments: 1, outputs: T };
  const data = Object.fromEntries(Object.entries(given).map(([name, one]) => [name, one.data]));
  const state = new Array<number>(elementCount(previous.shape, counts)).fill(0);
  const roots = new Map([['y', y]]);
  return evaluate(roots, carries, counts, { ...data, S: state, ends: [T] }, referenceBackend('f64'))['y']!;
}

test('the page has a row for each of these papers', () => {
  expect([...rowsOfPage.keys()]).toEqual(Object.keys(papers));
});

describe.each([...rowsOfPage])('%s', (name, cells) => {
  test('is the recurrence with what its cells say', () => {
    const { letters, V: size = V, expected } = papers[name]!();
    const given: Record<string, { shape: readonly (number | 'tokens')[]; data: number[] }> = {};
    for (const column of columns) {
      const { formula } = parts(cells[column]);
      if (formula === undefined) continue;
      const width = column === 'v' ? size : K;
      const value = mathematics(formula, { ...letters, K: () => K, h: ({ h }) => h }, { φ });
      const data = Array.from({ length: (column === 'u' ? 1 : T) * H * width }, (_, n) =>
        value({ t: Math.floor(n / (H * width)), h: Math.floor(n / width) % H, i: n % width }),
      );
      given[column === 'w' ? 'g' : column] = {
        shape: column === 'u' ? [H, width] : ['tokens', H, width],
        data,
      };
    }
    expect(errorRatio(run(given), expected.flat(2))).toBeLessThan(tolerance.exact);
  });

  test('has the operands that its model gives the op', () => {
    const { inputs } = lookAt(name).op('recurrence');
    const { g, dt } = inputs;
    for (const column of columns) {
      const { formula, note } = parts(cells[column]);
      if (column === 'w') {
        const [heads, channels] = [inputs['v']!.shape[1], inputs['r']!.shape[2]];
        const shapes: Readonly<Record<string, readonly unknown[]>> = {
          'per channel and state': [heads, channels, 'dt'],
          'per key channel': ['tokens', heads, channels],
          'fixed per key channel': [heads, channels],
          'one per head': dt ? [heads, 1, 'dt'] : ['tokens', heads, 1],
          'fixed per head': [heads, 1],
        };
        // A decay of 0 is none.
        expect(formula === '0', 'no decay').toBe(g === undefined);
        if (g) expect([...g.shape, ...(dt ? ['dt'] : [])], `log w, ${note}`).toEqual(shapes[note]);
      } else {
        expect(inputs[column] !== undefined, `${column} is there`).toBe(formula !== undefined);
        const isRotated = inputs[column] !== undefined && isMadeBy('rope', inputs[column]);
        const isChannel = column === 'v' && inputs['v']!.shape[2] === 1;
        const found = [isRotated && 'rotated', isChannel && 'a channel is a head, V = 1'].filter(Boolean).join(', ');
        expect(note, column).toBe(found);
      }
    }
  });
});

const isMadeBy = (op: string, tensor: Tensor): boolean =>
  [...reachable([tensor.node])].some((node) => node.op?.name === op && /layers\.0\./.test(node.path));

describe('the equations above the table', () => {
  const operand = (size: number, draw?: () => number) => vectors(size, draw);
  const [r, k, v, a, b] = [operand(K), operand(K), operand(V), operand(K, () => 0.3 * random.normal()), operand(K)];
  const g = operand(K, () => -random.uniform());
  const u = fixed(operand(K));
  const tokens = (x: Vectors) => ({ shape: ['tokens', H, x[0]![0]!.length] as const, data: x.flat(2) });
  /** S_t from S_{t−1}, [V][K]. */
  const next = (S: number[][], t: number, h: number) => {
    for (const [i, row] of S.entries()) {
      const read = dot(row, a[t]![h]!);
      for (let j = 0; j < K; j++)
        row[j] = row[j]! * Math.exp(g[t]![h]![j]!) + read * b[t]![h]![j]! + v[t]![h]![i]! * k[t]![h]![j]!;
    }
  };

  test('the recurrence', () => {
    expect(page).toContain(
      '$$S_t = S_{t-1}\\,\\mathrm{diag}(w_t) + (S_{t-1} a_t)\\, b_t^\\top + v_t k_t^\\top \\qquad y_t = S_t r_t$$',
    );
    const expected = byHand(V, K, (S, t, h) => {
      next(S, t, h);
      return S.map((row) => dot(row, r[t]![h]!));
    });
    const given = { r: tokens(r), k: tokens(k), v: tokens(v), a: tokens(a), b: tokens(b), g: tokens(g) };
    expect(errorRatio(run(given), expected.flat(2))).toBeLessThan(tolerance.exact);
  });

  test('the decay in factors', () => {
    expect(page).toContain('w = exp(g), or in factored form, w = exp(dt · g)');
    const [A, dt] = [fixed(g), vectors(1, () => random.uniform())];
    const product = A.map((heads, t) => heads.map((row, h) => row.map((x) => x * dt[t]![h]![0]!)));
    const given = { r: tokens(r), k: tokens(k), v: tokens(v) };
    const factored = {
      g: { shape: [H, K], data: A[0]!.flat() },
      dt: { shape: ['tokens', H] as const, data: dt.flat(2) },
    };
    expect(errorRatio(run({ ...given, ...factored }), run({ ...given, g: tokens(product) }))).toBeLessThan(
      tolerance.exact,
    );
  });

  test('the bonus', () => {
    expect(page).toContain('y_t = S_{t−1} r_t + (Σ u ⊙ k_t ⊙ r_t) v_t');
    const expected = byHand(V, K, (S, t, h) => {
      const bonus = dot(
        u[t]![h]!.map((x, j) => x * k[t]![h]![j]!),
        r[t]![h]!,
      );
      const y = S.map((row, i) => dot(row, r[t]![h]!) + bonus * v[t]![h]![i]!);
      for (const [i, row] of S.entries())
        for (let j = 0; j < K; j++) row[j] = row[j]! * Math.exp(g[t]![h]![j]!) + v[t]![h]![i]! * k[t]![h]![j]!;
      return y;
    });
    const given = { r: tokens(r), k: tokens(k), v: tokens(v), g: tokens(g), u: { shape: [H, K], data: u[0]!.flat() } };
    expect(errorRatio(run(given), expected.flat(2))).toBeLessThan(tolerance.exact);
  });
});
