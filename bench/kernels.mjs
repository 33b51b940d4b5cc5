// Checks and times the matrix-product kernels, in both builds.
//   node bench/kernels.mjs [--check] [--simd | --relaxed] [--revectorize] [--out bench/results/kernels.json]   (FILE keeps what other Nodes found)
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { cpus } from 'node:os';
import { dirname } from 'node:path';
import v8 from 'node:v8';
import { Arena } from './kernel-arena.mjs';
import { checkProducts } from './kernel-checks.mjs';
import { compileKernels, importSources } from './kernel-module.mjs';
import { productKernels, productSources } from './kernel-products.mjs';
import { timeProducts } from './kernel-times.mjs';

const has = (flag) => process.argv.includes(flag);
if (has('--revectorize')) v8.setFlagsFromString('--experimental-wasm-revectorize');
const sources = await importSources(productSources);
const builds = [...(has('--relaxed') ? [] : [false]), ...(has('--simd') ? [] : [true])];
const results = new Map();
const products = [];
for (const relaxed of builds) {
  const name = relaxed ? 'relaxed' : 'simd';
  const module = compileKernels(productKernels, relaxed);
  const failures = checkProducts(new Arena(module), sources, results);
  for (const failure of failures.slice(0, 20)) console.log(`${name}: ${failure}`);
  if (failures.length > 0) {
    console.log(`${name}: ${failures.length} checks failed, so no speeds`);
    process.exitCode = 1;
    continue;
  }
  console.log(`${name}: all checks pass (Node ${process.versions.node})`);
  if (!has('--check')) products.push(...timeProducts(name, new Arena(module, 1024), sources));
}
const out = process.argv.includes('--out') ? process.argv[process.argv.indexOf('--out') + 1] : undefined;
if (out !== undefined && products.length > 0) {
  const isRevectorized = has('--revectorize');
  const isOf = (run) => run.node === process.version && run.isRevectorized === isRevectorized;
  const before = existsSync(out) ? JSON.parse(readFileSync(out, 'utf8')).runs : [];
  const runs = [...before.filter((run) => !isOf(run)), { node: process.version, isRevectorized, products }];
  mkdirSync(dirname(out), { recursive: true });
  writeFileSync(out, `${JSON.stringify({ machine: { cpu: cpus()[0].model }, threads: 1, runs }, null, 2)}\n`);
}
