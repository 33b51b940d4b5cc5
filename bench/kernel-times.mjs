import { packMatrix, productCalls, scratchBytes } from './kernel-products.mjs';
import { gaussian } from './kernel-reference.mjs';

/** [I, O, rows of x]: matrices of models of width 768, and one that no cache holds. */
const cases = [
  [768, 768, 64],
  [768, 3072, 256],
  [3072, 768, 128],
  [768, 768, 4],
  [768, 16384, 1],
  [768, 16384, 4],
];

/** Prints and gives the rates of all formats, 10⁹ a second of multiply-adds and of bytes of the matrix, best of many runs taken in turns. */
export function timeProducts(build, arena, sources) {
  const found = [];
  for (const [I, O, T] of cases) {
    arena.reset();
    const runs = ['f32', 'bf16', 'f16', 'q8', 'q4'].map((format) => prepare(arena, sources, format, I, O, T));
    for (const { run } of runs) for (let n = 0; n < 20; n++) run();
    const deadline = performance.now() + 2500;
    while (performance.now() < deadline) {
      for (const timing of runs) {
        const start = performance.now();
        timing.run();
        timing.best = Math.min(timing.best, performance.now() - start);
      }
    }
    const rates = Object.fromEntries(
      runs.map(({ format, bytes, best }) => {
        const of = (count) => +(count / best / 1e6).toFixed(1);
        return [format, { multiplyAdds: of(T * I * O), bytes: of(bytes) }];
      }),
    );
    found.push({ build, rows: T, matrix: [O, I], rates });
    const columns = Object.entries(rates).map(
      ([format, { multiplyAdds, bytes }]) =>
        `${format} ${multiplyAdds.toFixed(1)}${T <= 4 ? ` (${bytes.toFixed(1)} GB/s)` : ''}`,
    );
    console.log(`${build}: ${T} rows × [${O}, ${I}], GMAC/s: ${columns.join(' · ')}`);
  }
  return found;
}

function prepare(arena, sources, format, I, O, T) {
  const random = gaussian(7);
  const { W, bytes } = packMatrix(
    arena,
    sources,
    format,
    Float32Array.from({ length: O * I }, () => random() * 0.05),
    O,
    I,
  );
  const scratch = scratchBytes(sources, format, T, I, 1);
  const x = Float32Array.from({ length: T * I }, random);
  const calls = productCalls({
    format,
    rows: arena.words(T),
    inner: 1,
    x: [arena.put(x), I],
    W,
    bias: 0,
    y: [arena.allocate(4 * T * O), O],
    I: arena.words(I),
    O,
    quantised: arena.allocate(scratch.x),
    panels: arena.allocate(scratch.panels),
  }).map(([name, words]) => [arena.kernels[name], arena.words(...words)]);
  const run = () => {
    for (const [kernel, args] of calls) kernel(args, 0, 1);
  };
  return { format, bytes, run, best: Number.POSITIVE_INFINITY };
}
