import type { Intake, Weights } from '../core/backend.ts';
import type { Digest } from '../core/digest.ts';
import { reachable } from '../core/grad.ts';
import type { View } from '../core/op.ts';
import { elementCount } from '../core/shape.ts';
import type { Node, Tensor } from '../core/tensor.ts';
import type { Parameter } from '../core/trace.ts';
import { layoutsOf, type ModelGraph, matrixOperand } from './graph.ts';

/** A parameter that is computed once from others, when a model is loaded. */
export interface DerivedParameter {
  readonly name: string;
  readonly shape: readonly number[];
  /** The parameters that it is computed from, and how many numbers they have. */
  readonly sourceLengths: ReadonlyMap<string, number>;
  /** Its numbers, given theirs. */
  compute(values: ReadonlyMap<string, Float32Array>): Float32Array;
}

/** A graph for inference: what depends on parameters alone has become parameters. */
export interface FoldedGraph extends ModelGraph {
  readonly derived: readonly DerivedParameter[];
}

/**
 * Takes what depends on parameters alone out of a step, such as Mamba's A = −exp(A_log) or the slices that RWKV-6 multiplies
 * by, so that it is computed at load and matrices among it can be packed. Views that cost nothing stay.
 */
export function foldConstants(graph: ModelGraph): FoldedGraph {
  const roots = [graph.logits, graph.hidden, ...graph.carries.map(({ next }) => next)];
  const nodes = [...reachable(roots.map(({ node }) => node))].sort((a, b) => a.id - b.id);
  const constant = constantNodes(nodes);
  const derived = new Map<Tensor, { leaf: Tensor; parameter: DerivedParameter }>();
  const rebuilt = new Map<Node, Node>();
  /** The tensor of the new graph that takes the place of `tensor` as operand `operand` of `user`. */
  const replaced = (tensor: Tensor, user: Node, operand: string): Tensor => {
    const isFolded = tensor.node.op && constant.has(tensor.node) && !constant.has(user);
    if (isFolded && (matrixOperand(user, operand) || !isView(tensor))) {
      const known = derived.get(tensor) ?? derive(tensor);
      derived.set(tensor, known);
      return known.leaf;
    }
    return rebuilt.get(tensor.node)?.outputs[tensor.index] ?? tensor;
  };
  for (const node of nodes) {
    const inputs = Object.entries(node.inputs).map(([name, tensor]) => [name, replaced(tensor, node, name)] as const);
    if (inputs.every(([name, tensor]) => tensor === node.inputs[name])) continue;
    const outputs: Tensor[] = [];
    const copy: Node = { ...node, inputs: Object.fromEntries(inputs), outputs };
    outputs.push(...node.outputs.map((output) => ({ ...output, node: copy })));
    rebuilt.set(node, copy);
  }
  const final = (tensor: Tensor): Tensor => rebuilt.get(tensor.node)?.outputs[tensor.index] ?? tensor;
  const logits = final(graph.logits);
  const carries = graph.carries.map((carry) => ({ ...carry, next: final(carry.next) }));
  const newRoots = [logits, ...carries.map(({ next }) => next)];
  const used = new Set<string>();
  for (const { leaf } of reachable(newRoots.map(({ node }) => node)))
    if (leaf?.kind === 'parameter') used.add(leaf.name);
  const parameters = new Map<string, Parameter>([...graph.parameters].filter(([name]) => used.has(name)));
  for (const { leaf, parameter } of derived.values())
    parameters.set(parameter.name, {
      name: parameter.name,
      shape: parameter.shape,
      initial: { kind: 'zeros' },
      tensor: leaf,
    });
  return {
    step: graph.step,
    hidden: final(graph.hidden),
    logits,
    parameters,
    carries,
    layouts: layoutsOf(newRoots),
    derived: [...derived.values()].map(({ parameter }) => parameter),
  };
}

/** Weights that others are computed from on the way. */
export interface DerivingWeights extends Pick<Weights, 'write' | 'intake' | 'read' | 'digest'> {
  /** Whether a parameter may be stored without its numbers being seen here. */
  takes(name: string): boolean;
}

/**
 * Where a folded graph's parameters are written as they are loaded: those that others are computed from are kept until all of
 * them are there.
 */
