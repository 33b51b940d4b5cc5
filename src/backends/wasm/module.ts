/** The kernels' exports. */
export interface KernelModule {
  walk(plan: number, steps: number, thread: number, threads: number, control: number, mayWait: number): void;
}

/** A module whose only function uses a relaxed SIMD instruction (i32x4.relaxed_trunc_f32x4_s). */
const relaxedProbe = Uint8Array.of(
  0,
  97,
  115,
  109,
  1,
  0,
  0,
  0,
  1,
  5,
  1,
  96,
  0,
  1,
  123,
  3,
  2,
  1,
  0,
  10,
  15,
  1,
  13,
  0,
  65,
  1,
  253,
  15,
  65,
  2,
  253,
  15,
  253,
  128,
  2,
  11,
);

/** Whether this engine compiles relaxed SIMD. */
export const hasRelaxedSimd = (): boolean => WebAssembly.validate(relaxedProbe);

/** The bytes of a kernel build, for a memory that is shared between threads or not. */
export function moduleBytes(base64: string, shared: boolean): Uint8Array<ArrayBuffer> {
  const text = atob(base64);
  const bytes = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
  return shared ? bytes : importUnsharedMemory(bytes);
}

/**
 * The kernels are built for shared memory. Atomic instructions are valid on memory of either kind, so all that a build
 * without SharedArrayBuffer needs is the flag of the memory's import: limits 3 (shared, with maximum) become 1.
 */
function importUnsharedMemory(bytes: Uint8Array<ArrayBuffer>): Uint8Array<ArrayBuffer> {
  let at = 8;
  const leb = () => {
    let value = 0;
    for (let shift = 0; ; shift += 7) {
      const byte = bytes[at++]!;
      value |= (byte & 127) << shift;
      if (byte < 128) return value >>> 0;
    }
  };
  const skip = () => {
    const length = leb();
    at += length;
  };
  const IMPORTS = 2;
  const MEMORY = 2;
  while (bytes[at] !== IMPORTS) {
    at++;
    skip();
  }
  at++;
  leb();
  const count = leb();
  skip();
  skip();
  if (count !== 1 || bytes[at] !== MEMORY) throw new Error('the kernels should import one memory and nothing else');
  bytes[at + 1] = bytes[at + 1]! & ~2;
  return bytes;
}
