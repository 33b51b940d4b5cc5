import type { WeightLayout } from '../core/backend.ts';
import { InputError } from '../core/errors.ts';
import { reachable } from '../core/grad.ts';
import type { Adaptation, Parameter } from '../core/trace.ts';
import { expr } from '../ops/expr.ts';
import { linearTransposed } from '../ops/linear.ts';
import type { ModelGraph } from '../runtime/graph.ts';
import type { Learning, Objective } from './learner.ts';

/** What of a model is learned. */
export interface MethodOptions {
  /**
   * `full`: everything · `lora`: low-rank additions to matrices (Hu et al. 2021) · `head`: only a new head · `state`: only the state
   * that every text begins with, of RWKV and other recurrent models.
   */
  readonly method?: 'full' | 'lora' | 'head' | 'state' | undefined;
  /** LoRA: rank of the additions. Default 8. */
  readonly rank?: number | undefined;
  /** LoRA: the additions are scaled by alpha / rank. Default 16. */
  readonly alpha?: number | undefined;
  /**
   * LoRA: a regular expression of the names of matrices of linear products. Default: all but embeddings and head, and but `out_proj` and `dt_proj`
   * of Mamba's family, to which the PEFT library can not add.
   */
  readonly targets?: string | undefined;
  /** Decoupled weight decay of matrices. Default 0.1. */
  readonly weightDecay?: number | undefined;
  /** Regular expressions of the names of parameters that do not decay, matrices though they are. */
  readonly undecayed?: readonly string[] | undefined;
  /** Factors of the learning rate by regular expressions of names; where several fit, they are multiplied. 0 leaves a parameter as it is. */
  readonly rates?: Readonly<Record<string, number>> | undefined;
}

export const methods = ['full', 'lora', 'head', 'state'] as const;

/** Matrices of maps between hidden states. */
const isMap = (name: string): boolean => !/emb|head|wte|wpe|norm|ln_/.test(name);

/**
 * Matrices of Mamba's family that transformers reads past their modules, where additions of PEFT's would not be seen, by `model_type`: PEFT 0.21
 * refuses `out_proj`, and says nothing of `dt_proj`.
 */
const readPastModule: Readonly<Record<string, RegExp>> = {
  mamba: /\.(out|dt)_proj\.weight$/,
  mamba2: /\.out_proj\.weight$/,
  falcon_mamba: /\.(out|dt)_proj\.weight$/,
};

/** How a linear product has its matrix: as rows of outputs [O, I], or, in GPT-2, of inputs [I, O]. */
export type MatrixLayout = Exclude<WeightLayout, 'rows'>;

const products: readonly MatrixLayout[] = ['linear', 'linearTransposed'];

/** The matrices that linear products read and nothing else does, by name: those of modules to which additions can be made. */
function linearMatrices({ logits, carries }: Pick<ModelGraph, 'logits' | 'carries'>): [string, MatrixLayout][] {
  const reads = new Map<string, MatrixLayout | undefined>();
  for (const node of reachable([logits, ...carries.map(({ next }) => next)].map((root) => root.node)))
    for (const [operand, { node: source }] of Object.entries(node.inputs)) {
      if (source.leaf?.kind !== 'parameter') continue;
      const { name } = source.leaf;
      const layout = operand === 'w' ? products.find((product) => product === node.op!.name) : undefined;
      reads.set(name, !reads.has(name) || reads.get(name) === layout ? layout : undefined);
    }
  return [...reads].flatMap(([name, layout]) =>
    layout && name.endsWith('.weight') ? [[name, layout] as [string, MatrixLayout]] : [],
  );
}

/** The parameters of the addition to a matrix. */
export const loraNames = (name: string): { A: string; B: string } => {
  const module = name.replace(/\.weight$/, '');
  return { A: `${module}.lora_A.weight`, B: `${module}.lora_B.weight` };
};

/** The additions' rank, and how much of them counts. InputError for what is none. */
export function loraOf({ rank = 8, alpha = 16 }: MethodOptions): { readonly rank: number; readonly scale: number } {
  if (!Number.isSafeInteger(rank) || rank < 1)
    throw new InputError(`rank is ${rank}: it must be a whole number above 0`);
  return { rank, scale: alpha / rank };
}

/** Which matrices of a model LoRA adds to; a new head, whose parameters `head` names, is none. InputError for a pattern that fits none. */
export function loraTargets(
  { targets }: MethodOptions,
  graph: Pick<ModelGraph, 'logits' | 'carries'>,
  type: string,
  head: readonly string[] = [],
): ReadonlyMap<string, MatrixLayout> {
  const all = linearMatrices(graph).filter(([name]) => !head.includes(name));
  const pattern = targets === undefined ? undefined : regularExpression(targets, 'targets');
  const chosen = all.filter(([name]) =>
    pattern ? pattern.test(name) : isMap(name) && readPastModule[type]?.test(name) !== true,
  );
  if (chosen.length > 0) return new Map(chosen);
  const modules = [...new Set(all.map(([name]) => lastModule(name)))].sort().join(', ');
  throw new InputError(
    `targets${pattern ? `: ${targets}` : ''} fits no matrix of a linear product. Additions can be made to ${modules}: see \`riverrun inspect --tensors\` for their full names`,
  );
}

