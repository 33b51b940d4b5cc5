import { InputError, UnsupportedError } from '../core/errors.ts';
import { all, type CharacterSet, complement, setOf, union, utf8 } from './characters.ts';
import { choice, type Pattern, repeat, sequence } from './pattern.ts';

/** How one character of a set is written: in UTF-8, or escaped inside something else. */
export type EncodeCharacter = (set: CharacterSet) => Pattern;

/** Texts that match a regular expression as a whole. Syntax: JavaScript's with the flag `u`, less what looks around. */
export function regexPattern(regex: string | RegExp): Pattern {
  return choice(...parseRegex(regex, utf8).map(({ pattern }) => pattern));
}

/** Texts in which a regular expression matches somewhere. */
export function searchPattern(regex: string, encode: EncodeCharacter): Pattern {
  const anything = repeat(encode(all), 0, Infinity);
  const options = parseRegex(regex, encode).map(({ pattern, fromStart, toEnd }) =>
    sequence(...(fromStart ? [] : [anything]), pattern, ...(toEnd ? [] : [anything])),
  );
  return choice(...options);
}

/** One alternative of a regular expression. */
interface Alternative {
  readonly pattern: Pattern;
  /** Whether it begins with `^`. */
  readonly fromStart: boolean;
  /** Whether it ends with `$`. */
  readonly toEnd: boolean;
}

function parseRegex(regex: string | RegExp, encode: EncodeCharacter): Alternative[] {
  const source = typeof regex === 'string' ? regex : regex.source;
  const flags = typeof regex === 'string' ? '' : regex.flags;
  const strange = [...flags].find((flag) => !'us'.includes(flag));
  if (strange) throw new UnsupportedError(`the regular expression ${regex} has the flag ${strange}; known: u, s`);
  try {
    new RegExp(source, 'u');
  } catch (cause) {
    throw new InputError((cause as Error).message.replace(/^Invalid/, 'invalid'), { cause });
  }
  return new RegexParser(source, flags.includes('s'), encode).alternatives(true);
}

const digits = setOf('0123456789');
const word: CharacterSet = [
  [0x30, 0x39],
  [0x41, 0x5a],
  [0x5f, 0x5f],
  [0x61, 0x7a],
];
const lineEnds = setOf('\n\r\u2028\u2029');
const space = union(setOf('\t\v\f \u00a0\u1680\u202f\u205f\u3000\ufeff'), lineEnds, [[0x2000, 0x200a]]);
const classes: Readonly<Record<string, CharacterSet>> = { d: digits, w: word, s: space };
const controls: Readonly<Record<string, number>> = { n: 10, r: 13, t: 9, v: 11, f: 12, 0: 0 };

/** Reads a regular expression that JavaScript found to be one, so that only what is not supported is looked for. */
class RegexParser {
  readonly #source: string;
  readonly #dotAll: boolean;
  readonly #encode: EncodeCharacter;
  #at = 0;

  constructor(source: string, dotAll: boolean, encode: EncodeCharacter) {
    this.#source = source;
    this.#dotAll = dotAll;
    this.#encode = encode;
  }

