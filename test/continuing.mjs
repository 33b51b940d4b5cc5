// Run by state.test.ts on the built package: restores the states of a folder, each of the fixture and on the backend that its name
// tells (FIXTURE@BACKEND.state), goes on with the likeliest tokens, and prints them and the digests of the states in the end.
//   node test/continuing.mjs FOLDER TOKENS
import { createHash } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { referenceBackend } from '../dist/backends/reference/index.js';
import { wasmBackend } from '../dist/backends/wasm/index.js';
import { bytesSource } from '../dist/formats/byte-source.js';
import { openSafetensors } from '../dist/formats/safetensors.js';
import { enableWasmFeatures, spawnThread } from '../dist/platform/node.js';
import { assemble } from '../dist/runtime/model.js';

const [folder, count] = process.argv.slice(2);
enableWasmFeatures();
const backends = {
  wasm: await wasmBackend({ threads: 1, spawn: spawnThread }),
  reference: referenceBackend('f32'),
};
const found = {};
for (const file of readdirSync(folder)) {
  const [name, backend] = file.replace('.state', '').split('@');
  const golden = new URL(`./goldens/${name}/`, import.meta.url);
  const config = JSON.parse(readFileSync(new URL('config.json', golden), 'utf8'));
  const checkpoint = await openSafetensors(bytesSource(readFileSync(new URL('model.safetensors', golden)), name));
  const model = await assemble({ config, checkpoint }, backends[backend]);
  const session = model.session();
  await session.state.restore(readFileSync(join(folder, file)));
  const tokens = [];
  for (let i = 0; i < Number(count); i++) {
    tokens.push(session.logits.indexOf(Math.max(...session.logits)));
    await session.step(tokens.at(-1));
  }
  found[file] = { tokens, digest: createHash('sha256').update(session.state.save()).digest('hex') };
  model.dispose();
}
process.stdout.write(JSON.stringify(found));
process.exit(0);
