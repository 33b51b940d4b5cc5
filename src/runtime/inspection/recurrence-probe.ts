import type { Node } from '../../core/tensor.ts';
import { noNorms, type ReadMap, type TokenNorms } from './inspection.ts';
import type { Probe, ProbedBlock, Tapped } from './probe.ts';
import { sharesOf } from './read-map.ts';

/** What one token brings to one head, in double precision. */
interface Token {
  readonly r: Float64Array;
  readonly k: Float64Array;
  readonly v: Float64Array;
  readonly w: Float64Array;
  readonly a: Float64Array | undefined;
  readonly b: Float64Array | undefined;
}

/**
 * Looks at `recurrence`, S_t = S_{t−1} diag(w_t) + (S_{t−1} a_t) b_tᵀ + v_t k_tᵀ, y_t = S_t r_t.
 *
 * What a token changes is (S_{t−1} a_t) b_tᵀ + v_t k_tᵀ. Unrolled, the output is a sum over all tokens before, the attention
 * that hides in the recurrence (Ali et al. 2024, arXiv 2403.01590):
 *
 *     y_t = Σ_{s≤t} A_ts v_s + S_0 P_1 … P_t r_t,    A_ts = k_sᵀ P_{s+1} … P_t r_t,    P_t = diag(w_t) + a_t b_tᵀ
 *
 * and the share of token s in token t's reading is |A_ts| ‖v_s‖ over the sum of all such.
 */
export class RecurrenceProbe implements Probe {
  readonly heads: number;
  readonly #G: number;
  readonly #K: number;
  readonly #V: number;
  readonly #keepsMaps: boolean;
  /** All tokens so far, by head. */
  readonly #history: Token[][];
  #bonus: Float64Array[] = [];
  #start: Float32Array | undefined;

