import type { Backend, StateDeclaration, WeightDeclaration } from '../core/backend.ts';
import type { Case, Fill, Op } from '../core/op.ts';
import { plan } from '../core/plan.ts';
import { Random } from '../core/random.ts';
import { type Counts, type Dim, elementCount, type Shape } from '../core/shape.ts';
import type { Tensor } from '../core/tensor.ts';
import { apply, type Carry, input, leaf } from '../core/trace.ts';

/** A case of an op made concrete: leaves of the right shapes, and data for them. */
export interface Setting {
  readonly op: Op;
  readonly case: Case;
  readonly counts: Counts;
  readonly inputs: Readonly<Record<string, Tensor>>;
  readonly data: Readonly<Record<string, number[]>>;
}

/** Builds the tensors of a case, filled from the seed. Axis T is the run-time tokens, B the segments, R the outputs. */
export function setting(op: Op, one: Case, seed = 1): Setting {
  const random = new Random(seed);
  const segments = one.segments ?? [3];
  const tokens = segments.reduce((a, b) => a + b, 0);
  const counts: Counts = { tokens, segments: segments.length, outputs: one.axes['R'] ?? tokens };
  const axis = (name: string): Dim => {
    if (name === 'T') return 'tokens';
    if (name === 'B') return 'segments';
    if (name === 'R') return 'outputs';
    const length = /^\d+$/.test(name) ? Number(name) : one.axes[name];
    if (length === undefined) throw new Error(`${op.name}: a case gives no length for axis ${name}`);
    return length;
  };
  const inputs: Record<string, Tensor> = {};
  const data: Record<string, number[]> = {};
  for (const [key, signature] of Object.entries(op.inputs)) {
    const name = key.replace('?', '');
    const chosen = key.endsWith('?') ? one.optional?.[name] : true;
    if (!chosen) continue;
    const pattern = typeof chosen === 'string' ? chosen : (one.patterns?.[name] ?? signature.split('|')[0]!).trim();
    const shape: Shape = pattern.replace('…', 'T').split(/\s+/).filter(Boolean).map(axis);
    const dtype = op.dtypes?.[name] ?? 'f32';
    // A carried state is read through the sequences' own memory, as in a model.
    inputs[name] =
      op.state?.[name] !== undefined ? leaf({ kind: 'state', name, fill: 0 }, shape) : input(name, shape, dtype);
    const length = elementCount(shape, counts);
    if (name === 'ends') data[name] = segments.map((_, b) => segments.slice(0, b + 1).reduce((x, y) => x + y, 0));
    else if (name === 'rows') data[name] = Array.from({ length }, (_, i) => (i * 7) % tokens);
    else {
      const limit = (one.axes['V'] ?? (one.attributes?.['V'] as number)) || 1;
      const fill = one.fill?.[name] ?? 'normal';
      data[name] = Array.from({ length }, () => draw(fill, random, limit));
    }
  }
  return { op, case: one, counts, inputs, data };
}

function draw(fill: Fill, random: Random, limit: number): number {
  // Rounded to f32, so that backends of either precision compute from the same numbers.
  const value = {
    normal: () => random.normal(),
    positive: () => 0.05 + random.uniform(),
    negative: () => -0.05 - random.uniform(),
    unit: () => random.uniform() * 0.5,
    token: () => random.integer(limit),
    zero: () => 0,
    large: () => 80 * random.normal(),
    // Log-decays of every size, down to those that leave nothing.
    vanishing: () => -(10 ** (3 * random.uniform() - 1)),
  }[fill]();
  return Math.fround(value);
}

/** Runs the op of a setting on a backend; outputs by name, then the states as `next:<name>`. */
export function runSetting(
  { op, case: { attributes, stateFormat = 'f32' }, counts, inputs, data }: Setting,
  backend: Backend,
): Record<string, number[]> {
  const outputs = apply(op, inputs, attributes);
  const names = Object.keys(op.outputs);
  const carries: Carry[] = [];
  const wanted = new Map<string, Tensor>();
  const overwritten = new Set(Object.values(op.state ?? {}));
  for (const [i, name] of names.entries()) {
    if (!overwritten.has(name) && outputs[i]) wanted.set(name, outputs[i]);
  }
  for (const [name, output] of Object.entries(op.state ?? {})) {
    const previous = inputs[name];
    if (!previous) continue;
    const shape = previous.shape.slice(1) as number[];
    const growing = op.growing?.includes(name) ?? false;
    carries.push({
      name,
      shape,
      fill: 0,
      growing,
      ...(growing && { format: stateFormat }),
      previous,
      next: output === null ? previous : outputs[names.indexOf(output)]!,
    });
  }
  return evaluate(wanted, carries, counts, data, backend);
}

/** A parameter that a graph reads, with its numbers. */
export interface GivenParameter extends WeightDeclaration {
  readonly values: Float32Array;
}

/** Plans and runs a graph on data, with a capacity a little above the counts, and reads everything back. */
export function evaluate(
  outputs: ReadonlyMap<string, Tensor>,
  carries: readonly Carry[],
  counts: Counts,
  data: Readonly<Record<string, ArrayLike<number>>>,
  backend: Backend,
  parameters: readonly GivenParameter[] = [],
): Record<string, number[]> {
  const capacity = { tokens: counts.tokens + 2, segments: counts.segments + 1, outputs: counts.outputs + 2 };
  const weights = backend.weights(parameters);
  for (const { name, values } of parameters) weights.write(name, values);
  const made = plan(outputs, carries, capacity, backend.layout(weights));
  const executable = backend.compile(made, weights, carries);
  const declarations: readonly StateDeclaration[] = carries;
  const slots = Array.from({ length: counts.segments }, () => backend.slot(declarations));
  for (const [name] of made.inputs) executable.input(name).set(data[name]!);
  const { ends } = data;
  for (const [b, slot] of slots.entries()) slot.reserve(ends ? ends[b]! - (b > 0 ? ends[b - 1]! : 0) : counts.tokens);
  for (const { name, shape, growing } of carries) {
    if (growing) continue;
    const width = shape.reduce((a, b) => a * b, 1);
    for (const [b, slot] of slots.entries())
      slot.write(name, Float32Array.from(Array.from(data[name]!).slice(b * width, (b + 1) * width)));
  }
  executable.run(counts, slots);
  const result: Record<string, number[]> = {};
  for (const [name, tensor] of outputs) {
    result[name] = Array.from(executable.output(name).subarray(0, elementCount(tensor.shape, counts)));
  }
  for (const { name } of carries) result[`next:${name}`] = slots.flatMap((slot) => Array.from(slot.read(name)));
  for (const slot of slots) slot.dispose();
  executable.dispose();
  weights.dispose();
  return result;
}
