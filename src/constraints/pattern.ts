/** A language over bytes: which texts are allowed. */
export type Pattern =
  | { readonly kind: 'byte'; readonly low: number; readonly high: number }
  | { readonly kind: 'sequence'; readonly parts: readonly Pattern[] }
  | { readonly kind: 'choice'; readonly options: readonly Pattern[] }
  /** From `min` to `max` times. */
  | { readonly kind: 'repeat'; readonly part: Pattern; readonly min: number; readonly max: number }
  /** A pattern by its name, so that patterns may contain themselves. */
  | { readonly kind: 'rule'; readonly name: string };

export const sequence = (...parts: readonly Pattern[]): Pattern => ({ kind: 'sequence', parts });

export const choice = (...options: readonly Pattern[]): Pattern => ({ kind: 'choice', options });

export const repeat = (part: Pattern, min: number, max: number): Pattern => ({ kind: 'repeat', part, min, max });

export const optional = (part: Pattern): Pattern => repeat(part, 0, 1);

export const rule = (name: string): Pattern => ({ kind: 'rule', name });

/** Just this text. */
export const text = (value: string): Pattern =>
  sequence(
    ...Array.from(new TextEncoder().encode(value), (byte): Pattern => ({ kind: 'byte', low: byte, high: byte })),
  );

/** `part`s, `min` to `max` of them, with separators between. */
export function separated(part: Pattern, separator: Pattern, min: number, max: number): Pattern {
  if (max === 0) return sequence();
  const some = sequence(part, repeat(sequence(separator, part), Math.max(0, min - 1), max - 1));
  return min === 0 ? optional(some) : some;
}
