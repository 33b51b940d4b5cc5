// The held-out loss of a model by our engine.
import { load } from '../dist/index.js';
import { WINDOW, windowsOf } from './held-out.mjs';

/** Mean −ln p of the text's tokens. `kvCache` is how keys and values are kept, for models with attention. */
export async function heldOutLoss(path, weights, values, kvCache) {
  const model = await load(path, { weights, threads: Number(values.threads), ...(kvCache && { kvCache }) });
  const V = model.vocabularySize;
  let sum = 0;
  let count = 0;
  for (const window of windowsOf(model, values)) {
    const session = model.session();
    const logits = await session.logitsOf(window.slice(0, -1));
    for (let t = 0; t < WINDOW - 1; t++) {
      const row = logits.subarray(t * V, (t + 1) * V);
      const largest = row.reduce((a, b) => Math.max(a, b), -Infinity);
      let total = 0;
      for (const value of row) total += Math.exp(value - largest);
      sum += Math.log(total) + largest - row[window[t + 1]];
      count++;
    }
    session.dispose();
  }
  const hasAttention = model.kvCache !== undefined;
  model.dispose();
  return { loss: sum / count, tokens: count, hasAttention };
}
