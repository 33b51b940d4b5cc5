// llama.cpp, through node-llama-cpp: what the comparisons need of it.
import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

if (!existsSync(fileURLToPath(new URL('./node_modules/node-llama-cpp', import.meta.url)))) {
  console.error('node-llama-cpp is not installed: node bench/peers/install.mjs');
  process.exit(1);
}
const { getLlama, LlamaLogLevel } = await import('node-llama-cpp');

let engine;

/** Loads a GGUF file on the CPU. */
export async function openLlamaCpp(path, { threads = 1, context = 2048, batch = 512, sequences = 1 } = {}) {
  engine ??= await getLlama({ gpu: false, build: 'never', logLevel: LlamaLogLevel.error, maxThreads: 0 });
  const model = await engine.loadModel({ modelPath: path, useMmap: true });
  const state = await model.createContext({ contextSize: context, batchSize: batch, threads, sequences });
  const all = Array.from({ length: sequences }, () => state.getSequence());
  const [sequence] = all;
  return {
    model,
    sequence,
    sequences: all,
    /** Bytes of weights, and of what the context holds besides. */
    bytes: { weights: model.size, state: state.stateSize },
    tokenize: (text) => [...model.tokenize(text)],
    /** `count` tokens after `tokens`, the likeliest each time. */
    async greedy(tokens, count) {
      await sequence.clearHistory();
      const result = [];
      for await (const token of sequence.evaluate(tokens, { temperature: 0 })) {
        result.push(token);
        if (result.length === count) break;
      }
      return result;
    },
    async close() {
      await state.dispose();
      await model.dispose();
    },
  };
}
