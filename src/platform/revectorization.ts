import { execFile } from 'node:child_process';
import { mkdirSync, readFileSync } from 'node:fs';
import { cpus, homedir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { setFlagsFromString } from 'node:v8';
import { moduleDigest } from '../backends/wasm/index.ts';
import { Digest } from '../core/digest.ts';
import { writeFileAtomically } from './node-file.ts';

/** The pass of V8 that fuses pairs of 128-bit operations into 256-bit ones. Before Node 24 the flag is there and does nothing. */
const FLAG = '--experimental-wasm-revectorize';
const OLDEST_NODE = 24;

/** Compiled at once by the compiler that has the pass. */
const AT_ONCE = ['--no-liftoff'];
/**
 * With the pass: so, and once more after the first calls, as kernels are that become hot. What is called often is then within what calls it,
 * and the pass sees other code.
 */
const WITH_PASS = [
  [...AT_ONCE, FLAG],
  ['--wasm-tiering-budget=1000', '--wasm-sync-tier-up', FLAG],
];

/** Whether kernels may be compiled to 256-bit operations, and why not. */
export interface Revectorization {
  readonly on: boolean;
  /** What the verdict is from: how many kernels were compared, or what stands against it. */
  readonly reason: string;
}

/** What a verdict is drawn from: `digests` runs the kernels in a process with these flags. */
export interface Surroundings {
  readonly node: string;
  readonly arch: string;
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly digests: (flags: readonly string[]) => Promise<ReadonlyMap<string, string>>;
  /** Where verdicts are kept between processes; asked for only where kernels may be revectorized. */
  readonly cacheFile: () => Promise<string>;
}

/**
 * Finds out whether the kernels may be revectorized: where Node can, nothing turned it off (RIVERRUN_REVECTORIZE=0), and
 * every kernel computes the same to the last bit with the flag as without. Kernels are compared once for every version of Node,
 * processor and build, in processes of their own, and the verdict is kept in the cache folder.
 */
export async function judgeRevectorization(given: Surroundings): Promise<Revectorization> {
  const against = obstacle(given);
  if (against !== undefined) return { on: false, reason: against };
  const cacheFile = await given.cacheFile();
  const kept = keptVerdict(cacheFile);
  if (kept) return kept;
  let verdict: Revectorization;
  try {
    const [plain, ...wide] = await Promise.all([AT_ONCE, ...WITH_PASS].map(given.digests));
    const differing = [...plain!.keys()].filter((kernel) => wide.some((one) => one.get(kernel) !== plain!.get(kernel)));
    verdict =
      differing.length === 0
        ? { on: true, reason: `${plain!.size} results of kernels are the same bit for bit` }
        : { on: false, reason: `${differing.length} results of kernels differ: ${differing.slice(0, 3).join(', ')} …` };
  } catch (error) {
    // Not kept: a machine without memory for a moment is no reason for ever.
    return { on: false, reason: `kernels could not be compared: ${(error as Error).message.split('\n')[0]}` };
  }
  try {
    mkdirSync(dirname(cacheFile), { recursive: true });
    await writeFileAtomically(cacheFile, [new TextEncoder().encode(JSON.stringify(verdict))]);
  } catch {
    // Without a cache folder they are compared by every process.
  }
  return verdict;
}

/** What stands against it before anything is compared. */
function obstacle({ node, arch, env }: Surroundings): string | undefined {
  const wish = env['RIVERRUN_REVECTORIZE'];
  if (/^(0|off|false|no)$/i.test(wish ?? '')) return `RIVERRUN_REVECTORIZE is ${wish}`;
  if (arch !== 'x64') return `for x64 processors only, and this is ${arch}`;
  if (Number(node.replace(/^v/, '').split('.')[0]) < OLDEST_NODE)
    return `Node ${OLDEST_NODE} or newer can, and this is ${node}`;
  return undefined;
}

function keptVerdict(path: string): Revectorization | undefined {
  try {
    const { on, reason } = JSON.parse(readFileSync(path, 'utf8')) as Revectorization;
    return typeof on === 'boolean' && typeof reason === 'string' ? { on, reason } : undefined;
  } catch {
    return undefined;
  }
}

/** What was last decided for this process; nothing before the first model. */
let decided: boolean | undefined;

/**
 * Turns the pass on, where the verdict allows it, or off, for kernels that are compiled from now on in this process.
 *
 * @param isWanted undefined: as it was last decided, and on at first
 */
export async function setRevectorization(isWanted: boolean | undefined): Promise<void> {
  if (isWanted === undefined && decided !== undefined) return;
  const on = isWanted !== false && (await revectorization()).on;
  if (on !== (decided ?? process.execArgv.includes(FLAG))) setFlagsFromString(on ? FLAG : FLAG.replace('--', '--no-'));
  decided = on;
}

/** Whether kernels are compiled with the pass now. */
export const isRevectorized = (): boolean => decided === true;

let verdict: Promise<Revectorization> | undefined;

/** The verdict for this process. */
export function revectorization(): Promise<Revectorization> {
  const { env, version: node, arch } = process;
  verdict ??= judgeRevectorization({ node, arch, env, digests: digestsWith, cacheFile: verdictFile });
  return verdict;
}

/** The file of the verdict on these kernels, compiled by this engine for this processor in these ways. */
async function verdictFile(): Promise<string> {
  const { env, version, versions } = process;
  const compared = [...AT_ONCE, ...WITH_PASS.flat()];
  const key = new Digest().text([version, versions.v8, cpus()[0]?.model, await moduleDigest(), ...compared].join('\n'));
  return join(env['XDG_CACHE_HOME'] || join(homedir(), '.cache'), 'riverrun', 'kernels', `${key.hex()}.json`);
}

/** Digests of the kernels, computed in a new process. */
async function digestsWith(flags: readonly string[]): Promise<ReadonlyMap<string, string>> {
  // From the sources, newer Nodes run TypeScript as it is; bundled, this is not in the folder of its own name.
  const extension = import.meta.url.endsWith('.ts') ? 'ts' : 'js';
  const script = fileURLToPath(new URL(`../platform/kernel-check-main.${extension}`, import.meta.url));
  const { stdout } = await promisify(execFile)(process.execPath, [...flags, script], {
    timeout: 30_000,
    maxBuffer: 1 << 24,
    env: { ...process.env, NODE_OPTIONS: '' },
  });
  return new Map(JSON.parse(stdout) as [string, string][]);
}
