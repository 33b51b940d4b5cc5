import { all, type CharacterSet, complement, intersection, setOf, utf8 } from './characters.ts';
import { choice, optional, type Pattern, repeat, sequence, text } from './pattern.ts';

/** Characters that stand in JSON strings as they are. */
const plain = complement([[0, 0x1f], ...setOf('"\\')]);

/** A character of the set as a JSON string has it. Each has one spelling only, so that two texts are the same only if they look so. */
export function jsonCharacter(set: CharacterSet): Pattern {
  const escaped = intersection(set, complement(plain)).flatMap(([low, high]) =>
    Array.from({ length: high - low + 1 }, (_, i) => text(JSON.stringify(String.fromCharCode(low + i)).slice(1, -1))),
  );
  return choice(utf8(intersection(set, plain)), ...escaped);
}

export const quoted = (inside: Pattern): Pattern => sequence(text('"'), inside, text('"'));

const anyCharacter = jsonCharacter(all);

/** A string of so many characters. */
export const anyString = (min = 0, max = Infinity): Pattern => quoted(repeat(anyCharacter, min, max));

/** Strings but these. */
export function stringExcept(names: readonly string[]): Pattern {
  return quoted(except(names.map((name) => Array.from(name))));
}

function except(names: readonly (readonly string[])[]): Pattern {
  const byFirst = new Map<string, (readonly string[])[]>();
  for (const [first, ...rest] of names)
    if (first !== undefined) byFirst.set(first, [...(byFirst.get(first) ?? []), rest]);
  const others = complement(setOf([...byFirst.keys()].join('')));
  return choice(
    ...(names.some(({ length }) => length === 0) ? [] : [sequence()]),
    sequence(jsonCharacter(others), repeat(anyCharacter, 0, Infinity)),
    ...[...byFirst].map(([first, rests]) => sequence(jsonCharacter(setOf(first)), except(rests))),
  );
}

/** Between two items, and after a name: with or without a space. */
export const comma = sequence(text(','), optional(text(' ')));
export const colon = sequence(text(':'), optional(text(' ')));

const digit: Pattern = { kind: 'byte', low: 0x30, high: 0x39 };
const nonZero: Pattern = { kind: 'byte', low: 0x31, high: 0x39 };
/** More digits than these JavaScript's numbers would not keep. */
const DIGITS = 15;
const LARGEST = 10 ** DIGITS - 1;

export const anyInteger = sequence(
  optional(text('-')),
  choice(text('0'), sequence(nonZero, repeat(digit, 0, DIGITS - 1))),
);

/** Ends with another digit than 0, so that it is never a whole number. */
const fraction = sequence(text('.'), repeat(digit, 0, DIGITS - 1), nonZero);

export const anyNumber = sequence(
  anyInteger,
  optional(sequence(text('.'), repeat(digit, 1, DIGITS))),
  optional(sequence(choice(text('e'), text('E')), optional(choice(text('+'), text('-'))), repeat(digit, 1, 2))),
);

/** Bounds of numbers; the bound itself may be left out. */
export interface Bounds {
  readonly low: number;
  readonly high: number;
  readonly withoutLow: boolean;
  readonly withoutHigh: boolean;
}

/** Whole numbers in bounds; none for bounds that have none between. */
export function integerBetween({ low, high, withoutLow, withoutHigh }: Bounds): Pattern {
  const first = withoutLow && Number.isInteger(low) ? low + 1 : Math.ceil(low);
  const last = withoutHigh && Number.isInteger(high) ? high - 1 : Math.floor(high);
  return signed(first, last, sequence());
}

/** Numbers in bounds: the whole ones, and those between two whole ones that are in bounds too. */
export function numberBetween(bounds: Bounds): Pattern {
  const [first, last] = [Math.ceil(bounds.low), Math.floor(bounds.high)];
  return choice(integerBetween(bounds), natural(first, last - 1, fraction), negative(-last, -first - 1, fraction));
}

const signed = (first: number, last: number, end: Pattern): Pattern =>
  choice(natural(first, last, end), negative(Math.max(1, -last), -first, end));

/** −k and then `end`, for k from `first` to `last`. */
const negative = (first: number, last: number, end: Pattern): Pattern => sequence(text('-'), natural(first, last, end));

function natural(first: number, last: number, end: Pattern): Pattern {
  const options: Pattern[] = [];
  for (let digits = 1; digits <= DIGITS; digits++) {
    const low = Math.max(first, digits === 1 ? 0 : 10 ** (digits - 1));
    const high = Math.min(last, 10 ** digits - 1, LARGEST);
    if (low <= high) options.push(sequence(sameLength(String(low), String(high)), end));
  }
  return choice(...options);
}

/** Numbers from one to another of as many digits. */
function sameLength(low: string, high: string): Pattern {
  if (/^0*$/.test(low) && /^9*$/.test(high)) return repeat(digit, low.length, low.length);
  const [first, last] = [low.charCodeAt(0), high.charCodeAt(0)];
  const rest = low.length - 1;
  if (first === last) return sequence(text(low[0]!), sameLength(low.slice(1), high.slice(1)));
  const options = [sequence(text(low[0]!), sameLength(low.slice(1), '9'.repeat(rest)))];
  if (last - first > 1)
    options.push(sequence({ kind: 'byte', low: first + 1, high: last - 1 }, repeat(digit, rest, rest)));
  options.push(sequence(text(high[0]!), sameLength('0'.repeat(rest), high.slice(1))));
  return choice(...options);
}
