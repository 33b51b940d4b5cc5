import { afterAll, describe, expect, test } from 'vitest';
import { referenceBackend } from '../src/backends/reference/index.ts';
import { wasmBackend } from '../src/backends/wasm/index.ts';
import type { Backend } from '../src/core/backend.ts';
import { Random } from '../src/core/random.ts';
import { elementCount } from '../src/core/shape.ts';
import type { Tensor } from '../src/core/tensor.ts';
import { apply, input } from '../src/core/trace.ts';
import { expr, sumTo } from '../src/ops/expr.ts';
import { gradients } from '../src/ops/gradients.ts';
import { ops } from '../src/ops/index.ts';
import { spawnThread } from '../src/platform/node.ts';
import { evaluate, runSetting, setting } from '../src/verification/op-cases.ts';
import { errorRatio, tolerance } from './tolerance.ts';
import { watchedReads } from './watched-reads.ts';

const f64 = referenceBackend('f64');
const backends: [string, Backend][] = [
  ['reference f32', referenceBackend('f32')],
  ['wasm simd', await wasmBackend({ relaxed: false, guards: true, rewrite: watchedReads })],
  ['wasm relaxed', await wasmBackend({ relaxed: true, guards: true, rewrite: watchedReads })],
  ['wasm relaxed, places shared', await wasmBackend({ relaxed: true, poison: true })],
  ['wasm, 2 threads', await wasmBackend({ threads: 2, spawn: spawnThread, guards: true })],
];
afterAll(() => {
  for (const [, backend] of backends) backend.dispose();
});

describe.each(Object.entries(ops))('%s', (_, op) => {
  test('has cases', () => {
    expect(op.cases.length).toBeGreaterThan(0);
  });

  test.each(op.cases.map((one, i) => [i, one] as const))('case %i: every backend agrees with float64', (_, one) => {
    const made = setting(op, one);
    const truth = runSetting(made, f64);
    for (const [backendName, backend] of backends) {
      const result = runSetting(made, backend);
      for (const name of Object.keys(truth)) {
        expect(truth[name]!.every(Number.isFinite), `${name} has a value everywhere`).toBe(true);
        expect(errorRatio(result[name]!, truth[name]!), `${name} on ${backendName}`).toBeLessThan(tolerance.op);
      }
    }
  });

  if (!op.grad) return;
  test.each(op.cases.map((one, i) => [i, one] as const))(
    'case %i: the derivative is that of a central difference',
    (_, one) => {
      const made = setting(op, one, 2);
      const random = new Random(3);
      const outputs = apply(op, made.inputs, one.attributes);
      // A random weight per output element makes the loss depend on all of them.
      const weights: Record<string, number[]> = {};
      let loss: Tensor | undefined;
      const names = Object.keys(op.outputs);
      const grown = (op.growing ?? []).map((name) => op.state![name]);
      for (const [i, output] of outputs.entries()) {
        if (grown.includes(names[i]!)) continue;
        const name = `weight${i}`;
        weights[name] = Array.from({ length: elementCount(output.shape, made.counts) }, () => random.normal());
        const part = sumTo(expr`${output} * ${input(name, output.shape)}`, [1]);
        loss = loss ? expr`${loss} + ${part}` : part;
      }
      const floats = Object.entries(made.inputs).filter(
        ([name, tensor]) => tensor.dtype === 'f32' && !op.growing?.includes(name),
      );
      const derivatives = gradients(
        loss!,
        floats.map(([, tensor]) => tensor),
      );
      const carries = Object.keys(op.state ?? {}).map((name) => {
        const previous = made.inputs[name]!;
        const growing = op.growing?.includes(name) ?? false;
        const next = growing ? outputs[names.indexOf(op.state![name]!)]! : previous;
        return { name, shape: previous.shape.slice(1) as number[], fill: 0, growing, previous, next };
      });
      const wanted = new Map<string, Tensor>([['loss', loss!]]);
      for (const [i, [name]] of floats.entries()) if (derivatives[i]) wanted.set(`d:${name}`, derivatives[i]);
      const analytic = evaluate(wanted, carries, made.counts, { ...made.data, ...weights }, f64);
      for (const [i, [name]] of floats.entries()) {
        const gradient = derivatives[i] ? analytic[`d:${name}`]! : made.data[name]!.map(() => 0);
        const direction = gradient.map(() => random.normal());
        const step = 1e-4;
        const at = (sign: number) => {
          const moved = made.data[name]!.map((value, j) => Math.fround(value + sign * step * direction[j]!));
          const used = moved.map((value, j) => value - made.data[name]![j]!);
          return {
            used,
            loss: evaluate(
              new Map([['loss', loss!]]),
              carries,
              made.counts,
              { ...made.data, ...weights, [name]: moved },
              f64,
            )['loss']![0]!,
          };
        };
        const [up, down] = [at(1), at(-1)];
        const expected = up.loss - down.loss;
        const predicted = gradient.reduce((sum, g, j) => sum + g * (up.used[j]! - down.used[j]!), 0);
        const scale = gradient.reduce((sum, g, j) => sum + Math.abs(g * (up.used[j]! - down.used[j]!)), 0);
        expect(Math.abs(predicted - expected) / Math.max(scale, 1e-9), `∂/∂${name}`).toBeLessThan(tolerance.difference);
      }
    },
  );
});
