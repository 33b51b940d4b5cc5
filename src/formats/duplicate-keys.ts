/**
 * The first key that stands twice in one object of a JSON text, if there is one. `JSON.parse` keeps the last and says
 * nothing, so two readers of one file may see different tensors. The text must be valid JSON.
 */
export function duplicateKey(text: string): string | undefined {
  const token = /"(?:[^"\\]|\\.)*"|[{}[\]:,]/g;
  const objects: (Set<string> | undefined)[] = [];
  let previous: string | undefined;
  for (let match = token.exec(text); match; match = token.exec(text)) {
    const [found] = match;
    if (found === '{') objects.push(new Set());
    else if (found === '[') objects.push(undefined);
    else if (found === '}' || found === ']') objects.pop();
    else if (found === ':' && previous !== undefined) {
      const key = JSON.parse(previous) as string;
      const keys = objects.at(-1)!;
      if (keys.has(key)) return key;
      keys.add(key);
    }
    previous = found.startsWith('"') ? found : undefined;
  }
  return undefined;
}
