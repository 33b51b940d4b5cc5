// Builds the package: AssemblyScript kernels → embedded Wasm modules → dist/, the command line bundled. With --if-stale only what changed;
// with --kernels only the kernels.
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const script = fileURLToPath(import.meta.url);
const root = join(dirname(script), '..');
const assembly = join(root, 'src/backends/wasm/assembly');
const generated = join(root, 'src/backends/wasm/generated');
const onlyIfStale = process.argv.includes('--if-stale');

/** Files below a folder whose names pass. */
function files(folder, passes) {
  return readdirSync(folder, { recursive: true })
    .map(String)
    .filter(passes)
    .sort()
    .map((name) => join(folder, name));
}

const hash = (paths) => {
  const sum = createHash('sha256');
  for (const path of paths) sum.update(path.slice(root.length)).update(readFileSync(path));
  return sum.digest('hex');
};

/** Runs `build` unless its inputs are as they were when it last succeeded. */
function step(name, inputs, outputs, build) {
  const stamp = join(root, 'dist', `.${name}.stamp`);
  const current = hash(inputs);
  if (onlyIfStale && outputs.every(existsSync) && existsSync(stamp) && readFileSync(stamp, 'utf8') === current) return;
  build();
  mkdirSync(dirname(stamp), { recursive: true });
  writeFileSync(stamp, current);
}

const KERNEL = /^export function (\w+)\(args: usize, thread: i32, threads: i32\): void/gm;

/** Every kernel, in a fixed order: a plan names kernels by their number. */
function kernels() {
  return files(assembly, (name) => name.endsWith('.ts')).flatMap((path) =>
    [...readFileSync(path, 'utf8').matchAll(KERNEL)].map(([, name]) => ({
      name,
      file: path.slice(assembly.length + 1),
    })),
  );
}

function buildKernels() {
  mkdirSync(generated, { recursive: true });
  const list = kernels();
  const entry = join(generated, 'entry.ts');
  const imports = list.map(({ name, file }) => `import { ${name} } from '../assembly/${file.replace(/\.ts$/, '')}';`);
  const cases = list.map(({ name }, id) => `    case ${id}: ${name}(args, thread, threads); break;`);
  writeFileSync(
    entry,
    `${imports.join('\n')}
import { barrier } from '../assembly/barrier';
import { shareCounter } from '../assembly/schedule';

export { ${list.map(({ name }) => name).join(', ')} };

/** Walks a plan: [kernel, args] words from \`plan\` on, \`steps\` of them, with a barrier after each; ends early where another thread has failed. */
export function walk(plan: usize, steps: i32, thread: i32, threads: i32, control: usize, mayWait: i32): void {
  shareCounter(control, threads);
  for (let i = 0; i < steps; i++) {
    const args = <usize>load<u32>(plan + 8 * i, 4);
    switch (load<i32>(plan + 8 * i)) {
${cases.join('\n')}
      default: unreachable();
    }
    if (!barrier(control, threads, mayWait)) return;
  }
}
`,
  );
  const asc = join(root, 'node_modules/assemblyscript/bin/asc.js');
  const common = [
    '-O3',
    '--noAssert',
    '--runtime',
    'stub',
    '--importMemory',
    '--sharedMemory',
    '--initialMemory',
    '16',
    '--maximumMemory',
    '65536',
    '--enable',
    'simd,threads,bulk-memory',
    '--disableWarning',
    '112',
  ];
  try {
    for (const [name, extra] of [
      ['simd', []],
      ['relaxed', ['--enable', 'relaxed-simd']],
    ]) {
      const out = join(generated, `${name}.wasm`);
      execFileSync(process.execPath, [asc, entry, '-o', out, ...common, ...extra], { stdio: 'inherit', cwd: root });
      const bytes = readFileSync(out);
      writeFileSync(
        join(generated, `${name}.ts`),
        `/** The kernels (${name} build), ${bytes.length} bytes, base64. */\nexport const module =\n  '${bytes.toString('base64')}';\n`,
      );
      rmSync(out);
    }
  } finally {
    rmSync(entry);
  }
  writeFileSync(
    join(generated, 'kernel-ids.ts'),
    `/** Numbers by which plans name the kernels. */\nexport const kernelIds = {\n${list.map(({ name }, id) => `  ${name}: ${id},`).join('\n')}\n} as const;\n\nexport type KernelName = keyof typeof kernelIds;\n`,
  );
}

/** The command line as a few files, those of a command read when it is named: two hundred modules take long to find and to open. */
function bundleCommandLine() {
  const folder = join(root, 'dist/cli');
  // Here, so that a start that finds nothing stale need not wait for it.
  const { buildSync } = createRequire(import.meta.url)('esbuild');
  rmSync(folder, { recursive: true });
  buildSync({
    entryPoints: [join(root, 'src/cli/main.ts')],
    outdir: folder,
    bundle: true,
    splitting: true,
    packages: 'external',
    format: 'esm',
    platform: 'node',
    target: 'node20.19',
    sourcemap: true,
    sourcesContent: false,
    logLevel: 'warning',
  });
}

const kernelSources = [...files(assembly, (name) => name.endsWith('.ts')), script];
const kernelOutputs = ['simd.ts', 'relaxed.ts', 'kernel-ids.ts'].map((name) => join(generated, name));
step('kernels', kernelSources, kernelOutputs, buildKernels);

if (!process.argv.includes('--kernels')) {
  const sources = files(
    join(root, 'src'),
    (name) => name.endsWith('.ts') && !name.includes('assembly') && !name.endsWith('.test.ts'),
  );
  const settings = ['tsconfig.json', 'tsconfig.build.json', 'package.json'].map((name) => join(root, name));
  step('dist', [...sources, ...settings, script], [join(root, 'dist/index.js')], () => {
    for (const name of existsSync(join(root, 'dist')) ? readdirSync(join(root, 'dist')) : []) {
      if (!name.endsWith('.stamp')) rmSync(join(root, 'dist', name), { recursive: true });
    }
    const tsc = join(root, 'node_modules/typescript/bin/tsc');
    execFileSync(process.execPath, [tsc, '-p', join(root, 'tsconfig.build.json')], { stdio: 'inherit', cwd: root });
    bundleCommandLine();
  });
}
