import { UnsupportedError } from './errors.ts';
import { formatShape, sameShape } from './shape.ts';
import type { Node, Tensor } from './tensor.ts';
import { apply } from './trace.ts';

/**
 * Reverse-mode differentiation, graph → graph: the gradients of `output` with respect to each of `wanted`, given the
 * gradient `seed` of `output` itself. Where `output` does not depend on a tensor its gradient is `undefined`.
 *
 * @param add the sum of two tensors of one shape, as graph (it comes from the op vocabulary above this layer); `isOwn` tells whether a tensor
 *   may be read by nothing else, so that it can be computed within the sum
 * @param blockOf names the block that a node is part of, if what it computes is to be computed once more for the derivatives
 *   instead of being kept until then (Chen et al. 2016): only what comes into a block, and what others read of it, is kept
 */
export function gradients(
  output: Tensor,
  seed: Tensor,
  wanted: readonly Tensor[],
  add: (a: Tensor, b: Tensor, isOwn: (tensor: Tensor) => boolean) => Tensor,
  blockOf: (node: Node) => string | undefined = () => undefined,
): (Tensor | undefined)[] {
  const remade = recomputation(reachable([output.node]), blockOf);
  const nodes = dependants(output.node, wanted);
  const accumulated = new Map<Tensor, Tensor>([[output, seed]]);
  /** Gradients that an op's derivative has read. */
  const read = new Set<Tensor>();
  const accumulate = (tensor: Tensor, gradient: Tensor) => {
    if (!sameShape(tensor.shape, gradient.shape)) {
      throw new Error(
        `gradient of ${tensor.node.path} is ${formatShape(gradient.shape)}, not ${formatShape(tensor.shape)}`,
      );
    }
    const before = accumulated.get(tensor);
    accumulated.set(tensor, before ? add(before, gradient, (one) => !read.has(one)) : gradient);
  };
  for (const node of [...nodes].sort((a, b) => b.id - a.id)) {
    if (!node.op) continue;
    const names = Object.keys(node.op.outputs);
    const arriving: Record<string, Tensor> = {};
    for (const tensor of node.outputs) {
      const gradient = accumulated.get(tensor);
      if (!gradient) continue;
      arriving[names[tensor.index]!] = gradient;
      read.add(gradient);
    }
    if (Object.keys(arriving).length === 0) continue;
    if (!node.op.grad) throw new UnsupportedError(`${node.op.name} has no derivative (at ${node.path})`);
    const leaving = node.op.grad({
      inputs: Object.fromEntries(Object.entries(node.inputs).map(([name, tensor]) => [name, remade(tensor, node)])),
      outputs: Object.fromEntries(node.outputs.map((tensor) => [names[tensor.index]!, remade(tensor, node)])),
      attributes: node.attributes,
      gradients: arriving,
      wants: (name) => node.inputs[name] !== undefined && nodes.has(node.inputs[name].node),
    });
    for (const [name, gradient] of Object.entries(leaving)) {
      const tensor = node.inputs[name];
      if (tensor && gradient && nodes.has(tensor.node)) accumulate(tensor, gradient);
    }
  }
  return wanted.map((tensor) => accumulated.get(tensor));
}

/**
 * Finds the tensor that stands for one of the forward pass in the derivative of `user`: itself, or, inside a block, one that is
 * computed again when the derivatives first come to the block.
 */
function recomputation(
  forward: ReadonlySet<Node>,
  blockOf: (node: Node) => string | undefined,
): (tensor: Tensor, user: Node) => Tensor {
  const blocks = new Map<string, Node[]>();
  for (const node of forward) {
    // States that grow are written where they lie: once.
    const block = node.op && !node.op.growing ? blockOf(node) : undefined;
    if (block !== undefined) blocks.set(block, [...(blocks.get(block) ?? []), node]);
  }
  const again = new Map<Tensor, Tensor>();
  const made = new Set<string>();
  const make = (block: string) => {
    made.add(block);
    for (const node of blocks.get(block)!.sort((a, b) => a.id - b.id)) {
      const inputs = Object.entries(node.inputs).map(([name, tensor]) => {
        const isOwn = tensor.node.op && blockOf(tensor.node) === block;
        return [name, (isOwn && again.get(tensor)) || tensor] as const;
      });
      const outputs = apply(node.op!, Object.fromEntries(inputs), node.attributes);
      for (const [i, tensor] of node.outputs.entries()) again.set(tensor, outputs[i]!);
    }
  };
  return (tensor, user) => {
    const block = user.op && blockOf(user);
    if (block === undefined || !blocks.has(block) || (tensor.node.op && blockOf(tensor.node) !== block)) return tensor;
    if (!made.has(block)) make(block);
    return again.get(tensor) ?? tensor;
  };
}

/** The nodes on any path from a wanted tensor to `root`: only these need gradients. */
function dependants(root: Node, wanted: readonly Tensor[]): Set<Node> {
  const targets = new Set(wanted.map((tensor) => tensor.node));
  const result = new Set<Node>();
  for (const node of [...reachable([root])].sort((a, b) => a.id - b.id)) {
    if (targets.has(node) || Object.values(node.inputs).some((tensor) => result.has(tensor.node))) result.add(node);
  }
  return result;
}

/** Every node that any of `roots` is computed from, themselves included. */
export function reachable(roots: Iterable<Node>): Set<Node> {
  const found = new Set<Node>();
  const pending = [...roots];
  for (let node = pending.pop(); node; node = pending.pop()) {
    if (found.has(node)) continue;
    found.add(node);
    for (const tensor of Object.values(node.inputs)) pending.push(tensor.node);
  }
  return found;
}
