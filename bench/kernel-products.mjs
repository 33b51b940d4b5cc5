// The matrix products: how each format is packed and called.
export const productKernels = {
  'linear.ts': ['linear'],
  'linear-q8.ts': ['linearQ8'],
  'linear-q4.ts': ['linearQ4'],
  'quantise-rows.ts': ['quantiseRowsQ8', 'quantiseRowsQ4'],
  'panels.ts': ['embedPanels'],
  'pack-weights.ts': ['packWeights'],
};

export const productSources = {
  packing: 'backends/wasm/packing.ts',
  quantise: 'core/quantise.ts',
};

const codes = { f32: 0, bf16: 1, f16: 2 };
export const formatCodes = { ...codes, q8: 3, q4: 4 };

/** A matrix w [outputs, I] packed as the first outputs of [O, I]: its address, and the numbers that the kernels see in its place. */
export function packMatrix(arena, sources, format, w, O, I) {
  const packing = sources.packing.packingOf({ name: 'w', shape: [O, I], format, layout: 'linear' });
  const W = arena.allocate(packing.bytes);
  arena.u8.fill(0, W, W + packing.bytes);
  arena.call('packWeights', [arena.put(w), I, 1, 0, w.length / I, 0, I, I, W, formatCodes[format]]);
  return { W, bytes: packing.bytes, unpack: () => packing.unpack(arena.u8, W) };
}

/** Bytes that the kernels of a format want beside their operands. */
export function scratchBytes(sources, format, rows, I, threads) {
  const { x, panels } = sources.packing.productScratch(format, rows, I, threads);
  return { x: 4 * x, panels: 4 * panels };
}

/**
 * The kernel calls of a product, as [name, words]. Operands are addresses; `x` and `y` are [address, stride], `rows` is
 * the address of the number of rows of their tensors. With `accumulate` the product is added to what y is.
 */
export function productCalls({ format, rows, inner, x, W, bias, y, I, O, accumulate, quantised, panels }) {
  const residual = accumulate ? y : [0, 0];
  const rest = [W, bias, ...y, I, O, codes[format] ?? 0, panels, ...residual];
  if (format in codes) return [['linear', [rows, inner, ...x, ...rest]]];
  const name = format.toUpperCase();
  return [
    [`quantiseRows${name}`, [rows, inner, ...x, I, quantised]],
    [`linear${name}`, [rows, inner, quantised, 0, ...rest, 0, 0, 0, 0]],
  ];
}
