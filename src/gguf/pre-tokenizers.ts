import { UnsupportedError } from '../core/errors.ts';

/** Patterns by which texts are split before the merges, as tokenizer.json files have them. */
const llama3 =
  "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";
const qwen2 = llama3.replace('{1,3}', '');
const gpt2 = "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+";

const upper = '[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]';
const lower = '[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]';
/** Words split where small letters end and capitals begin, with `suffix` after each, and digits in groups. */
const cased = (suffix: string, digits: string): string =>
  `[^\\r\\n\\p{L}\\p{N}]?${upper}*${lower}+${suffix}|[^\\r\\n\\p{L}\\p{N}]?${upper}+${lower}*${suffix}|${digits}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+`;

/** By llama.cpp's names (`tokenizer.ggml.pre`); `gpt2` is what byte-level tokenizers do by themselves. */
const patterns: Readonly<Record<string, 'gpt2' | readonly string[]>> = {
  'gpt-2': 'gpt2',
  mpt: 'gpt2',
  olmo: 'gpt2',
  jais: 'gpt2',
  'phi-2': 'gpt2',
  'roberta-bpe': 'gpt2',
  'llama-bpe': [llama3],
  llama3: [llama3],
  'llama-v3': [llama3],
  falcon3: [llama3],
  'falcon-h1': [llama3],
  pixtral: [llama3],
  'midm-2.0': [llama3],
  lfm2: [llama3],
  dbrx: [llama3],
  tekken: [cased('', '\\p{N}')],
  'gpt-4o': [cased("(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])?", '\\p{N}{1,3}')],
  falcon: ['[\\p{P}\\$\\+<=>\\^~\\|`]+', gpt2, '[0-9][0-9][0-9]'],
  'smaug-bpe': [llama3],
  qwen2: [qwen2],
  stablelm2: [qwen2],
  'deepseek-r1-qwen': [qwen2],
  megrez: [qwen2],
  smollm: ['\\p{N}', gpt2],
  starcoder: ['\\p{N}', gpt2],
  refact: ['\\p{N}', gpt2],
  'command-r': ['\\p{N}', gpt2],
  codeshell: ['\\p{N}', gpt2],
  exaone: ['\\p{N}', gpt2],
  default: ['[\\p{P}\\$\\+<=>\\^~\\|]+', gpt2, '\\p{N}+', '[0-9][0-9][0-9]'],
};

const likeLlama3 = /^(llama-bpe|llama3|llama-v3|falcon3|falcon-h1|pixtral|midm-2\.0|lfm2|tekken)$/;

/**
 * What llama.cpp takes a file of this name to say where it says nothing: that a beginning of text comes before all else, and that
 * a word that is a token is taken as it is, whatever the merges would make of it.
 */
export const defaultsOf = (name: string): { readonly beginOfText: boolean; readonly wholeWords: boolean } => ({
  beginOfText: likeLlama3.test(name),
  wholeWords: likeLlama3.test(name),
});

/** How the tokenizer with this name splits texts. */
export function patternOf(name: string, file: string): 'gpt2' | readonly string[] {
  if (Object.hasOwn(patterns, name)) return patterns[name]!;
  throw new UnsupportedError(
    `${file}: its tokenizer splits texts as "${name}" does; known: ${Object.keys(patterns).join(', ')}`,
  );
}

/** The name for a tokenizer.json's way to split texts; undefined where llama.cpp has none that is known here. */
export function nameOf(preTokenizer: unknown): string | undefined {
  const steps = flatten(preTokenizer);
  const regexes = steps.filter(({ type }) => type === 'Split').map(({ pattern }) => (pattern as Pattern).Regex);
  const level = steps.find(({ type }) => type === 'ByteLevel');
  if (isFalcon(steps)) return 'falcon';
  const others = steps.filter(({ type }) => type !== 'Split' && type !== 'ByteLevel' && type !== 'Digits');
  if (!level || level.add_prefix_space || others.length > 0) return undefined;
  const digits = steps.find(({ type }) => type === 'Digits');
  if (digits)
    return regexes.length === 0 && digits.individual_digits && level.use_regex !== false ? 'smollm' : undefined;
  if (regexes.length === 0 && level.use_regex !== false) return 'gpt-2';
  return Object.keys(patterns).find((name) => {
    const known = patterns[name]!;
    return known !== 'gpt2' && known.length === regexes.length && known.every((regex, i) => regex === regexes[i]);
  });
}

/** Falcon's own steps: runs of punctuation, words, runs of digits, and those in threes. */
const isFalcon = (steps: readonly Step[]): boolean => {
  const [marks, level, digits, threes] = steps;
  return (
    steps.length === 4 &&
    marks!.type === 'Punctuation' &&
    marks!.behavior === 'Contiguous' &&
    level!.type === 'ByteLevel' &&
    !level!.add_prefix_space &&
    level!.use_regex !== false &&
    digits!.type === 'Digits' &&
    !digits!.individual_digits &&
    threes!.type === 'Split' &&
    threes!.behavior === 'Isolated' &&
    !threes!.invert &&
    (threes!.pattern as Pattern).Regex === '[0-9][0-9][0-9]'
  );
};

interface Pattern {
  readonly Regex?: string;
}

interface Step {
  readonly type?: string;
  readonly pattern?: unknown;
  readonly add_prefix_space?: boolean;
  readonly use_regex?: boolean;
  readonly individual_digits?: boolean;
  readonly behavior?: string;
  readonly invert?: boolean;
  readonly pretokenizers?: readonly unknown[];
}

const flatten = (part: unknown): Step[] => {
  const step = (part ?? {}) as Step;
  return step.type === 'Sequence' ? (step.pretokenizers ?? []).flatMap(flatten) : [step];
};