export function derivingWeights({ parameters, derived }: FoldedGraph, weights: Weights): DerivingWeights {
  const waiting = new Set(derived);
  const values = new Map<string, Float32Array>();
  const complete = new Set<string>();
  const lengths = new Map<string, number>();
  for (const { sourceLengths } of derived) for (const [name, length] of sourceLengths) lengths.set(name, length);
  const intake = weights.intake && ((bytes: number): Intake => weights.intake!(bytes));
  return {
    takes: (name) => parameters.has(name) && !lengths.has(name),
    ...(intake && { intake }),
    ...(weights.digest && { digest: (digests: ReadonlyMap<string, Digest>) => weights.digest!(digests) }),
    read: (name) => weights.read(name),
    write(name, piece, start = 0) {
      if (parameters.has(name)) weights.write(name, piece, start);
      const length = lengths.get(name);
      if (length === undefined) return;
      const all = values.get(name) ?? new Float32Array(length);
      values.set(name, all);
      all.set(piece, start);
      if (start + piece.length < length) return;
      complete.add(name);
      for (const parameter of waiting) {
        if (![...parameter.sourceLengths.keys()].every((source) => complete.has(source))) continue;
        weights.write(parameter.name, parameter.compute(values));
        waiting.delete(parameter);
      }
      if (![...waiting].some(({ sourceLengths }) => sourceLengths.has(name))) values.delete(name);
    },
  };
}

/** Nodes that depend on parameters and constants alone. */
function constantNodes(sorted: readonly Node[]): Set<Node> {
  const constant = new Set<Node>();
  for (const node of sorted) {
    const inputs = Object.values(node.inputs);
    const isLeaf = node.leaf?.kind === 'parameter' || node.leaf?.kind === 'constant';
    if (isLeaf || (node.op && inputs.length > 0 && inputs.every((input) => constant.has(input.node))))
      constant.add(node);
  }
  return constant;
}

/** Whether a tensor is a parameter's own memory seen in another shape. */
function isView({ node }: Tensor): boolean {
  if (node.leaf) return node.leaf.kind === 'parameter';
  const [input] = Object.values(node.inputs);
  return input !== undefined && node.op?.view?.(input, node.attributes) !== undefined && isView(input);
}

function derive(tensor: Tensor): { leaf: Tensor; parameter: DerivedParameter } {
  const nodes = [...reachable([tensor.node])].sort((a, b) => a.id - b.id);
  const sourceLengths = new Map<string, number>();
  for (const { leaf, outputs } of nodes)
    if (leaf?.kind === 'parameter') sourceLengths.set(leaf.name, elementCount(outputs[0]!.shape, none));
  const shape = tensor.shape as readonly number[];
  // No checkpoint has names that begin like this.
  const name = `=${tensor.node.path}#${tensor.node.id}`;
  const outputs: Tensor[] = [];
  const node: Node = {
    id: tensor.node.id,
    op: undefined,
    leaf: { kind: 'parameter', name, initial: { kind: 'zeros' } },
    inputs: {},
    attributes: {},
    outputs,
    path: tensor.node.path,
  };
  const leaf: Tensor = { node, index: 0, shape: tensor.shape, dtype: tensor.dtype };
  outputs.push(leaf);
  return { leaf, parameter: { name, shape, sourceLengths, compute: (values) => evaluate(nodes, tensor, values) } };
}

/** Runs the ops' reference kernels. */
function evaluate(
  sorted: readonly Node[],
  result: Tensor,
  parameters: ReadonlyMap<string, Float32Array>,
): Float32Array {
  const values = new Map<Tensor, Float32Array>();
  const view = (tensor: Tensor): View => {
    const shape = tensor.shape as readonly number[];
    const width = shape.slice(1).reduce((a, b) => a * b, 1);
    return { data: values.get(tensor)!, shape, row: (t) => t * width };
  };
  for (const { op, leaf, inputs, outputs, attributes } of sorted) {
    const [first] = outputs as [Tensor];
    if (leaf?.kind === 'parameter') values.set(first, parameters.get(leaf.name)!);
    else if (leaf?.kind === 'constant') values.set(first, Float32Array.from(leaf.values));
    if (!op) continue;
    for (const output of outputs) values.set(output, new Float32Array(elementCount(output.shape, none)));
    const names = Object.keys(op.outputs);
    op.reference(
      Object.fromEntries(Object.entries(inputs).map(([name, tensor]) => [name, view(tensor)])),
      Object.fromEntries(outputs.map((output) => [names[output.index]!, view(output)])),
      attributes,
    );
  }
  return values.get(result)!;
}

/** Shapes of what depends on parameters alone have no run-time axes. */
const none = { tokens: 0, segments: 0, outputs: 0 };
