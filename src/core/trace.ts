import { ShapeError } from './errors.ts';
import type { Op } from './op.ts';
import { type Axes, buildShape, type Dim, formatShape, matchShape, type Shape } from './shape.ts';
import type { StateFormat } from './state-format.ts';
import type { Attributes, DType, Initializer, Leaf, Node, Tensor } from './tensor.ts';

let nextId = 0;
/** The names of the scopes being traced, for node paths and error messages: the only state of this module. */
const scopes: string[] = [];

const here = (): string => scopes.join('.');
const where = (): string => (scopes.length > 0 ? ` (in ${here()})` : '');

/** Applies an op to tensors: checks the shapes against its signature and adds a node to the graph. */
export function apply(
  op: Op,
  inputs: Readonly<Record<string, Tensor | undefined>>,
  attributes: Attributes = {},
): Tensor[] {
  const present: Record<string, Tensor> = {};
  for (const [name, tensor] of Object.entries(inputs)) if (tensor) present[name] = tensor;
  const shapes = outputShapes(op, present, attributes);
  const names = Object.keys(op.outputs);
  return makeNode(
    { op, leaf: undefined, inputs: present, attributes, name: op.name },
    shapes.map((shape, i) => ({ shape, dtype: op.dtypes?.[names[i]!] ?? 'f32' })),
  );
}

/** Runs `body` inside the scope `name`: nodes made in it carry the scope in their paths and messages. */
export function within<R>(name: string, body: () => R): R {
  scopes.push(name);
  try {
    return body();
  } finally {
    scopes.pop();
  }
}

function outputShapes(op: Op, inputs: Readonly<Record<string, Tensor>>, attributes: Attributes): readonly Shape[] {
  const axes: Axes = { named: new Map() };
  const known = new Map(Object.entries(op.inputs).map(([key, pattern]) => [key.replace('?', ''), { key, pattern }]));
  for (const name of Object.keys(inputs)) {
    if (!known.has(name)) throw new ShapeError(`${op.name}: it has no input ${name}${where()}`);
  }
  for (const [name, { key, pattern }] of known) {
    const tensor = inputs[name];
    if (!tensor) {
      if (!key.endsWith('?')) throw new ShapeError(`${op.name}: input ${name} is missing${where()}`);
      continue;
    }
    const dtype = op.dtypes?.[name] ?? 'f32';
    if (tensor.dtype !== dtype) throw new ShapeError(`${op.name}: ${name} is ${tensor.dtype}, not ${dtype}${where()}`);
    const result = matchShape(tensor.shape, pattern, axes);
    if ('problem' in result) {
      const others = Object.entries(inputs)
        .filter(([other]) => other !== name)
        .map(([other, { shape }]) => `${other} ${formatShape(shape)}`);
      const beside = others.length > 0 ? `, beside ${others.join(', ')}` : '';
      throw new ShapeError(
        `${op.name}: ${name} is ${formatShape(tensor.shape)} where ${pattern} is expected: ${result.problem}${beside}${where()}`,
      );
    }
  }
  if (op.infer) return op.infer(inputs, attributes);
  const extra = op.axes?.(attributes, axes.named) ?? {};
  for (const [name, dim] of Object.entries(extra)) axes.named.set(name, dim);
  return Object.values(op.outputs).map((pattern) => buildShape(pattern, axes));
}

/** A leaf of the graph: a parameter, an input, a carried state or a constant. */
export function leaf(kind: Leaf, shape: Shape, dtype: DType = 'f32'): Tensor {
  const name = kind.kind === 'constant' ? 'constant' : kind.name;
  return makeNode({ op: undefined, leaf: kind, inputs: {}, attributes: {}, name }, [{ shape, dtype }])[0]!;
}

/** A named tensor whose data the caller provides at every run. */
export const input = (name: string, shape: Shape, dtype: DType = 'f32'): Tensor =>
  leaf({ kind: 'input', name }, shape, dtype);

/** A tensor of fixed numbers, row-major. */
export const constant = (values: readonly number[], shape: readonly number[] = [values.length]): Tensor =>
  leaf({ kind: 'constant', values }, shape);

function makeNode(
  parts: Pick<Node, 'op' | 'leaf' | 'inputs' | 'attributes'> & { name: string },
  outputs: readonly { shape: Shape; dtype: DType }[],
): Tensor[] {
  const { name, ...rest } = parts;
  const tensors: Tensor[] = [];
  const node: Node = { id: nextId++, ...rest, outputs: tensors, path: `${here()}/${name}` };
  for (const [index, { shape, dtype }] of outputs.entries()) {
    checkShape(name, shape);
    tensors.push({ node, index, shape, dtype });
  }
  return tensors;
}

function checkShape(name: string, shape: Shape): void {
  for (const [axis, dim] of shape.entries()) {
    const valid = typeof dim === 'number' ? Number.isSafeInteger(dim) && dim >= 1 : axis === 0;
    if (!valid) throw new ShapeError(`${name}: ${formatShape(shape)} is no shape: axis ${axis} is ${dim}${where()}`);
  }
}

/** A parameter that a model was found to use. */
export interface Parameter {
  readonly name: string;
  readonly shape: readonly number[];
  readonly initial: Initializer;
  readonly tensor: Tensor;
}

