/**
 * What one layer did with a text, in the same terms for every architecture. All are per token; `‖·‖` is the Frobenius norm over
 * a head's state, or over all heads' together.
 */
export interface LayerQuantities {
  /** Share of the state after the token that the token put there, 0 to 1: ‖change‖ / (‖what was kept‖ + ‖change‖). */
  readonly write: Float32Array;
  /** What the token's decay left of the state before, 0 to 1: ‖S_{t−1} diag(w_t)‖ / ‖S_{t−1}‖. 1 keeps everything. */
  readonly keep: Float32Array;
  /** How many such tokens it takes until 1/e of the state is left: −1 / ln keep. Infinite where nothing fades. */
  readonly memory: Float32Array;
  /** What a delta rule took out of the state before it wrote, 0 where there is none: ‖(S_{t−1} a_t) b_tᵀ‖ / ‖S_{t−1}‖. */
  readonly erase: Float32Array;
  /** Length of what the layer read from its state, ‖y_t‖, in the units of v. */
  readonly read: Float32Array;
  /** Share of what was read that came from before the token, 0 to 1. */
  readonly past: Float32Array;
}

export const quantityNames = ['write', 'keep', 'memory', 'erase', 'read', 'past'] as const;
export type QuantityName = (typeof quantityNames)[number];

/** From which tokens each token read: rows sum to 1. */
export interface ReadMap {
  /** Share of token t's reading that came from token s of the text, [tokens, tokens], 0 for s > t. */
  readonly weights: Float32Array;
  /** Share that came from before the text, [tokens]. */
  readonly before: Float32Array;
}

export interface LayerInspection extends LayerQuantities {
  /** The node of the model's graph, such as `layers.3.mixer/recurrence`. */
  readonly path: string;
  /** The op that looks along time: `recurrence`, `attention` or `wkv4`. */
  readonly op: string;
  /** Heads H; in Mamba and RWKV-4 every channel is one. */
  readonly heads: number;
  /** The same for every head, [tokens, heads] each. With `heads: true`. */
  readonly byHead: LayerQuantities | undefined;
  /** The mean of the heads' maps. With `maps: 'layers'` or `'heads'`. */
  readonly map: ReadMap | undefined;
  /** Every head's. With `maps: 'heads'`. */
  readonly headMaps: readonly ReadMap[] | undefined;
}

/** A text as a model saw it. */
export interface Inspection {
  /** The architecture's `model_type`. */
  readonly type: string;
  /** Tokens that the session held before. */
  readonly position: number;
  readonly tokens: readonly number[];
  /** Each token as text, the bytes of a part of a character as `\xF0`; empty without a tokenizer. */
  readonly pieces: readonly string[];
  /** −ln p of each token given all before, in nats; NaN where nothing came before, and for classifiers. */
  readonly surprise: Float32Array;
  /** The layers that look along time, in order. */
  readonly layers: readonly LayerInspection[];
}

/** What one token did in one head. Norms are squared, so that those of heads add up. */
export interface TokenNorms {
  /** ‖S_{t−1}‖². */
  before: number;
  /** ‖S_{t−1} diag(w_t)‖². */
  kept: number;
  /** ‖S_t − S_{t−1} diag(w_t)‖². */
  changed: number;
  /** ‖(S_{t−1} a_t) b_tᵀ‖². */
  erased: number;
  /** ‖y_t‖². */
  read: number;
  /** ‖what of y_t came from the token itself‖². */
  own: number;
  /** ‖the rest of y_t‖². */
  past: number;
  /** The decay where the state is zero and there is nothing to measure it by. */
  decay: number;
}

export const noNorms = (): TokenNorms => ({
  before: 0,
  kept: 0,
  changed: 0,
  erased: 0,
  read: 0,
  own: 0,
  past: 0,
  decay: 1,
});

const share = (part: number, rest: number): number => (part > 0 ? part / (part + rest) : 0);

/** The quantities of a token, from its norms. */
export function quantitiesOf(norms: TokenNorms): Record<QuantityName, number> {
  const length = (squared: number) => Math.sqrt(squared);
  const before = length(norms.before);
  const keep = before > 0 ? length(norms.kept) / before : norms.decay;
  return {
    write: share(length(norms.changed), length(norms.kept)),
    keep,
    memory: keep < 1 ? -1 / Math.log(keep) : Infinity,
    erase: before > 0 ? length(norms.erased) / before : 0,
    read: length(norms.read),
    past: share(length(norms.past), length(norms.own)),
  };
}

/** Collects quantities, token by token. */
export class QuantityRows {
  readonly #rows = Object.fromEntries(quantityNames.map((name) => [name, [] as number[]])) as Record<
    QuantityName,
    number[]
  >;

  push(quantities: Readonly<Record<QuantityName, number>>): void {
    for (const name of quantityNames) this.#rows[name].push(quantities[name]);
  }

  result(): LayerQuantities {
    const entries = quantityNames.map((name) => [name, Float32Array.from(this.#rows[name])] as const);
    return Object.fromEntries(entries) as unknown as LayerQuantities;
  }
}
