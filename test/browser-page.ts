import { referenceBackend } from '../src/backends/reference/index.ts';
import { wasmBackend } from '../src/backends/wasm/index.ts';
import { bytesSource } from '../src/formats/byte-source.ts';
import { openSafetensors } from '../src/formats/safetensors.ts';
import { assemble } from '../src/runtime/model.ts';
import { complete } from '../src/tasks/complete.ts';
import { byteTokenizer } from '../src/tokenizers/bytes.ts';

/** What the test gives the page: a model, and states of it that were saved in Node. Bytes are in base64. */
export interface Given {
  readonly config: unknown;
  readonly checkpoint: string;
  readonly state: string;
}

/** What the page tells of each backend. */
export interface Told {
  readonly backend: string;
  readonly hasSharedMemory: boolean;
  /** Greedy tokens from the state on. */
  readonly tokens: readonly number[];
  /** A text that a regular expression describes. */
  readonly constrained: string;
  /** The state saved again, after restoring. */
  readonly state: string;
}

const bytesOf = (base64: string): Uint8Array => Uint8Array.from(atob(base64), (char) => char.charCodeAt(0));
const base64Of = (bytes: Uint8Array): string => btoa(Array.from(bytes, (byte) => String.fromCharCode(byte)).join(''));

/** Goes on from a state with every backend. It runs in Node and in a page alike. */
export async function continueEverywhere({ config, checkpoint, state }: Given): Promise<Told[]> {
  const told: Told[] = [];
  for (const make of [() => wasmBackend({ threads: 1 }), async () => referenceBackend('f32')]) {
    const backend = await make();
    const file = await openSafetensors(bytesSource(bytesOf(checkpoint), 'model.safetensors'));
    const model = await assemble({ config: config as never, checkpoint: file, tokenizer: byteTokenizer() }, backend);
    const session = model.session();
    await session.state.restore(bytesOf(state));
    const again = base64Of(session.state.save());
    const fork = session.fork();
    const { tokens } = await complete(session.generate(undefined, { maxTokens: 12, temperature: 0 }));
    const constraint = { regex: '[a-c]{3}-[0-9]{2}' };
    const { text } = await complete(fork.generate(undefined, { maxTokens: 20, seed: 3, constraint }));
    const hasSharedMemory = typeof SharedArrayBuffer !== 'undefined';
    told.push({ backend: backend.name, hasSharedMemory, tokens, constrained: text, state: again });
    model.dispose();
  }
  return told;
}
