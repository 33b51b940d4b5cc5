import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { referenceBackend } from '../src/backends/reference/index.ts';
import { wasmBackend } from '../src/backends/wasm/index.ts';
import type { Backend } from '../src/core/backend.ts';
import { plan } from '../src/core/plan.ts';
import { elementCount } from '../src/core/shape.ts';
import type { Tensor } from '../src/core/tensor.ts';
import { input } from '../src/core/trace.ts';
import { bytesSource } from '../src/formats/byte-source.ts';
import { openSafetensors } from '../src/formats/safetensors.ts';
import type { StoredParameter } from '../src/models/architecture.ts';
import { architectureOf } from '../src/models/index.ts';
import { crossEntropy } from '../src/ops/cross-entropy.ts';
import { gradients } from '../src/ops/gradients.ts';
import { mean } from '../src/ops/mean.ts';
import { spawnThread } from '../src/platform/node.ts';
import { traceModel } from '../src/runtime/graph.ts';
import { withoutRepeatedHead } from '../src/runtime/repeated-head.ts';
import { type GoldenTensor, goldenFolder, readTensors } from './golden.ts';
import { errorRatio, tolerance } from './tolerance.ts';

const backends: [string, Backend, { model: number; gradient: number }][] = [
  ['reference f64', referenceBackend('f64'), { model: tolerance.f64, gradient: tolerance.f64 }],
  ['reference f32', referenceBackend('f32'), tolerance],
  ['wasm simd', await wasmBackend({ relaxed: false, poison: true }), tolerance],
  ['wasm relaxed, 2 threads', await wasmBackend({ threads: 2, spawn: spawnThread, poison: true }), tolerance],
];

/** Fixtures of every architecture, and in `odd` of sizes and options that few models have. */
const models = ['', 'odd/'].flatMap((folder) => {
  if (!existsSync(goldenFolder(folder))) return [];
  const entries = readdirSync(goldenFolder(folder), { withFileTypes: true }).filter((entry) => entry.isDirectory());
  return entries
    .map(({ name }) => folder + name)
    .filter((name) => readdirSync(goldenFolder(name)).includes('golden.safetensors'));
});

/** Architectures whose goldens store a state as [H, K, V]; the engine's is [H, V, K] for all. */
const keyFirst: Readonly<Record<string, string>> = {
  linear_attn: 'S',
  retnet: 'S',
  gla: 'S',
  delta_net: 'S',
  gated_deltanet: 'S',
  rwkv5: 'wkv',
  rwkv6: 'wkv',
};

/** Swaps the last two axes of [H, K, V]. */
function swapped({ data, shape }: GoldenTensor): number[] {
  const [H, K, V] = shape as [number, number, number];
  return Array.from(
    { length: H * V * K },
    (_, i) => data[Math.floor(i / (V * K)) * K * V + (i % K) * V + (Math.floor(i / K) % V)]!,
  );
}

/** A model's tensors, without a head that repeats the embedding. */
async function storedOf(name: string): Promise<Map<string, GoldenTensor>> {
  const path = `${goldenFolder(name)}model.safetensors`;
  const json = JSON.parse(readFileSync(`${goldenFolder(name)}config.json`, 'utf8'));
  const { tensors } = await withoutRepeatedHead(json, await openSafetensors(bytesSource(readFileSync(path), name)));
  return new Map([...readTensors(path)].filter(([tensor]) => tensors.has(tensor)));
}

const storedTensors = new Map(await Promise.all(models.map(async (name) => [name, await storedOf(name)] as const)));

describe.each(models)('%s', (name) => {
  const golden = readTensors(`${goldenFolder(name)}golden.safetensors`);
  const stored = storedTensors.get(name)!;
  const json = JSON.parse(readFileSync(`${goldenFolder(name)}config.json`, 'utf8'));
  const architecture = architectureOf(json, stored);
  const config = architecture.config(json, stored);
  const canonical = (file: string): StoredParameter | undefined => {
    const source = architecture.rename ? architecture.rename(file, config) : file;
    return typeof source === 'string' ? { name: source } : (source ?? undefined);
  };

  test.each(backends)('logits, loss, gradients and states on %s', (_, backend, limits) => {
    const graph = traceModel(architecture, config);
    const loss = mean(crossEntropy(graph.logits, input('targets', ['outputs'], 'i32')), input('weights', ['outputs']));
    const parameters = [...graph.parameters.values()];
    const derivatives = gradients(
      loss,
      parameters.map(({ tensor }) => tensor),
    );
    const outputs = new Map<string, Tensor>([
      ['logits', graph.logits],
      ['loss', loss],
    ]);
    for (const [i, parameter] of parameters.entries())
      if (derivatives[i]) outputs.set(`grad.${parameter.name}`, derivatives[i]);

    const tokens = golden.get('tokens')!.data as Int32Array;
    const counts = { tokens: tokens.length, segments: 1, outputs: tokens.length };
    const weights = backend.weights(
      parameters.map(({ name, shape }) => ({ name, shape, format: 'f32' as const, layout: 'rows' as const })),
    );
    for (const [file, { data, shape }] of stored) {
      const source = canonical(file);
      if (source) weights.write(source.name, source.convert?.(data as Float32Array, shape) ?? (data as Float32Array));
    }
    const made = plan(outputs, graph.carries, counts, backend.layout());
    const executable = backend.compile(made, weights, graph.carries);
    const slot = backend.slot(graph.carries);
    executable.input('tokens').set(tokens);
    executable.input('ends').set([tokens.length]);
    if (made.inputs.has('positions')) executable.input('positions').set([0]);
    executable.input('rows').set(Int32Array.from(tokens.keys()));
    executable.input('targets').set([...tokens.subarray(1), -1]);
    executable.input('weights').set(Array.from(tokens, (_, i) => (i + 1 < tokens.length ? 1 : 0)));
    slot.reserve(tokens.length);
    executable.run(counts, [slot]);

    const result = (output: string) =>
      executable.output(output).subarray(0, elementCount(outputs.get(output)!.shape, counts));
    expect(errorRatio(result('logits'), golden.get('logits')!.data), 'logits').toBeLessThan(limits.model);
    expect(errorRatio(result('loss'), golden.get('loss')!.data), 'loss').toBeLessThan(limits.model);
    for (const [file, { data, shape }] of golden) {
      if (!file.startsWith('grad.')) continue;
      const source = canonical(file.slice('grad.'.length));
      const isZero = data.every((value) => value === 0);
      // A stored tensor that the model does not use has no gradient, and none is asked for.
      if (!source || isZero) expect(isZero && !outputs.has(`grad.${source?.name}`), `${file} is zero`).toBe(true);
      else {
        const expected = source.convert?.(data as Float32Array, shape) ?? data;
        expect(errorRatio(result(`grad.${source.name}`), expected), file).toBeLessThan(limits.gradient);
      }
    }
    for (const [file, tensor] of golden) {
      const [kind, layer, part] = file.split('.');
      if (kind !== 'state') continue;
      const carry = graph.carries.find(
        (one) => one.name.match(/\d+/)?.[0] === layer && one.name.split('.').at(-1) === part,
      );
      expect(carry, `${file} is carried`).toBeDefined();
      const expected = keyFirst[architecture.type] === part ? swapped(tensor) : tensor.data;
      expect(errorRatio(slot.read(carry!.name), expected), file).toBeLessThan(limits.model);
    }
    slot.dispose();
    executable.dispose();
    weights.dispose();
  });
});