/** The last part of the name of a parameter's module, such as `in_proj`. */
export const lastModule = (name: string): string => name.split('.').at(-2)!;

function regularExpression(text: string, option: string): RegExp {
  try {
    return new RegExp(text);
  } catch (cause) {
    throw new InputError(`${option}: ${(cause as Error).message}`, { cause });
  }
}

/**
 * W + (alpha / rank) · B A in the place of every matrix W that `targets` names, with B [O, rank] and A [rank, I]. A matrix that is stored as [I, O] has
 * the two as [rank, O] and [I, rank].
 */
export function loraAdaptation(options: MethodOptions, targets: ReadonlyMap<string, MatrixLayout>): Adaptation {
  const { rank, scale } = loraOf(options);
  return (parameter, declare) => {
    const layout = targets.get(parameter.name);
    if (layout === undefined) return parameter.tensor;
    const isTransposed = layout === 'linearTransposed';
    const [rows, columns] = parameter.shape as [number, number];
    const [O, I] = isTransposed ? [columns, rows] : [rows, columns];
    const names = loraNames(parameter.name);
    const A = declare(names.A, isTransposed ? [I, rank] : [rank, I], {
      kind: 'uniform',
      low: -(I ** -0.5),
      high: I ** -0.5,
    });
    const B = declare(names.B, isTransposed ? [rank, O] : [O, rank], { kind: 'zeros' });
    const product = isTransposed ? linearTransposed(A, B) : linearTransposed(B, A);
    return expr`${parameter.tensor} + ${scale} * ${product}`;
  };
}

/** What is learned of a model, by method; `head` names the parameters of a new head. */
export function learnedBy(
  { parameters, carries }: ModelGraph,
  { method = 'full', weightDecay = 0.1, ...groups }: MethodOptions,
  head: readonly string[] = [],
): Pick<Objective, 'trained' | 'initialStates'> {
  const all = [...parameters.values()];
  const { decays, rateOf } = groupsOf(groups, [...all, ...carries]);
  const learn = (chosen: Iterable<Parameter>): Map<string, Learning> =>
    new Map(
      [...chosen].map(({ name, shape }): [string, Learning] => [
        name,
        { decay: isDecayed(name, shape) && decays(name) ? weightDecay : 0, rate: rateOf(name) },
      ]),
    );
  const isHead = ({ name }: Parameter) => head.includes(name);
  switch (method) {
    case 'full':
      return { trained: learn(all) };
    case 'lora':
      return { trained: learn(all.filter((one) => isHead(one) || /\.lora_[AB]\.weight$/.test(one.name))) };
    case 'head':
      if (head.length === 0)
        throw new InputError(
          'method head needs a task with a head of its own: labels, or answers that stand in a context',
        );
      return { trained: learn(all.filter(isHead)) };
    case 'state': {
      const states = carries.filter(({ growing, shape, tuning }) => !growing && (shape.length === 3 || tuning));
      if (states.length === 0)
        throw new InputError(
          'the model carries no state that could be learned: all that it keeps of a text grows with it, as in a Transformer',
        );
      const initialStates = new Map(
        states.map(({ name, fill, tuning: { begin, learned } = { begin: fill, learned: true } }) => [
          name,
          { decay: 0, rate: learned ? rateOf(name) : 0, begin },
        ]),
      );
      return { trained: learn(all.filter(isHead)), initialStates };
    }
    default:
      throw new InputError(`method is ${String(method)}: it must be one of ${methods.join(', ')}`);
  }
}

/** What the patterns say of names. InputError for one that fits none. */
function groupsOf(
  { undecayed = [], rates = {} }: Pick<MethodOptions, 'undecayed' | 'rates'>,
  named: readonly { readonly name: string }[],
): { decays(name: string): boolean; rateOf(name: string): number } {
  const pattern = (text: string, option: string): RegExp => {
    const found = regularExpression(text, option);
    if (!named.some(({ name }) => found.test(name)))
      throw new InputError(
        `${option}: ${text} fits no parameter of the model: see \`riverrun inspect\` for their names`,
      );
    return found;
  };
  const exempt = undecayed.map((text) => pattern(text, 'undecayed'));
  const factors = Object.entries(rates).map(([text, factor]) => {
    if (!(factor >= 0 && Number.isFinite(factor)))
      throw new InputError(`rates: the factor of ${text} is ${factor}: it must be 0 or above`);
    return { fits: pattern(text, 'rates'), factor };
  });
  return {
    decays: (name) => !exempt.some((one) => one.test(name)),
    rateOf: (name) => factors.reduce((product, { fits, factor }) => (fits.test(name) ? product * factor : product), 1),
  };
}

/**
 * Weight decay is for matrices only: not for norms, biases, convolutions, decays (`A_log`, `w0` …), mixing weights, nor RWKV's
 * low-rank maps.
 */
const isDecayed = (name: string, shape: readonly number[]): boolean =>
  name.endsWith('weight') && !/conv1d/.test(name) && shape.filter((length) => length > 1).length >= 2;
