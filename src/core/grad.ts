import { UnsupportedError } from './errors.ts';
import { formatShape, sameShape } from './shape.ts';
import type { Node, Tensor } from './tensor.ts';

/**
 * Reverse-mode differentiation, graph → graph: the gradients of `output` with respect to each of `wanted`, given the
 * gradient `seed` of `output` itself. Where `output` does not depend on a tensor its gradient is `undefined`.
 *
 * @param add the sum of two tensors of one shape, as graph (it comes from the op vocabulary above this layer)
 */
export function gradients(
  output: Tensor,
  seed: Tensor,
  wanted: readonly Tensor[],
  add: (a: Tensor, b: Tensor) => Tensor,
): (Tensor | undefined)[] {
  const nodes = dependants(output.node, wanted);
  const accumulated = new Map<Tensor, Tensor>([[output, seed]]);
  const accumulate = (tensor: Tensor, gradient: Tensor) => {
    if (!sameShape(tensor.shape, gradient.shape)) {
      throw new Error(
        `gradient of ${tensor.node.path} is ${formatShape(gradient.shape)}, not ${formatShape(tensor.shape)}`,
      );
    }
    const before = accumulated.get(tensor);
    accumulated.set(tensor, before ? add(before, gradient) : gradient);
  };
  for (const node of [...nodes].sort((a, b) => b.id - a.id)) {
    if (!node.op) continue;
    const names = Object.keys(node.op.outputs);
    const arriving: Record<string, Tensor> = {};
    for (const tensor of node.outputs) {
      const gradient = accumulated.get(tensor);
      if (gradient) arriving[names[tensor.index]!] = gradient;
    }
    if (Object.keys(arriving).length === 0) continue;
    if (!node.op.grad) throw new UnsupportedError(`${node.op.name} has no derivative (at ${node.path})`);
    const leaving = node.op.grad({
      inputs: node.inputs,
      outputs: Object.fromEntries(node.outputs.map((tensor) => [names[tensor.index]!, tensor])),
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
