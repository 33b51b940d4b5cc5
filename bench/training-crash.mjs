// Kills a training with SIGKILL at random moments, and checks that it always goes on from a whole checkpoint and ends with the same
// losses, model and checkpoint to the last bit.
//   node bench/training-crash.mjs [KILLS] [STEPS] [--carry-state] [--out FILE]   (FILE keeps what was found with and without the option)
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { crash } from '../test/training-crash.mjs';

const { values, positionals } = parseArgs({
  options: { 'carry-state': { type: 'boolean', default: false }, out: { type: 'string' } },
  allowPositionals: true,
});
const [kills = 30, steps = 300] = positionals.map(Number);
const carryState = values['carry-state'];
const { same, killed, left, partial } = await crash(kills, steps, carryState ? ['--carry-state'] : []);
console.log(`${killed} kills in ${steps} steps: checkpoints left at steps ${left.join(', ')}`);
console.log(same ? 'the same losses, model and checkpoint as without interruption' : 'another result');
if (partial.length > 0) console.log(`left behind: ${partial.join(', ')}`);
if (values.out) {
  const before = existsSync(values.out) ? JSON.parse(readFileSync(values.out, 'utf8')) : [];
  const rows = before.filter((row) => row.carryState !== carryState);
  rows.push({ carryState, kills: killed, steps, left, same, partial: partial.length });
  writeFileSync(values.out, `[\n${rows.map((row) => `  ${JSON.stringify(row)}`).join(',\n')}\n]\n`);
}
if (!same) process.exitCode = 1;
