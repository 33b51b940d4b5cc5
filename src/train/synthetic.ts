import type { Random } from '../core/random.ts';
import type { Example } from './examples.ts';

/** A made-up task that tells architectures apart: what it needs is known exactly, and any length of it can be made. */
export interface SyntheticTask {
  readonly name: string;
  /** What it asks of a model, and its source. */
  readonly about: string;
  readonly vocabulary: number;
  /** Lengths that are learned, from the least to the most. */
  readonly lengths: readonly [number, number];
  /** Lengths that are measured: the longest learned one first, then multiples of it. */
  readonly measured: readonly number[];
  /** An example of about `length` tokens. */
  make(random: Random, length: number): Example;
}

const multiples = (length: number, ...factors: number[]): number[] => factors.map((factor) => factor * length);

/** `count` different whole numbers below `below`, in increasing order. */
function positions(random: Random, count: number, below: number): number[] {
  const chosen = new Set<number>();
  while (chosen.size < count) chosen.add(random.integer(below));
  return [...chosen].sort((a, b) => a - b);
}

const SYMBOLS = 14;

/**
 * Eight symbols stand at random places among noise; at the markers that follow they are to be told in order. What is noise must be
 * ignored. Gu & Dao 2023, §4.1.1.
 */
const selectiveCopying: SyntheticTask = {
  name: 'selective-copying',
  about: 'tell eight symbols that stood among noise, in order',
  vocabulary: SYMBOLS + 2,
  lengths: [64, 64],
  measured: multiples(64, 1, 2, 4),
  make(random, length) {
    const [count, noise, marker] = [8, 0, SYMBOLS + 1];
    const tokens = new Array<number>(length).fill(noise);
    const symbols = positions(random, count, length).map((at) => {
      tokens[at] = 1 + random.integer(SYMBOLS);
      return tokens[at]!;
    });
    const rows = symbols.map((_, i) => length + i);
    return { tokens: [...tokens, ...new Array<number>(count).fill(marker)], rows, targets: symbols };
  },
};

/**
 * A special symbol stands once in a random text and again at its end: what followed it is to be told. Olsson et al. 2022; Gu & Dao
 * 2023, §4.1.2.
 */
const inductionHeads: SyntheticTask = {
  name: 'induction-heads',
  about: 'tell what followed a special symbol, however long ago',
  vocabulary: 16,
  lengths: [64, 64],
  measured: multiples(64, 1, 2, 4, 8, 16),
  make(random, length) {
    const special = 15;
    const tokens = Array.from({ length: length - 1 }, () => random.integer(special));
    const at = random.integer(length - 2);
    tokens[at] = special;
    return { tokens: [...tokens, special], rows: [length - 1], targets: [tokens[at + 1]!] };
  },
};

/**
 * Multi-query associative recall: pairs of keys and values, then the keys again at random places; at each its value is to be told.
 * Arora et al. 2023 (Zoology).
 */
const recall: SyntheticTask = {
  name: 'mqar',
  about: 'tell the values of four keys, asked for at random places',
  vocabulary: 128,
  lengths: [64, 64],
  measured: multiples(64, 1, 2, 4),
  make(random, length) {
    const [pairs, half] = [4, 64];
    const keys = positions(random, pairs, half - 1).map((key) => key + 1);
    const values = keys.map(() => half + random.integer(half));
    const tokens = keys.flatMap((key, i) => [key, values[i]!]);
    const asked = positions(random, pairs, length - tokens.length);
    const order = keys.map((_, i) => i).sort(() => random.uniform() - 0.5);
    const [rows, targets]: [number[], number[]] = [[], []];
    // Between the questions nothing that is a key: values that mean nothing.
    for (let t = 0; tokens.length < length; t++) {
      const question = asked.indexOf(t);
      if (question < 0) tokens.push(half + random.integer(half));
      else {
        rows.push(tokens.length);
        targets.push(values[order[question]!]!);
        tokens.push(keys[order[question]!]!);
      }
    }
    return { tokens, rows, targets };
  },
};

/**
 * Whether the number of ones so far is odd, after every bit, so that shorter words are learned with the longest: a state that must turn
 * over. Grazzi et al. 2024.
 */
const parity: SyntheticTask = {
  name: 'parity',
  about: 'tell after every bit whether the ones so far are odd',
  vocabulary: 2,
  lengths: [40, 40],
  measured: multiples(40, 1, 2, 4, 8),
  make(random, length) {
    const tokens = Array.from({ length }, () => random.integer(2));
    let odd = 0;
    return { tokens, rows: tokens.map((_, i) => i), targets: tokens.map((bit) => (odd ^= bit)) };
  },
};

/** Permutations of three things; the identity first. */
const permutations = [
  [0, 1, 2],
  [0, 2, 1],
  [1, 0, 2],
  [1, 2, 0],
  [2, 0, 1],
  [2, 1, 0],
] as const;

const product = (a: number, b: number): number => {
  const [p, q] = [permutations[a]!, permutations[b]!];
  return permutations.findIndex((one) => one.every((value, i) => value === q[p[i]!]));
};

/** The product of all permutations of three things so far: the smallest group that does not commute. Merrill et al. 2024. */
const wordProblem: SyntheticTask = {
  name: 's3',
  about: 'tell the product of all permutations of three things so far',
  vocabulary: 6,
  lengths: [32, 32],
  measured: multiples(32, 1, 2, 4),
  make(random, length) {
    const tokens = Array.from({ length }, () => random.integer(6));
    let whole = 0;
    return {
      tokens,
      rows: tokens.map((_, i) => i),
      targets: tokens.map((one) => {
        whole = product(whole, one);
        return whole;
      }),
    };
  },
};

export const syntheticTasks: readonly SyntheticTask[] = [selectiveCopying, inductionHeads, recall, parity, wordProblem];
