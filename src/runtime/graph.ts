import type { WeightLayout } from '../core/backend.ts';
import { reachable } from '../core/grad.ts';
import { type StepInputs, stepInputs } from '../core/step.ts';
import type { Node, Tensor } from '../core/tensor.ts';
import { type Adaptation, type Carry, type Parameter, type Scope, Trace } from '../core/trace.ts';
import type { Architecture } from '../models/architecture.ts';
import { linear } from '../ops/linear.ts';
import { select } from '../ops/views.ts';

/** A model's graph: what one step computes, and the parameters and states that were found on the way. */
export interface ModelGraph {
  readonly step: StepInputs;
  /** Hidden states after the last norm, [tokens, D]. */
  readonly hidden: Tensor;
  /** Logits of the rows that the step asks for, [outputs, V], or of labels, [outputs, C]. */
  readonly logits: Tensor;
  readonly parameters: ReadonlyMap<string, Parameter>;
  readonly carries: readonly Carry[];
  /** How the kernels read each parameter. Those that are not read by `rows` may be stored in fewer bits. */
  readonly layouts: ReadonlyMap<string, WeightLayout>;
}

/** What a model gives in the place of the next token's logits: a linear map of the hidden state. */
export interface Head {
  /** The parameter, [size, D], such as `score.weight`. */
  readonly name: string;
  readonly size: number;
  /** The parameter [size] that is added, if there is one, such as `qa_outputs.bias`. */
  readonly bias?: string;
}

export interface TraceOptions {
  readonly head?: Head | undefined;
  readonly adapt?: Adaptation | undefined;
}

/** Runs an architecture on symbolic tensors. */
export function traceModel<Config>(
  architecture: Architecture<Config>,
  config: Config,
  { head, adapt }: TraceOptions = {},
): ModelGraph {
  const trace = new Trace(adapt);
  const scope = trace.scope();
  const step = stepInputs();
  const hidden = architecture.body(scope, config, step);
  const rows = select(hidden, step.rows);
  const logits = head ? headOf(head, scope, rows) : architecture.head(scope, config, rows);
  const carries = [...trace.carries.values()];
  const roots = [logits, ...carries.map(({ next }) => next)];
  return { step, hidden, logits, parameters: trace.parameters, carries, layouts: layoutsOf(roots) };
}

function headOf({ name, size, bias }: Head, p: Scope, rows: Tensor): Tensor {
  const w = p(name, [size, rows.shape[1] as number], { kind: 'normal', std: 0.02 });
  return linear(rows, w, bias === undefined ? undefined : p(bias, [size], { kind: 'zeros' }));
}

/** Parameters that every step reads whole: all but tables of which it takes single rows. */
export function readWhole({ logits, carries }: Pick<ModelGraph, 'logits' | 'carries'>): Set<string> {
  const names = new Set<string>();
  for (const node of reachable([logits, ...carries.map(({ next }) => next)].map((root) => root.node))) {
    for (const [operand, { node: source }] of Object.entries(node.inputs))
      if (source.leaf?.kind === 'parameter' && !(node.op!.name === 'embed' && operand === 'table'))
        names.add(source.leaf.name);
  }
  return names;
}

/**
 * Matrices that make the values which several heads of queries share in attention. An error in them is an error of every
 * one of these heads, and they are small: 4 bits cost most there (docs/quantisation.md).
 */
export function sharedValues({ logits, carries }: Pick<ModelGraph, 'logits' | 'carries'>): Set<string> {
  const names = new Set<string>();
  for (const { op, inputs } of reachable([logits, ...carries.map(({ next }) => next)].map((root) => root.node))) {
    if (op?.name !== 'attention' || !(inputs.q!.shape[1]! > inputs.v!.shape[1]!)) continue;
    let { node } = inputs.v!;
    while (node.op?.name === 'reshape') node = node.inputs.x!.node;
    const w = node.op?.name === 'linear' ? node.inputs.w!.node.leaf : undefined;
    if (w?.kind === 'parameter') names.add(w.name);
  }
  return names;
}

/** Operands through which an op reads a whole matrix, so that how it is stored is the kernel's business. */
const matrixOperands: Readonly<Record<string, { operand: string; layout: WeightLayout }>> = {
  linear: { operand: 'w', layout: 'linear' },
  embed: { operand: 'table', layout: 'linear' },
  linearTransposed: { operand: 'w', layout: 'linearTransposed' },
};

/** The layout that a node wants this operand in, if it reads it as a matrix. */
export function matrixOperand(node: Node, operand: string): WeightLayout | undefined {
  const known = node.op && matrixOperands[node.op.name];
  return known?.operand === operand ? known.layout : undefined;
}

/** How the kernels of a graph read each parameter. */
export function layoutsOf(roots: readonly Tensor[]): Map<string, WeightLayout> {
  const layouts = new Map<string, WeightLayout>();
  for (const node of reachable(roots.map((root) => root.node))) {
    for (const [operand, { node: source }] of Object.entries(node.inputs)) {
      if (source.leaf?.kind !== 'parameter') continue;
      const layout = matrixOperand(node, operand) ?? 'rows';
      const before = layouts.get(source.leaf.name);
      layouts.set(source.leaf.name, before === undefined || before === layout ? layout : 'rows');
    }
  }
  return layouts;
}
