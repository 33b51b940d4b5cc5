const escapes: Readonly<Record<string, number>> = {
  n: 10,
  r: 13,
  t: 9,
  '\\': 92,
  "'": 39,
  '"': 34,
  a: 7,
  b: 8,
  f: 12,
  v: 11,
  '0': 0,
};

/**
 * The bytes of a Python literal: `'text'` (as UTF-8) or `b'bytes'`, in either kind of quotes, with the escapes that `repr`
 * writes. Undefined when it is none.
 */
export function pythonLiteral(source: string): Uint8Array | undefined {
  const match = /^(b?)(['"])([\s\S]*)\2$/.exec(source);
  if (!match) return undefined;
  const isBytes = match[1] === 'b';
  const body = match[3]!;
  const bytes: number[] = [];
  let text = '';
  const put = (code: number) => {
    if (isBytes) bytes.push(code);
    else text += String.fromCodePoint(code);
  };
  for (let i = 0; i < body.length; i++) {
    const character = String.fromCodePoint(body.codePointAt(i)!);
    if (character === match[2]) return undefined;
    if (character !== '\\') {
      const code = character.codePointAt(0)!;
      if (isBytes && code > 127) return undefined;
      put(code);
      i += character.length - 1;
      continue;
    }
    const letter = body[++i] ?? '';
    const digits = { x: 2, u: 4, U: 8 }[letter];
    if (digits !== undefined) {
      const hex = body.slice(i + 1, i + 1 + digits);
      const code = Number.parseInt(hex, 16);
      if (hex.length < digits || !/^[0-9a-f]+$/i.test(hex) || code > 0x10ffff) return undefined;
      put(code);
      i += digits;
    } else if (Object.hasOwn(escapes, letter)) put(escapes[letter]!);
    else return undefined;
  }
  return isBytes ? Uint8Array.from(bytes) : new TextEncoder().encode(text);
}
