/** A node of the tree: the tokens that lead to it from its parent, and what is kept for the text that ends there. */
export interface PrefixNode<V> {
  tokens: readonly number[];
  parent: PrefixNode<V> | undefined;
  readonly children: Map<number, PrefixNode<V>>;
  value: V | undefined;
}

export interface PrefixMatch<V> {
  /** The longest beginning that something is kept for. */
  readonly node: PrefixNode<V> | undefined;
  /** Its length. */
  readonly length: number;
  /** How many first tokens are those of some text in the tree. */
  readonly shared: number;
}

/** A radix tree of token sequences: texts with a common beginning share the path to where they part. */
export class PrefixTree<V> {
  readonly #root: PrefixNode<V> = { tokens: [], parent: undefined, children: new Map(), value: undefined };

  /** Follows a text as far as it goes. */
  match(tokens: readonly number[]): PrefixMatch<V> {
    let node = this.#root;
    let best: PrefixNode<V> | undefined;
    let [length, shared] = [0, 0];
    for (;;) {
      const child = node.children.get(tokens[shared]!);
      if (!child) return { node: best, length, shared };
      const common = commonLength(child.tokens, tokens, shared);
      shared += common;
      if (common < child.tokens.length) return { node: best, length, shared };
      node = child;
      if (node.value !== undefined) [best, length] = [node, shared];
    }
  }

  /** Keeps `value` for a text of at least one token; returns its node. */
  set(tokens: readonly number[], value: V): PrefixNode<V> {
    let node = this.#root;
    let at = 0;
    while (at < tokens.length) {
      let child = node.children.get(tokens[at]!);
      if (!child) {
        child = { tokens: tokens.slice(at), parent: node, children: new Map(), value: undefined };
        node.children.set(tokens[at]!, child);
      }
      const common = commonLength(child.tokens, tokens, at);
      if (common < child.tokens.length) child = split(child, common);
      node = child;
      at += common;
    }
    node.value = value;
    return node;
  }

  /** Forgets what is kept at a node, and the path that led only there. */
  delete(node: PrefixNode<V>): void {
    node.value = undefined;
    let current: PrefixNode<V> | undefined = node;
    while (current?.parent && current.value === undefined && current.children.size < 2) {
      const { parent, tokens } = current as PrefixNode<V> & { parent: PrefixNode<V> };
      const [child] = current.children.values();
      if (child) {
        child.tokens = [...tokens, ...child.tokens];
        child.parent = parent;
        parent.children.set(tokens[0]!, child);
        return;
      }
      parent.children.delete(tokens[0]!);
      current = parent;
    }
  }

  /** Nodes besides the root. */
  get size(): number {
    const count = ({ children }: PrefixNode<V>): number =>
      [...children.values()].reduce((sum, child) => sum + 1 + count(child), 0);
    return count(this.#root);
  }
}

/** How many tokens of `edge` are those of `tokens` from `at` on. */
function commonLength(edge: readonly number[], tokens: readonly number[], at: number): number {
  let common = 0;
  while (common < edge.length && edge[common] === tokens[at + common]) common++;
  return common;
}

/** Makes a node where `node`'s path has come `length` tokens far. */
function split<V>(node: PrefixNode<V>, length: number): PrefixNode<V> {
  const parent = node.parent!;
  const middle: PrefixNode<V> = {
    tokens: node.tokens.slice(0, length),
    parent,
    children: new Map([[node.tokens[length]!, node]]),
    value: undefined,
  };
  parent.children.set(middle.tokens[0]!, middle);
  node.tokens = node.tokens.slice(length);
  node.parent = middle;
  return middle;
}
