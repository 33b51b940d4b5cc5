import { afterAll, describe, expect, test } from 'vitest';
import { wasmBackend } from '../src/backends/wasm/index.ts';
import type { Backend, WeightFormat, WeightLayout } from '../src/core/backend.ts';
import { type Layout, plan } from '../src/core/plan.ts';
import { Random } from '../src/core/random.ts';
import type { Tensor } from '../src/core/tensor.ts';
import { input, leaf } from '../src/core/trace.ts';
import { add, expr } from '../src/ops/expr.ts';
import { linear } from '../src/ops/linear.ts';
import { rmsNorm } from '../src/ops/norm.ts';
import { spawnThread } from '../src/platform/node.ts';
import { evaluate, type GivenParameter } from '../src/verification/op-cases.ts';

/** Guarded, with every number of threads that has kernels divide a row differently. */
const backends = [
  await wasmBackend({ relaxed: false, guards: true }),
  await wasmBackend({ guards: true }),
  await wasmBackend({ threads: 2, spawn: spawnThread, guards: true }),
  await wasmBackend({ threads: 3, spawn: spawnThread }),
];
afterAll(() => {
  for (const backend of backends) backend.dispose();
});

/** The same backend, but every node is a step of its own. */
const apart = (backend: Backend): Backend => ({
  ...backend,
  layout: (weights) => ({ ...backend.layout(weights), joins: () => false }),
});

const formats: readonly WeightFormat[] = ['f32', 'bf16', 'f16', 'q8', 'q4'];

/** h + linear(norm(h)) twice, the second norm's products two of the same rows: [D] rows and products of width E. */
function block(D: number, E: number, format: WeightFormat) {
  const random = new Random(1000 * D + E);
  const normal = (length: number) => Float32Array.from({ length }, () => random.normal());
  const declare = (name: string, shape: readonly number[], layout: WeightLayout = 'rows'): GivenParameter => ({
    ...{ name, shape, layout, format: layout === 'rows' ? 'f32' : format },
    values: normal(shape.reduce((a, b) => a * b, 1)),
  });
  const parameters = [
    declare('norm', [D]),
    ...['up', 'gate'].map((name) => declare(name, [E, D], 'linear')),
    declare('down', [D, E], 'linear'),
    ...['bias', 'b'].map((name, i) => declare(name, [i === 0 ? E : D])),
  ];
  const [norm, up, gate, down, bias, b] = parameters.map(({ name, shape }) =>
    leaf({ kind: 'parameter', name, initial: { kind: 'zeros' } }, [...shape]),
  ) as [Tensor, Tensor, Tensor, Tensor, Tensor, Tensor];
  const x = input('x', ['tokens', D]);
  const mixed = add(linear(linear(rmsNorm(x, undefined, 1e-5), up, bias), down, b), x);
  const rows = rmsNorm(mixed, norm, 1e-6);
  const y = add(mixed, linear(expr`silu(${linear(rows, gate)}) * ${linear(rows, up)}`, down));
  return { parameters, x, mixed, rows, y, normal };
}

const names = (outputs: ReadonlyMap<string, Tensor>, layout: Layout, tokens: number): string[] =>
  plan(outputs, [], { tokens, segments: 1, outputs: tokens }, layout).steps.map(({ op }) => op.name);

describe.each(formats)('a block with matrices in %s', (format) => {
  test.each([1, 3, 63, 65].flatMap((D) => [1, 33, 64].map((E) => [D, E] as const)))(
    '%i wide, %i within: steps that are joined give the bits of steps apart, for any number of rows and threads',
    (D, E) => {
      const { parameters, mixed, y, normal } = block(D, E, format);
      for (const rows of [1, 2, 3, 4, 5, 8, 17]) {
        const data = { x: normal(rows * D) };
        const counts = { tokens: rows, segments: 1, outputs: rows };
        // With what is added to in sight, and with the last value alone.
        for (const outputs of [
          new Map([['y', y]]),
          new Map([
            ['mixed', mixed],
            ['y', y],
          ]),
        ]) {
          const expected = evaluate(outputs, [], counts, data, apart(backends[1]!), parameters);
          for (const backend of backends) {
            const what = `${backend.name}, ${backend.threads} threads, ${rows} rows`;
            const result = evaluate(outputs, [], counts, data, backend, parameters);
            const same =
              backend === backends[0] ? evaluate(outputs, [], counts, data, apart(backend), parameters) : expected;
            expect(result, what).toEqual(same);
          }
        }
      }
    },
  );
});

describe('what is joined', () => {
  const { parameters, rows, y } = block(64, 96, 'q4');
  const layoutOf = (format: WeightFormat, backend = backends[0]!) => {
    const weights = backend.weights(
      parameters.map(({ values, ...declaration }) => ({
        ...declaration,
        format: declaration.layout === 'rows' ? 'f32' : format,
      })),
    );
    return backend.layout(weights);
  };
  const all = new Map([['y', y]]);

  test('with one token, norms are part of quantised products, and these of the sums that read them', () => {
    for (const format of ['q4', 'q8'] as const)
      expect(names(all, layoutOf(format), 1)).toEqual(['linear', 'expr', 'linear', 'linear', 'expr', 'expr']);
  });

  test('with several, or in other formats, products are part of sums', () => {
    const joined = ['rmsNorm', 'linear', 'expr', 'rmsNorm', 'linear', 'linear', 'expr', 'expr'];
    expect(names(all, layoutOf('q4'), 2)).toEqual(joined);
    for (const format of ['f32', 'bf16', 'f16'] as const) expect(names(all, layoutOf(format), 1)).toEqual(joined);
  });

  test('a norm that something else looks at is a step of its own', () => {
    const tapped = new Map([...all, ['rows', rows]]);
    const found = names(tapped, layoutOf('q4'), 1);
    expect(found).toEqual(['linear', 'expr', 'rmsNorm', 'linear', 'linear', 'expr', 'expr']);
  });

  test('a product that something else looks at, or that a sum reads twice or spreads, is a step of its own', () => {
    const layout = layoutOf('q4');
    const x = input('x', ['tokens', 64]);
    const [w, wide] = [
      leaf({ kind: 'parameter', name: 'up', initial: { kind: 'zeros' } }, [96, 64]),
      input('z', ['tokens', 96]),
    ];
    const product = linear(x, w);
    expect(names(new Map([['y', add(product, wide)]]), layout, 1)).toEqual(['expr']);
    expect(
      names(
        new Map([
          ['y', add(product, wide)],
          ['p', product],
        ]),
        layout,
        1,
      ),
    ).toEqual(['linear', 'expr']);
    expect(names(new Map([['y', add(product, product)]]), layout, 1)).toEqual(['linear', 'expr']);
    expect(names(new Map([['y', add(product, input('row', [96]))]]), layout, 1)).toEqual(['linear', 'expr']);
    expect(names(new Map([['y', expr`${product} - ${wide}`]]), layout, 1)).toEqual(['linear', 'expr']);
    expect(
      names(
        new Map([
          ['a', add(product, wide)],
          ['b', add(wide, product)],
        ]),
        layout,
        1,
      ),
    ).toEqual(['linear', 'expr', 'expr']);
  });
});
