// Compiles kernels and the packers that go with them, for checks and timings without the rest of the engine.
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, relative, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import v8 from 'node:v8';
import { build } from 'esbuild';

const root = fileURLToPath(new URL('..', import.meta.url));

/** Compiles kernels given as { file: [names] } with or without relaxed SIMD, of this checkout or another. */
export function compileKernels(kernels, relaxed, checkout = root) {
  if (relaxed) {
    // On by default since Node 22, and unknown to some newer ones.
    if (process.versions.v8.split('.')[0] < 12) v8.setFlagsFromString('--experimental-wasm-relaxed-simd');
  }
  const folder = mkdtempSync(join(tmpdir(), 'kernels-'));
  try {
    const entry = join(folder, 'entry.ts');
    const assembly = relative(folder, resolve(checkout, 'src/backends/wasm/assembly'));
    const lines = Object.entries(kernels).map(
      ([file, names]) => `export { ${names.join(', ')} } from '${join(assembly, file.replace(/\.ts$/, ''))}';`,
    );
    writeFileSync(entry, lines.join('\n'));
    const out = join(folder, 'kernels.wasm');
    const flags =
      '-O3 --noAssert --runtime stub --importMemory --sharedMemory --initialMemory 16 --maximumMemory 65536 --disableWarning 112'.split(
        ' ',
      );
    const features = `simd,threads,bulk-memory${relaxed ? ',relaxed-simd' : ''}`;
    execFileSync(
      process.execPath,
      [join(root, 'node_modules/assemblyscript/bin/asc.js'), entry, '-o', out, ...flags, '--enable', features],
      { stdio: ['ignore', 'ignore', 'inherit'], cwd: root },
    );
    return new WebAssembly.Module(readFileSync(out));
  } finally {
    rmSync(folder, { recursive: true });
  }
}

/** Imports TypeScript sources, given as { name: path below src }, on a Node that does not run TypeScript. */
export async function importSources(sources) {
  const contents = Object.entries(sources)
    .map(([name, path]) => `export * as ${name} from './src/${path}';`)
    .join('\n');
  const result = await build({
    stdin: { contents, resolveDir: root, loader: 'ts' },
    bundle: true,
    format: 'esm',
    write: false,
    platform: 'neutral',
  });
  return await import(`data:text/javascript;base64,${Buffer.from(result.outputFiles[0].contents).toString('base64')}`);
}