/** A state that a model was found to carry from one step to the next: one array of `shape` per sequence. */
export interface Carry {
  readonly name: string;
  readonly shape: readonly number[];
  /** Value of every element before the first token. */
  readonly fill: number;
  /** Whether it gains a row of `shape` with every token. */
  readonly growing: boolean;
  /** Of one that gains rows, how many of the last are looked at; 0 or none for all. */
  readonly window?: number;
  /** How texts' first value of it is learned, where that says more than its shape. */
  readonly tuning?: Tuning | undefined;
  /** Of one that gains rows, how its numbers are kept: a model says nothing of it, and the default is f32. */
  readonly format?: StateFormat;
  readonly previous: Tensor;
  readonly next: Tensor;
}

/**
 * Where a model states its parameters and its state. `p('weight', [D])` is the parameter `<scope>.weight`;
 * `p.in('mixer', (p) => …)` opens a scope; `p.carry('ssm', [E, N], (previous) => [output, next])` declares a state.
 */
export interface Scope {
  (name: string, shape: readonly number[], initial?: Initializer): Tensor;
  in<R>(name: string, body: (scope: Scope) => R): R;
  carry<R>(
    name: string,
    shape: readonly number[],
    body: (previous: Tensor) => readonly [R, Tensor],
    options?: CarryOptions,
  ): R;
}

/** How the state that texts begin with is learned, of one in which `fill` is no place to learn from. */
export interface Tuning {
  /** The value that every element has before the first step. */
  readonly begin: number;
  /** Whether it moves from there. */
  readonly learned: boolean;
}

export interface CarryOptions {
  /** Value of every element before the first token; 0 by default. */
  readonly fill?: number;
  /** The state gains a row of `shape` with every token, instead of keeping its size. */
  readonly growing?: boolean;
  /** Of a state that grows, how many of its last rows are looked at: those before may be let go. 0, the default, for all. */
  readonly window?: number;
  /** How the state that texts begin with is learned. By default that is learned of matrices a head [H, K, V] alone, from `fill` on. */
  readonly tuning?: Tuning;
}

/**
 * What a model computes with in the place of a parameter: itself, or something made of it and of further parameters, which
 * `declare` adds (low-rank adaptation).
 */
export type Adaptation = (
  parameter: Parameter,
  declare: (name: string, shape: readonly number[], initial: Initializer) => Tensor,
) => Tensor;

/** Collects what a model declares while it is traced. */
export class Trace {
  readonly parameters = new Map<string, Parameter>();
  readonly carries = new Map<string, Carry>();
  readonly #adapted = new Map<string, Tensor>();
  readonly #adapt: Adaptation | undefined;

  constructor(adapt?: Adaptation) {
    this.#adapt = adapt;
  }

  /** The outermost scope. */
  scope(path: string[] = []): Scope {
    const qualified = (name: string) => [...path, name].join('.');
    return Object.assign(
      (name: string, shape: readonly number[], initial: Initializer = { kind: 'zeros' }) =>
        this.#parameter(qualified(name), shape, initial),
      {
        in: <R>(name: string, body: (scope: Scope) => R): R => within(name, () => body(this.scope([...path, name]))),
        carry: <R>(
          name: string,
          shape: readonly number[],
          body: (previous: Tensor) => readonly [R, Tensor],
          options: CarryOptions = {},
        ): R => this.#carry(qualified(name), shape, body, options),
      },
    );
  }

  /** The same name may be used again (a tied head), with the same shape. */
  #parameter(name: string, shape: readonly number[], initial: Initializer): Tensor {
    const known = this.parameters.get(name);
    if (known) {
      if (formatShape(known.shape) === formatShape(shape)) return this.#adapted.get(name)!;
      throw new ShapeError(
        `parameter ${name} is used as ${formatShape(shape)} and as ${formatShape(known.shape)}${where()}`,
      );
    }
    const parameter = this.#declare(name, shape, initial);
    const declare: Parameters<Adaptation>[1] = (...added) => this.#declare(...added).tensor;
    const adapted = this.#adapt?.(parameter, declare) ?? parameter.tensor;
    this.#adapted.set(name, adapted);
    return adapted;
  }

  #declare(name: string, shape: readonly number[], initial: Initializer): Parameter {
    const parameter = { name, shape, initial, tensor: leaf({ kind: 'parameter', name, initial }, shape) };
    this.parameters.set(name, parameter);
    return parameter;
  }

  #carry<R>(
    name: string,
    shape: readonly number[],
    body: (previous: Tensor) => readonly [R, Tensor],
    { fill = 0, growing = false, window = 0, tuning }: CarryOptions,
  ): R {
    if (this.carries.has(name)) throw new ShapeError(`state ${name} is carried twice${where()}`);
    const stateShape: Dim[] = ['segments', ...shape];
    const previous = leaf({ kind: 'state', name, fill }, stateShape);
    const [result, next] = body(previous);
    if (formatShape(next.shape) !== formatShape(stateShape)) {
      throw new ShapeError(
        `state ${name} is ${formatShape(stateShape)} but becomes ${formatShape(next.shape)}${where()}`,
      );
    }
    this.carries.set(name, { name, shape, fill, growing, window, tuning, previous, next });
    return result;
  }
}