  alternatives(isOutermost: boolean): Alternative[] {
    const found = [this.#alternative(isOutermost)];
    while (this.#takes('|')) found.push(this.#alternative(isOutermost));
    return found;
  }

  #alternative(isOutermost: boolean): Alternative {
    const parts: Pattern[] = [];
    const fromStart = isOutermost && this.#takes('^');
    let toEnd = false;
    while (this.#at < this.#source.length && !'|)'.includes(this.#source[this.#at]!)) {
      if (isOutermost && /^\$(\||$)/.test(this.#source.slice(this.#at))) {
        this.#at++;
        toEnd = true;
      } else parts.push(this.#quantified(this.#atom()));
    }
    return { pattern: sequence(...parts), fromStart, toEnd };
  }

  #atom(): Pattern {
    const character = this.#next();
    if (character === '(') return this.#group();
    if (character === '[') return this.#one(this.#class());
    if (character === '.') return this.#one(this.#dotAll ? all : complement(lineEnds));
    if (character === '\\') return this.#one(this.#escape());
    if (character === '^' || character === '$')
      this.#refuse(`${character} is understood only at the very ends, not inside`);
    return this.#one(setOf(character));
  }

  #group(): Pattern {
    if (this.#takes('?')) {
      const name = /^(:|<[^=!][^>]*>)/.exec(this.#source.slice(this.#at));
      if (!name) this.#refuse('a group that looks around, or changes flags, is not supported');
      this.#at += name[0].length;
    }
    const inside = this.alternatives(false).map(({ pattern }) => pattern);
    this.#at++;
    return choice(...inside);
  }

  #quantified(part: Pattern): Pattern {
    const found = /^([*+?]|\{(\d+)(,?)(\d*)\})\??/.exec(this.#source.slice(this.#at));
    if (!found) return part;
    this.#at += found[0].length;
    const [, mark, least, comma, most] = found;
    if (mark === '*') return repeat(part, 0, Infinity);
    if (mark === '+') return repeat(part, 1, Infinity);
    if (mark === '?') return repeat(part, 0, 1);
    return repeat(part, Number(least), most ? Number(most) : comma ? Infinity : Number(least));
  }

  #class(): CharacterSet {
    const isComplement = this.#takes('^');
    const sets: CharacterSet[] = [];
    while (!this.#takes(']')) {
      const set = this.#classMember();
      const isRange = this.#source[this.#at] === '-' && this.#source[this.#at + 1] !== ']';
      if (isRange) this.#at++;
      sets.push(isRange ? [[set[0]![0], this.#classMember()[0]![1]]] : set);
    }
    return isComplement ? complement(union(...sets)) : union(...sets);
  }

  #classMember(): CharacterSet {
    const character = this.#next();
    if (character !== '\\') return setOf(character);
    return this.#takes('b') ? [[8, 8]] : this.#escape();
  }

  #escape(): CharacterSet {
    const character = this.#next();
    const known = classes[character.toLowerCase()];
    if (known) return character === character.toLowerCase() ? known : complement(known);
    if (controls[character] !== undefined) return [[controls[character], controls[character]]];
    if ('pP'.includes(character)) return this.#property(character);
    if (character === 'c') return [[this.#next().charCodeAt(0) % 32, this.#source.charCodeAt(this.#at - 1) % 32]];
    if (character === 'x') return this.#hex(/^[\da-f]{2}/i);
    if (character === 'u') return this.#hex(/^(?:\{[\da-f]+\}|d[89ab][\da-f]{2}\\ud[c-f][\da-f]{2}|[\da-f]{4})/i);
    if (/[bBk1-9]/.test(character)) this.#refuse(`\\${character} is not supported`);
    return setOf(character);
  }

  #hex(syntax: RegExp): CharacterSet {
    const [digits] = syntax.exec(this.#source.slice(this.#at))!;
    this.#at += digits.length;
    const units = digits.split('\\u').map((unit) => Number.parseInt(unit.replace(/[{}]/g, ''), 16));
    const code = units.length === 2 ? String.fromCharCode(...units).codePointAt(0)! : units[0]!;
    return [[code, code]];
  }

  /** Characters with a property of Unicode: JavaScript knows them, so each is asked about. */
  #property(kind: string): CharacterSet {
    const [name] = /^\{[^}]*\}/.exec(this.#source.slice(this.#at))!;
    this.#at += name.length;
    const has = new RegExp(`\\${kind}${name}`, 'u');
    const found: [number, number][] = [];
    for (const [low, high] of all)
      for (let code = low; code <= high; code++) if (has.test(String.fromCodePoint(code))) found.push([code, code]);
    return union(found);
  }

  #one(set: CharacterSet): Pattern {
    if (set.length === 0) this.#refuse('a class has no characters');
    return this.#encode(set);
  }

  #takes(character: string): boolean {
    const isNext = this.#source[this.#at] === character;
    if (isNext) this.#at++;
    return isNext;
  }

  #next(): string {
    const character = String.fromCodePoint(this.#source.codePointAt(this.#at)!);
    this.#at += character.length;
    return character;
  }

  #refuse(problem: string): never {
    throw new UnsupportedError(`the regular expression /${this.#source}/ at character ${this.#at}: ${problem}`);
  }
}
