import type { Node } from '../../core/tensor.ts';
import { noNorms, type ReadMap, type TokenNorms } from './inspection.ts';
import type { Probe, ProbedBlock } from './probe.ts';
import { sharesOf } from './read-map.ts';

/**
 * Looks at `wkv4`, the weighted average y_t = (a + e^(u+k_t) v_t) / (b + e^(u+k_t)), then a ← e^w a + e^(k_t) v_t and
 * b ← e^w b + e^(k_t). Every channel is a head. The sum of weights b is the state that is measured: a is the same sum of v.
 * Maps are the weights of the average: e^((t−1−s) w + k_s) for s < t, and e^(u+k_t).
 */
export class Wkv4Probe implements Probe {
  readonly heads: number;
  readonly #keepsMaps: boolean;
  /** k of all tokens so far, by channel. */
  readonly #k: number[][];
  #w: ArrayLike<number> = [];
  #u: ArrayLike<number> = [];
  /** ln b before the text, by channel. */
  #start: Float64Array | undefined;

  constructor({ inputs: { k } }: Node, keepsMaps: boolean) {
    this.heads = k!.shape[1] as number;
    this.#keepsMaps = keepsMaps;
    this.#k = Array.from({ length: this.heads }, () => []);
  }

  observe(block: ProbedBlock, tell: (token: number, head: number, norms: TokenNorms) => void): void {
    const { operands, states, tokens } = block;
    const { k, v, w, u } = operands;
    const C = this.heads;
    const [num, den, max] = ['num', 'den', 'max'].map((name) => Float64Array.from(states[name]!)) as [
      Float64Array,
      Float64Array,
      Float64Array,
    ];
    if (!this.#start) {
      this.#start = den.map((b, c) => Math.log(b) + max[c]!);
      [this.#w, this.#u] = [Float64Array.from(w!.data), Float64Array.from(u!.data)];
    }
    for (let t = 0; t < tokens; t++) {
      for (let c = 0; c < C; c++) {
        const [kt, vt, wc] = [k!.data[t * C + c]!, v!.data[t * C + c]!, w!.data[c]!];
        if (this.#keepsMaps) this.#k[c]!.push(kt);
        const norms = noNorms();
        const now = u!.data[c]! + kt;
        const top = Math.max(max[c]!, now);
        const [old, own] = [Math.exp(max[c]! - top), Math.exp(now - top)];
        const whole = old * den[c]! + own;
        norms.own = ((own * vt) / whole) ** 2;
        norms.past = ((old * num[c]!) / whole) ** 2;
        norms.read = ((old * num[c]! + own * vt) / whole) ** 2;

        const next = Math.max(max[c]! + wc, kt);
        const [kept, added] = [Math.exp(max[c]! + wc - next), Math.exp(kt - next)];
        // Channels differ in scale, so each counts by the share of the whole that it keeps.
        const sum = kept * den[c]! + added;
        norms.before = ((kept * den[c]!) / Math.exp(wc) / sum) ** 2;
        norms.kept = ((kept * den[c]!) / sum) ** 2;
        norms.changed = (added / sum) ** 2;
        norms.decay = Math.exp(wc);
        num[c] = kept * num[c]! + added * vt;
        den[c] = sum;
        max[c] = next;
        tell(t, c, norms);
      }
    }
  }

  map(head: number): ReadMap {
    const k = this.#k[head]!;
    const [w, u, start] = [this.#w[head]!, this.#u[head]!, this.#start![head]!];
    const T = k.length;
    const parts = new Float64Array(T * T);
    const before = new Float64Array(T);
    for (let t = 0; t < T; t++) {
      const exponents = Float64Array.from({ length: t + 1 }, (_, s) => (s < t ? (t - 1 - s) * w + k[s]! : u + k[t]!));
      const held = start + t * w;
      const top = Math.max(
        held,
        exponents.reduce((a, b) => Math.max(a, b)),
      );
      for (const [s, exponent] of exponents.entries()) parts[t * T + s] = Math.exp(exponent - top);
      before[t] = Math.exp(held - top);
    }
    return sharesOf(parts, before);
  }
}
