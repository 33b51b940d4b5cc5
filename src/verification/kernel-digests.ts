import type { Backend, StoredRowsType, WeightFormat, WeightLayout } from '../core/backend.ts';
import { Digest } from '../core/digest.ts';
import { Random } from '../core/random.ts';
import type { Tensor } from '../core/tensor.ts';
import { type Carry, input, leaf } from '../core/trace.ts';
import { embed } from '../ops/embed.ts';
import { expr } from '../ops/expr.ts';
import { ops } from '../ops/index.ts';
import { linear, linearTransposed } from '../ops/linear.ts';
import { recurrenceGradOp } from '../ops/recurrence.ts';
import { evaluate, runSetting, setting } from './op-cases.ts';

const formats: readonly WeightFormat[] = ['f32', 'bf16', 'f16', 'q8', 'q4'];

/** Outputs and inputs of matrices, with rests of every kind. */
const shapes: readonly (readonly [number, number])[] = [
  [65, 63],
  [19, 96],
  [128, 160],
];

/** Rows that are multiplied together: a token, a few sequences, a block. */
const rowCounts = [1, 2, 3, 5, 17, 66];

/**
 * A digest of what each kernel computes, by the kernel's name and case: of every case of every op, of products with
 * matrices in every format, and of states that take each other's place. Two builds of the kernels whose digests are the same compute
 * the same to the last bit.
 *
 * @param together a backend of several threads: what only those compute is told of it, too
 */
export function kernelDigests(backend: Backend, together?: Backend): Map<string, string> {
  const digests = new Map<string, string>();
  for (const op of Object.values(ops))
    for (const [n, one] of op.cases.entries())
      digests.set(`${op.name} ${n}`, digestOf(runSetting(setting(op, one), backend)));
  for (const format of formats)
    for (const shape of shapes)
      for (const rows of rowCounts)
        digests.set(`${format} [${shape.join(', ')}] × ${rows}`, digestOf(products(backend, format, shape, rows)));
  for (const type of Object.keys(rowBytes) as StoredRowsType[])
    for (const format of formats) {
      const stored = storedRows(backend, type, format);
      if (stored) digests.set(`${type} stored as ${format}`, stored);
    }
  digests.set('states', digestOf(exchangedStates(backend)));
  // Its sums over the heads of a group are in parts, one for each thread.
  for (const [n, one] of together ? recurrenceGradOp.cases.entries() : [])
    digests.set(`recurrenceGrad ${n}, together`, digestOf(runSetting(setting(recurrenceGradOp, one), together!)));
  return digests;
}

/** Bytes of a row of 96 numbers, and of its scales. */
const rowBytes: Readonly<Record<StoredRowsType, readonly [number, number]>> = {
  f32: [384, 0],
  bf16: [192, 0],
  f16: [192, 0],
  q8_0: [102, 0],
  q4_0: [54, 0],
  q8: [96, 6],
  q4: [48, 6],
};

/** A digest of 19 rows of 96 numbers stored as a file has them: of what is held then, by reading it and by its own digest, and of what was found. */
function storedRows(backend: Backend, type: StoredRowsType, format: WeightFormat): string | undefined {
  const [O, I] = [19, 96];
  const weights = backend.weights([{ name: 'w', shape: [O, I], format, layout: 'linear' }]);
  try {
    const intake = weights.intake?.(4 * O * I);
    if (!intake) return undefined;
    const random = new Random(type.length);
    const [length, scalesLength] = rowBytes[type].map((bytes) => O * bytes) as [number, number];
    // Any bytes will do but those that make numbers of no end: the highest bits of exponents, which are in odd places, stay clear.
    const room = intake.rooms[0];
    for (let n = 0; n < length + scalesLength; n++) room[n] = random.integer(256) & (n % 2 ? 0xbf : 0xff);
    const rows = { type, count: O * I, bytes: room.subarray(0, length) };
    const scales = room.subarray(length, length + scalesLength);
    const digest = new Digest();
    const found = intake.store('w', scalesLength > 0 ? { ...rows, scales } : rows, 0, digest);
    intake.dispose();
    weights.digest?.(new Map([['w', digest]]));
    return digest
      .text(`${found.largest} ${found.fit16}`)
      .words(new Int32Array(weights.read('w').buffer))
      .hex();
  } finally {
    weights.dispose();
  }
}

/** What products of `rows` rows with a matrix and with a transposed one are, and rows of the matrix. */
function products(
  backend: Backend,
  format: WeightFormat,
  [O, I]: readonly [number, number],
  rows: number,
): Record<string, number[]> {
  const random = new Random(rows);
  const normal = (length: number) => Float32Array.from({ length }, () => random.normal());
  const declare = (name: string, shape: readonly number[], layout: WeightLayout) => ({ name, shape, format, layout });
  const parameters = [
    { ...declare('w', [O, I], 'linear'), values: normal(O * I) },
    { ...declare('turned', [I, O], 'linearTransposed'), values: normal(O * I) },
  ];
  const [w, turned] = parameters.map(({ name, shape }) =>
    leaf({ kind: 'parameter', name, initial: { kind: 'zeros' } }, [...shape]),
  );
  const x = input('x', ['tokens', I]);
  const outputs = new Map<string, Tensor>([
    ['linear', linear(x, w!)],
    ['linearTransposed', linearTransposed(x, turned!)],
    ['embed', embed(input('ids', ['tokens'], 'i32'), w!)],
  ]);
  const data = { x: normal(rows * I), ids: Int32Array.from({ length: rows }, () => random.integer(O)) };
  return evaluate(outputs, [], { tokens: rows, segments: 1, outputs: rows }, data, backend, parameters);
}

/** Two states, of which one becomes the other and the other what was computed from both. */
function exchangedStates(backend: Backend): Record<string, number[]> {
  const random = new Random(5);
  const [width, segments] = [67, 3];
  const [a, b] = ['a', 'b'].map((name) => leaf({ kind: 'state', name, fill: 0 }, ['segments', width])) as [
    Tensor,
    Tensor,
  ];
  const carry = (name: string, previous: Tensor, next: Tensor): Carry => ({
    name,
    shape: [width],
    fill: 0,
    growing: false,
    previous,
    next,
  });
  const carries = [carry('a', a, expr`${a} - 2 * ${b}`), carry('b', b, a)];
  const numbers = () => Float32Array.from({ length: segments * width }, () => random.normal());
  return evaluate(
    new Map(),
    carries,
    { tokens: segments, segments, outputs: 1 },
    { a: numbers(), b: numbers() },
    backend,
  );
}

function digestOf(result: Readonly<Record<string, readonly number[]>>): string {
  const digest = new Digest();
  for (const [name, values] of Object.entries(result))
    digest.text(name).words(new Int32Array(Float32Array.from(values).buffer));
  return digest.hex();
}
