import { expect, test } from 'vitest';
import { Random } from '../core/random.ts';
import { type PrefixNode, PrefixTree } from './prefix-tree.ts';

test('matches as a list of all texts does, whatever comes and goes', () => {
  const random = new Random(2);
  const tree = new PrefixTree<string>();
  const kept = new Map<string, PrefixNode<string>>();
  const text = () => Array.from({ length: 1 + random.integer(7) }, () => random.integer(3));
  for (let round = 0; round < 3000; round++) {
    const tokens = text();
    const key = tokens.join(' ');
    if (random.uniform() < 0.5) kept.set(key, tree.set(tokens, key));
    else if (kept.size > 0) {
      const [victim] = [...kept.keys()].slice(random.integer(kept.size));
      tree.delete(kept.get(victim!)!);
      kept.delete(victim!);
    }
    const query = text();
    const beginnings = query.map((_, i) => query.slice(0, i + 1).join(' '));
    const expected = beginnings.filter((beginning) => kept.has(beginning)).at(-1);
    const match = tree.match(query);
    expect(match.node?.value).toBe(expected);
    expect(match.length).toBe(expected === undefined ? 0 : expected.split(' ').length);
    expect(match.shared).toBe(
      beginnings.filter((beginning) => [...kept.keys()].some((key) => `${key} `.startsWith(`${beginning} `))).length,
    );
  }
  for (const node of kept.values()) tree.delete(node);
  expect(tree.size).toBe(0);
});
