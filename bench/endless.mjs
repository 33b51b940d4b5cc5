// Pipes a text of millions of tokens through `riverrun score`, and watches the memory and the speed of the process that reads it.
//   node bench/endless.mjs TEXT [--tokens 5000000] [--model NAME] [--threads 1] [--every 10] [--out FILE]
// TEXT is repeated until there are tokens enough. Linux only: memory and CPU time are read from /proc. Speed is told in tokens for
// a second of CPU time, so that what else the machine does counts little.
import { spawn } from 'node:child_process';
import { createReadStream, readFileSync, statSync, writeFileSync } from 'node:fs';
import { cpus } from 'node:os';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { endWithUsage } from './command-line.mjs';

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    tokens: { type: 'string', default: '5000000' },
    model: { type: 'string' },
    threads: { type: 'string', default: '1' },
    every: { type: 'string', default: '10' },
    out: { type: 'string' },
  },
});
const [text] = positionals;
if (!text) endWithUsage('bench/endless.mjs TEXT');
const wanted = Number(values.tokens);
const main = fileURLToPath(new URL('../dist/cli/main.js', import.meta.url));
const named = values.model === undefined ? [] : ['--model', values.model];
const options = ['score', '--summary', '--json', '--threads', values.threads, ...named];

/** Scores a text of so many bytes; `watch` is told the process and how many bytes it has taken. */
async function score(bytes, watch) {
  const child = spawn(process.execPath, [main, ...options], { stdio: ['pipe', 'pipe', 'inherit'] });
  let printed = '';
  child.stdout.on('data', (data) => {
    printed += data;
  });
  const closed = new Promise((resolve) => child.on('close', resolve));
  let taken = 0;
  const stop = watch?.(child.pid, () => taken);
  while (taken < bytes) {
    for await (const chunk of createReadStream(text, { end: Math.min(statSync(text).size, bytes - taken) - 1 })) {
      if (!child.stdin.write(chunk)) await new Promise((resolve) => child.stdin.once('drain', resolve));
      taken += chunk.length;
    }
  }
  child.stdin.end();
  const code = await closed;
  stop?.();
  if (code !== 0) throw new Error(`score ended with ${code}`);
  return JSON.parse(printed);
}

/** Resident memory in MB and CPU seconds of a process, of all its threads. */
function usage(pid) {
  const status = readFileSync(`/proc/${pid}/status`, 'utf8');
  const [user, system] = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1].split(' ').slice(11, 13).map(Number);
  return { resident: Math.round(Number(/VmRSS:\s+(\d+)/.exec(status)[1]) / 1024), cpu: (user + system) / 100 };
}

const sample = Math.min(statSync(text).size, 100_000);
const bytesPerToken = sample / (await score(sample)).tokens;
const bytes = Math.ceil(1.02 * wanted * bytesPerToken);
const samples = [];
const started = performance.now();
const { tokens, perplexity } = await score(bytes, (pid, taken) => {
  const timer = setInterval(() => {
    samples.push({ seconds: Math.round((performance.now() - started) / 1000), bytes: taken(), ...usage(pid) });
  }, 1000 * values.every);
  return () => clearInterval(timer);
});

/** Tokens a CPU second, and memory, of each tenth of the reading. */
const tenths = Array.from({ length: 10 }, (_, i) => {
  const within = samples.filter((one) => Math.min(9, Math.floor((10 * one.bytes) / bytes)) === i);
  const [first, last] = [within[0], within.at(-1)];
  if (!first || first === last) return undefined;
  const speed = ((last.bytes - first.bytes) / bytes) * (tokens / (last.cpu - first.cpu));
  const residents = within.map(({ resident }) => resident);
  return { speed: Math.round(speed), least: Math.min(...residents), most: Math.max(...residents) };
}).filter(Boolean);
for (const [i, { speed, least, most }] of tenths.entries())
  console.log(`part ${i + 1} of ${tenths.length}  ${speed} tokens a CPU second, ${least} to ${most} MB resident`);
console.log(
  `${tokens} tokens in ${Math.round((performance.now() - started) / 60000)} minutes, perplexity ${perplexity}`,
);
const result = {
  model: values.model ?? 'the default',
  threads: Number(values.threads),
  machine: `${cpus()[0].model}, ${cpus().length} cores`,
  tokens,
  bytes,
  perplexity,
  tenths,
  samples,
};
if (values.out) writeFileSync(values.out, `${JSON.stringify(result)}\n`);
