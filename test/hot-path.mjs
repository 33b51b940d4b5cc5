// Run by hot-path.test.ts with --expose-gc on the built package: measures what decoding and reading leave behind.
import { load } from '../dist/index.js';

const model = await load(undefined, { threads: 1 });
const session = model.session();
await session.read([0, 1, 2]);
const settle = () => {
  for (let i = 0; i < 4; i++) globalThis.gc();
  return process.memoryUsage().heapUsed;
};
// V8 keeps 40 to 70 kB of code that becomes hot.
for (let i = 0; i < 1200; i++) await session.step(i);
const before = settle();
for (let i = 0; i < 1000; i++) await session.step(i);
const heap = settle() - before;

async function* tokens(count) {
  for (let i = 0; i < count; i++) yield `word ${i % 977} `;
}
const held = () => {
  settle();
  const { heapUsed, arrayBuffers, external } = process.memoryUsage();
  const { weights, states, working } = model.bytes;
  return { script: heapUsed + arrayBuffers + external, engine: weights + states + working };
};
const long = model.session();
const readTo = async (position) => {
  while (long.position < position) await long.read(tokens(500));
  return held();
};
const after1000 = await readTo(1000);
const after100000 = await readTo(Number(process.argv[2] ?? 100000));
console.log(JSON.stringify({ heap, position: long.position, after1000, after100000 }));
model.dispose();
