import type { Backend, Intake, Weights } from '../core/backend.ts';
import type { Digest } from '../core/digest.ts';
import { reachable } from '../core/grad.ts';
import { plan } from '../core/plan.ts';
import { elementCount } from '../core/shape.ts';
import type { Node, Tensor } from '../core/tensor.ts';
import type { Parameter } from '../core/trace.ts';
import { layoutsOf, type ModelGraph, matrixOperand } from './graph.ts';

/** A parameter that is computed once from others, when a model is loaded. */
export interface DerivedParameter {
  readonly name: string;
  readonly shape: readonly number[];
  /** What it is, in the graph that it was taken out of. */
  readonly tensor: Tensor;
  /** The parameters that it is computed from, and their shapes. */
  readonly sources: ReadonlyMap<string, readonly number[]>;
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
export interface DerivingWeights extends Pick<Weights, 'intake' | 'read' | 'digest'> {
  /** Whether a parameter may be stored without its numbers being seen here. */
  takes(name: string): boolean;
  /** As of `Weights`; it may take a while, when the last number is there that others wait for. */
  write(name: string, values: Float32Array, start?: number): void | Promise<void>;
  /** Lets go of what is kept, where loading ends before all is there. */
  dispose(): void;
}

/** Bytes of parameters that are kept, at most, before what is derived from them is computed; of one parameter, as many as it has. */
const KEPT = 1 << 22;

/**
 * Where a folded graph's parameters are written as they are loaded: those that others are computed from are kept until a few megabytes of
 * them are there, and then computed with by the same kernels that a step would do it with.
 */
export function derivingWeights(
  { parameters, derived }: FoldedGraph,
  weights: Weights,
  backend: Backend,
): DerivingWeights {
  const waiting = groups(derived).map((group) => new Deriving(group, weights, backend));
  const sources = new Set(derived.flatMap((parameter) => [...parameter.sources.keys()]));
  const intake = weights.intake && ((bytes: number): Intake => weights.intake!(bytes));
  return {
    takes: (name) => parameters.has(name) && !sources.has(name),
    ...(intake && { intake }),
    ...(weights.digest && { digest: (digests: ReadonlyMap<string, Digest>) => weights.digest!(digests) }),
    read: (name) => weights.read(name),
    async write(name, piece, start) {
      if (parameters.has(name)) weights.write(name, piece, start);
      if (sources.has(name)) for (const deriving of waiting) await deriving.write(name, piece, start);
    },
    dispose() {
      for (const deriving of waiting) deriving.dispose();
    },
  };
}

const numbersOf = (shapes: Iterable<readonly number[]>): number =>
  [...shapes].reduce((sum, shape) => sum + elementCount(shape, none), 0);

/** Derived parameters in groups whose sources are few enough to be kept, all of one source together. */
function groups(derived: readonly DerivedParameter[]): DerivedParameter[][] {
  const found: DerivedParameter[][] = [];
  let [last, sources]: [DerivedParameter[], Map<string, readonly number[]>] = [[], new Map()];
  for (const parameter of derived) {
    const all = new Map([...sources, ...parameter.sources]);
    if (found.length === 0 || 4 * numbersOf(all.values()) > KEPT) {
      [last, sources] = [[], new Map()];
      found.push(last);
    }
    last.push(parameter);
    for (const [name, shape] of parameter.sources) sources.set(name, shape);
  }
  return found;
}

/** Derived parameters that are computed together, as soon as all that they are computed from is there. */
class Deriving {
  readonly #group: readonly DerivedParameter[];
  readonly #weights: Weights;
  readonly #backend: Backend;
  readonly #sources: ReadonlyMap<string, readonly number[]>;
  #kept: Weights | undefined;
  #missing: number;

  constructor(group: readonly DerivedParameter[], weights: Weights, backend: Backend) {
    this.#group = group;
    this.#weights = weights;
    this.#backend = backend;
    this.#sources = new Map(group.flatMap(({ sources }) => [...sources]));
    this.#missing = numbersOf(this.#sources.values());
  }

  /** Keeps numbers of a source, if it is one. */
  async write(name: string, piece: Float32Array, start?: number): Promise<void> {
    if (!this.#sources.has(name)) return;
    this.#kept ??= this.#backend.weights(
      [...this.#sources].map(([name, shape]) => ({ name, shape, layout: 'rows', format: 'f32' })),
    );
    this.#kept.write(name, piece, start);
    this.#missing -= piece.length;
    if (this.#missing === 0) await this.#compute(this.#kept);
  }

  async #compute(kept: Weights): Promise<void> {
    const results = new Map(this.#group.map(({ name, tensor }) => [name, tensor]));
    const made = plan(results, [], none, this.#backend.layout(kept));
    const executable = this.#backend.compile(made, kept, []);
    await executable.run(none, []);
    // Copies: room for packing may grow the memory, and views of it end then.
    for (const { name } of this.#group) this.#weights.write(name, Float32Array.from(executable.output(name)));
    executable.dispose();
    this.dispose();
  }

  dispose(): void {
    this.#kept?.dispose();
    this.#kept = undefined;
  }
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
  const sources = new Map<string, readonly number[]>();
  for (const { leaf, outputs } of nodes)
    if (leaf?.kind === 'parameter') sources.set(leaf.name, outputs[0]!.shape as readonly number[]);
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
  return { leaf, parameter: { name, shape, tensor, sources } };
}

/** Shapes of what depends on parameters alone have no run-time axes. */
const none = { tokens: 0, segments: 0, outputs: 0 };