  constructor({ inputs: { r, v } }: Node, keepsMaps: boolean) {
    [, this.heads, this.#V] = v!.shape as [unknown, number, number];
    [, this.#G, this.#K] = r!.shape as [unknown, number, number];
    this.#keepsMaps = keepsMaps;
    this.#history = Array.from({ length: this.heads }, () => []);
  }

  observe(block: ProbedBlock, tell: (token: number, head: number, norms: TokenNorms) => void): void {
    const { operands, states, tokens } = block;
    const H = this.heads;
    const size = this.#V * this.#K;
    const { u } = operands;
    const S = Float64Array.from(states['state']!);
    this.#start ??= states['state']!.slice();
    if (u) this.#bonus = Array.from({ length: H }, (_, h) => rowOf(u, h, this.#K));
    for (let t = 0; t < tokens; t++) {
      for (let h = 0; h < H; h++) {
        const token = this.#token(operands, t, h);
        if (this.#keepsMaps) this.#history[h]!.push(token);
        tell(t, h, advance(S.subarray(h * size, (h + 1) * size), token, this.#bonus[h]));
      }
    }
  }

  #token({ r, k, v, g, dt, a, b }: ProbedBlock['operands'], t: number, h: number): Token {
    const [H, G, K, V] = [this.heads, this.#G, this.#K, this.#V];
    const group = t * G + Math.floor((h * G) / H);
    const head = t * H + h;
    const factor = dt ? dt.data[head]! : 1;
    const w = new Float64Array(K).fill(1);
    if (g) {
      const width = g.shape.at(-1)!;
      const row = (g.shape.length === 3 ? head : h) * width;
      for (let j = 0; j < K; j++) w[j] = Math.exp(g.data[row + (width === 1 ? 0 : j)]! * factor);
    }
    return {
      r: rowOf(r!, group, K),
      k: rowOf(k!, group, K),
      v: rowOf(v!, head, V),
      w,
      a: a && rowOf(a, head, K),
      b: b && rowOf(b, head, K),
    };
  }

  map(head: number): ReadMap {
    const tokens = this.#history[head]!;
    const T = tokens.length;
    const { weights, before } = this.attention(head);
    for (let s = 0; s < T; s++) {
      const length = Math.hypot(...tokens[s]!.v);
      for (let t = s; t < T; t++) weights[t * T + s] = Math.abs(weights[t * T + s]!) * length;
    }
    const lengths = Float64Array.from({ length: T }, (_, t) => Math.hypot(...before[t]!));
    return sharesOf(weights, lengths);
  }

  /** A_ts of a head, [tokens, tokens], and what of y_t came from the state before the text, [tokens][V]. */
  attention(head: number): { weights: Float64Array; before: Float64Array[] } {
    const tokens = this.#history[head]!;
    const [T, K, V] = [tokens.length, this.#K, this.#V];
    const u = this.#bonus[head];
    const start = this.#start!.subarray(head * V * K, (head + 1) * V * K);
    const startsEmpty = start.every((x) => x === 0);
    const weights = new Float64Array(T * T);
    const before: Float64Array[] = [];
    const x = new Float64Array(K);
    for (let t = 0; t < T; t++) {
      const { r, k } = tokens[t]!;
      x.set(r);
      weights[t * T + t] = u ? dot3(u, k, r) : dot(k, r);
      // With the bonus, y_t reads the state that its own decay has not touched yet.
      if (!u) back(tokens[t]!, x);
      for (let s = t - 1; s >= 0; s--) {
        weights[t * T + s] = dot(tokens[s]!.k, x);
        back(tokens[s]!, x);
      }
      const rest = new Float64Array(V);
      if (!startsEmpty) for (let i = 0; i < V; i++) rest[i] = dot(start.subarray(i * K, (i + 1) * K), x);
      before.push(rest);
    }
    return { weights, before };
  }
}

/** x ← P x = diag(w) x + a (bᵀ x). */
function back({ w, a, b }: Token, x: Float64Array): void {
  const bx = b ? dot(b, x) : 0;
  for (let j = 0; j < x.length; j++) x[j] = w[j]! * x[j]! + (a ? a[j]! * bx : 0);
}

/** Takes a head's state S [V, K] past one token, and measures it on the way. */
function advance(S: Float64Array, { r, k, v, w, a, b }: Token, u: Float64Array | undefined): TokenNorms {
  const norms = noNorms();
  const K = w.length;
  const own = u ? dot3(u, k, r) : dot(k, r);
  const bb = b ? dot(b, b) : 0;
  for (let i = 0; i < v.length; i++) {
    const row = S.subarray(i * K, (i + 1) * K);
    const removed = a ? dot(row, a) : 0;
    norms.erased += removed * removed * bb;
    let read = 0;
    for (let j = 0; j < K; j++) {
      const old = row[j]!;
      const kept = old * w[j]!;
      const change = v[i]! * k[j]! + (b ? removed * b[j]! : 0);
      norms.before += old * old;
      norms.kept += kept * kept;
      norms.changed += change * change;
      row[j] = kept + change;
      read += (u ? old : row[j]!) * r[j]!;
    }
    if (u) read += own * v[i]!;
    norms.read += read * read;
    norms.own += (own * v[i]!) ** 2;
    norms.past += (read - own * v[i]!) ** 2;
  }
  norms.decay = Math.sqrt(dot(w, w) / K);
  return norms;
}

const rowOf = ({ data }: Tapped, row: number, width: number): Float64Array =>
  Float64Array.from({ length: width }, (_, j) => data[row * width + j]!);

function dot(a: ArrayLike<number>, b: ArrayLike<number>): number {
  let sum = 0;
  for (let j = 0; j < b.length; j++) sum += a[j]! * b[j]!;
  return sum;
}

function dot3(a: ArrayLike<number>, b: ArrayLike<number>, c: ArrayLike<number>): number {
  let sum = 0;
  for (let j = 0; j < c.length; j++) sum += a[j]! * b[j]! * c[j]!;
  return sum;
}
