// Kills a training with SIGKILL at random moments, and checks that it always goes on from a whole checkpoint and ends with the same
// losses, model and checkpoint to the last bit.
//   node bench/training-crash.mjs [KILLS] [STEPS] [OUT]
import { writeFileSync } from 'node:fs';
import { crash } from '../test/training-crash.mjs';

const [kills = 30, steps = 300] = process.argv.slice(2, 4).map(Number);
const out = process.argv[4];
const { same, killed, left, partial } = await crash(kills, steps);
console.log(`${killed} kills in ${steps} steps: checkpoints left at steps ${left.join(', ')}`);
console.log(same ? 'the same losses, model and checkpoint as without interruption' : 'another result');
if (partial.length > 0) console.log(`left behind: ${partial.join(', ')}`);
if (out) writeFileSync(out, `${JSON.stringify({ kills: killed, steps, left, same, partial: partial.length })}\n`);
if (!same) process.exitCode = 1;
