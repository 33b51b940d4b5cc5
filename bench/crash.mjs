// Kills a reading process with SIGKILL at random moments, and checks that what it kept is whole and that the reading always
// ends in the same state.
//   node bench/crash.mjs [KILLS] [BYTES] [OUT]
import { writeFileSync } from 'node:fs';
import { crash } from '../test/crash.mjs';

const [kills = 50, bytes = 500_000] = process.argv.slice(2, 4).map(Number);
const out = process.argv[4];
const { whole, digest, killed, left, partial } = await crash(kills, bytes);
const same = digest === whole;
console.log(`${killed} kills in ${bytes} bytes: checkpoints left at tokens ${left.join(', ')}`);
console.log(same ? 'the same state as without interruption' : `another state: ${digest} instead of ${whole}`);
if (partial.length > 0) console.log(`left behind: ${partial.join(', ')}`);
if (out) writeFileSync(out, `${JSON.stringify({ kills: killed, bytes, left, same, partial: partial.length })}\n`);
if (!same || partial.length > 0) process.exitCode = 1;
