/** How an answer compares with those that people gave, as SQuAD measures it (Rajpurkar et al. 2016). */
export interface AnswerMatch {
  /** Whether it is one of them, but for case, punctuation, articles and white space. */
  readonly exact: boolean;
  /** The best F1 of its words and one of theirs: 2 · precision · recall / (precision + recall), words counted as often as they stand. */
  readonly f1: number;
}

/** Compares an answer with those given. Where none is given, only the empty answer is right. */
export function matchAnswer(answer: string, given: readonly string[]): AnswerMatch {
  const all = given.length > 0 ? given : [''];
  return {
    exact: all.some((one) => normalised(one) === normalised(answer)),
    f1: Math.max(...all.map((one) => f1(wordsOf(answer), wordsOf(one)))),
  };
}

/** ASCII's punctuation, as Python has it. */
const PUNCTUATION = /[!-/:-@[-`{-~]/g;

const normalised = (text: string): string =>
  text
    .toLowerCase()
    .replace(PUNCTUATION, '')
    .replace(/\b(a|an|the)\b/g, ' ')
    .trim()
    .replace(/\s+/g, ' ');

const wordsOf = (text: string): string[] => normalised(text).split(' ').filter(Boolean);

function f1(answer: readonly string[], given: readonly string[]): number {
  if (answer.length === 0 || given.length === 0) return answer.length === given.length ? 1 : 0;
  const left = new Map<string, number>();
  for (const word of given) left.set(word, (left.get(word) ?? 0) + 1);
  let common = 0;
  for (const word of answer) {
    const count = left.get(word) ?? 0;
    if (count === 0) continue;
    left.set(word, count - 1);
    common++;
  }
  if (common === 0) return 0;
  const [precision, recall] = [common / answer.length, common / given.length];
  return (2 * precision * recall) / (precision + recall);
}
