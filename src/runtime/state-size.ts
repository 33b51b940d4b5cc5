import { bytesOfFormat } from '../core/state-format.ts';
import type { Carry } from '../core/trace.ts';

/** Keys and values of a window: every token adds to them until there are as many as the window has. */
export interface WindowSize {
  /** The window's length. */
  readonly tokens: number;
  readonly bytesPerToken: number;
}

/** What the state of one sequence takes. */
export interface StateSize {
  /** Bytes at any length. */
  readonly stateBytes: number;
  /** Bytes that every token adds, however many there are: keys and values of attention; 0 for linear-time models. */
  readonly stateBytesPerToken: number;
  /** Bytes that every token adds as long as the window is not full, by window. */
  readonly stateWindows: readonly WindowSize[];
}

const bytes = (carries: readonly Carry[]): number =>
  carries.reduce((sum, { shape, format = 'f32' }) => sum + bytesOfFormat[format] * shape.reduce((a, b) => a * b, 1), 0);

/** Measures what a model carries. */
export function stateSize(carries: readonly Carry[]): StateSize {
  const growing = carries.filter((carry) => carry.growing);
  const windows = [...new Set(growing.map(({ window = 0 }) => window))].filter((window) => window > 0);
  return {
    stateBytes: bytes(carries.filter((carry) => !carry.growing)),
    stateBytesPerToken: bytes(growing.filter(({ window = 0 }) => window === 0)),
    stateWindows: windows
      .sort((a, b) => a - b)
      .map((tokens) => ({ tokens, bytesPerToken: bytes(growing.filter(({ window }) => window === tokens)) })),
  };
}

/** Bytes of the state of a sequence of `tokens`. In memory keys and values come in pages of 64 tokens. */
export const stateBytesAt = ({ stateBytes, stateBytesPerToken, stateWindows }: StateSize, tokens: number): number =>
  stateBytes +
  tokens * stateBytesPerToken +
  stateWindows.reduce((sum, one) => sum + Math.min(tokens, one.tokens) * one.bytesPerToken, 0);
