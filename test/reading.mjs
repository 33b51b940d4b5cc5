// Run by crash.mjs on the built package: reads a file of bytes with a small random model, keeping a checkpoint.
//   node test/reading.mjs TEXT CHECKPOINT EVERY
// Prints "reading" when it begins with the text, and the digest of the final state when it is done.
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { wasmBackend } from '../dist/backends/wasm/index.js';
import { bytesSource } from '../dist/formats/byte-source.js';
import { openSafetensors } from '../dist/formats/safetensors.js';
import { enableWasmFeatures } from '../dist/platform/node.js';
import { sessionFiles } from '../dist/platform/session-files.js';
import { assemble } from '../dist/runtime/model.js';
import { byteTokenizer } from '../dist/tokenizers/bytes.js';

const [file, checkpointFile, checkpointEvery] = process.argv.slice(2);
const folder = new URL('./goldens/gated_deltanet/', import.meta.url);
const config = JSON.parse(readFileSync(new URL('config.json', folder), 'utf8'));
const checkpoint = await openSafetensors(bytesSource(readFileSync(new URL('model.safetensors', folder)), 'rwkv7'));
enableWasmFeatures();
const backend = await wasmBackend({ threads: 1, spawn: () => undefined });
const model = await assemble({ config, checkpoint, tokenizer: byteTokenizer() }, backend, { files: sessionFiles });
const session = model.session();
process.stdout.write('reading\n');
await session.read({ file }, { checkpointFile, checkpointEvery: Number(checkpointEvery) });
process.stdout.write(`${createHash('sha256').update(session.state.save()).digest('hex')}\n`);
