import { reachable } from '../core/grad.ts';
import { type StepInputs, stepInputs } from '../core/step.ts';
import type { Tensor } from '../core/tensor.ts';
import { type Carry, type Parameter, Trace } from '../core/trace.ts';
import type { Architecture } from '../models/architecture.ts';
import { select } from '../ops/views.ts';

/** A model's graph: what one step computes, and the parameters and states that were found on the way. */
export interface ModelGraph {
  readonly step: StepInputs;
  /** Hidden states after the last norm, [tokens, D]. */
  readonly hidden: Tensor;
  /** Logits of the rows that the step asks for, [outputs, V]. */
  readonly logits: Tensor;
  readonly parameters: ReadonlyMap<string, Parameter>;
  readonly carries: readonly Carry[];
  /** Parameters that only matrix products and look-ups read: these may be stored in fewer bits. */
  readonly matrices: ReadonlySet<string>;
}

/** Runs an architecture on symbolic tensors. */
export function traceModel<Config>(architecture: Architecture<Config>, config: Config): ModelGraph {
  const trace = new Trace();
  const scope = trace.scope();
  const step = stepInputs();
  const hidden = architecture.body(scope, config, step);
  const logits = architecture.head(scope, config, select(hidden, step.rows));
  const carries = [...trace.carries.values()];
  const roots = [logits, ...carries.map(({ next }) => next)];
  return { step, hidden, logits, parameters: trace.parameters, carries, matrices: matricesOf(roots) };
}

/** Operands through which an op reads a whole matrix, so that how it is stored is the kernel's business. */
const matrixOperands: Readonly<Record<string, string>> = { linear: 'w', linearTransposed: 'w', embed: 'table' };

function matricesOf(roots: readonly Tensor[]): Set<string> {
  const matrices = new Set<string>();
  const others = new Set<string>();
  for (const node of reachable(roots.map((root) => root.node))) {
    for (const [operand, { node: source }] of Object.entries(node.inputs)) {
      if (source.leaf?.kind !== 'parameter') continue;
      (matrixOperands[node.op!.name] === operand ? matrices : others).add(source.leaf.name);
    }
  }
  for (const name of others) matrices.delete(name);
  return matrices;
}
