// Run by hot-path.test.ts on the built package: the processor time that four threads take while nothing is asked of them.
import { setTimeout as sleep } from 'node:timers/promises';
import { load } from '../dist/index.js';

const model = await load('books-mamba', { threads: 4 });
const session = model.session();
await session.read('Once upon a time there was a king.');
await sleep(200);
const before = process.cpuUsage();
await sleep(1000);
const { user, system } = process.cpuUsage(before);
await session.step(5);
console.log(JSON.stringify({ milliseconds: (user + system) / 1000, position: session.position }));
model.dispose();
