import type { Generation } from '../runtime/generate.ts';

/** Runs a generation to its end, telling its pieces as they come. */
export async function complete<Result = Generation>(
  generation: AsyncGenerator<string, Result, void>,
  onText?: (piece: string) => void,
): Promise<Result> {
  for (;;) {
    const next = await generation.next();
    if (next.done) return next.value;
    onText?.(next.value);
  }
}
