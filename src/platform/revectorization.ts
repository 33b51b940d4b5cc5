import { execFile, spawn } from 'node:child_process';
import { accessSync, closeSync, constants, openSync, readFileSync, rmSync, statSync } from 'node:fs';
import { cpus, homedir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { setFlagsFromString } from 'node:v8';
import { moduleDigest } from '../backends/wasm/index.ts';
import { Digest } from '../core/digest.ts';
import { InputError } from '../core/errors.ts';
import { explain, makeFolder, writeFileAtomically } from './node-file.ts';

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
  /** Where the verdict is kept between processes; asked for only where kernels may be revectorized. */
  readonly cacheFile: () => Promise<string>;
  /** Starts a process that finds the verdict out and keeps it, and does not wait for it. */
  readonly startComparing: () => void;
}

/**
 * Finds out whether the kernels may be revectorized: where Node can, nothing turned it off (RIVERRUN_REVECTORIZE=0), and
 * every kernel computes the same to the last bit with the flag as without. Kernels are compared once for every version of Node,
 * processor and build, in processes of their own, and the verdict is kept in the cache folder; where it can't be, they are not compared.
 */
export async function judgeRevectorization(given: Surroundings): Promise<Revectorization> {
  const known = await knownVerdict(given);
  if (known) return known;
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
  const cacheFile = await given.cacheFile();
  try {
    await writeFileAtomically(cacheFile, [new TextEncoder().encode(JSON.stringify(verdict))]);
    rmSync(claimOf(cacheFile), { force: true });
  } catch {
    // The disk is full: another start compares them.
  }
  return verdict;
}

/**
 * The verdict as far as it is known, at once: where kernels were not compared yet it is off for now, and a process of its own compares
 * them for later starts. Of several processes that start together one has it done, and where it failed it is tried again ten minutes later.
 */
export async function revectorizationSoFar(given: Surroundings): Promise<Revectorization> {
  const known = await knownVerdict(given);
  if (known) return known;
  if (isClaimed(claimOf(await given.cacheFile()))) given.startComparing();
  return NOT_KNOWN;
}

const NOT_KNOWN: Revectorization = {
  on: false,
  reason: 'it is not known yet: kernels are compared for later starts',
};

/** What is known without comparing kernels. */
async function knownVerdict(given: Surroundings): Promise<Revectorization | undefined> {
  const against = obstacle(given);
  if (against !== undefined) return { on: false, reason: against };
  const cacheFile = await given.cacheFile();
  const kept = keptVerdict(cacheFile);
  if (kept) return kept;
  const folder = dirname(cacheFile);
  try {
    makeFolder(folder);
    accessSync(folder, constants.W_OK);
  } catch (error) {
    // Otherwise every process would compare them.
    const reason = error instanceof InputError ? error.message : explain(error as NodeJS.ErrnoException, folder);
    return { on: false, reason: `kernels are not compared, for the verdict can't be kept: ${reason} (XDG_CACHE_HOME)` };
  }
  return undefined;
}

/** Milliseconds after which a comparison that left no verdict is made again. */
const AGAIN_AFTER = 600_000;

const claimOf = (cacheFile: string): string => `${cacheFile}.comparing`;

/** Whether it is this process that has kernels compared: no other has begun that lately. */
function isClaimed(path: string): boolean {
  try {
    const last = statSync(path, { throwIfNoEntry: false });
    if (last && Date.now() - last.mtimeMs < AGAIN_AFTER) return false;
    if (last) rmSync(path);
    closeSync(openSync(path, 'wx'));
    return true;
  } catch {
    // Another one was first, or the disk is full.
    return false;
  }
}

/** What stands against it before anything is compared. */
function obstacle({ node, arch, env }: Surroundings): string | undefined {
  const wish = env['RIVERRUN_REVECTORIZE'] ?? '';
  if (/^(0|off|false|no)$/i.test(wish)) return `RIVERRUN_REVECTORIZE is ${wish}`;
  if (!/^(|1|on|true|yes)$/i.test(wish))
    throw new InputError(`RIVERRUN_REVECTORIZE is ${wish}; known: 0, off, false, no, 1, on, true, yes`);
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

/** Whether the pass is on in this process. */
let isOn = process.execArgv.includes(FLAG);
/** Whether that was decided: by a model that asked for it, or by the verdict. */
let isDecided = false;

/**
 * Turns the pass on, where the verdict allows it, or off, for kernels that are compiled from now on in this process.
 *
 * @param isWanted undefined: as it was last decided, and on at first
 * @param waits whether a verdict that is not known yet is waited for; otherwise the pass stays off until a later call finds it
 */
export async function setRevectorization(isWanted: boolean | undefined, waits = isWanted === true): Promise<void> {
  if (isWanted === undefined && isDecided) return;
  const verdict =
    isWanted === false ? undefined : await (waits ? revectorization() : revectorizationSoFar(surroundings()));
  const on = verdict?.on === true;
  if (on !== isOn) setFlagsFromString(on ? FLAG : FLAG.replace('--', '--no-'));
  isOn = on;
  isDecided = verdict !== NOT_KNOWN;
}

/** Whether kernels are compiled with the pass now. */
export const isRevectorized = (): boolean => isOn;

let verdict: Promise<Revectorization> | undefined;

/** The verdict for this process. */
export function revectorization(): Promise<Revectorization> {
  verdict ??= judgeRevectorization(surroundings());
  return verdict;
}

function surroundings(): Surroundings {
  const { env, version: node, arch } = process;
  return { node, arch, env, digests: digestsWith, cacheFile: verdictFile, startComparing };
}

/** The file of the verdict on these kernels, compiled by this engine for this processor in these ways. */
async function verdictFile(): Promise<string> {
  const { env, version, versions } = process;
  const compared = [...AT_ONCE, ...WITH_PASS.flat()];
  const key = new Digest().text([version, versions.v8, cpus()[0]?.model, await moduleDigest(), ...compared].join('\n'));
  return join(env['XDG_CACHE_HOME'] || join(homedir(), '.cache'), 'riverrun', 'kernels', `${key.hex()}.json`);
}

/** A script of this folder. From the sources, newer Nodes run TypeScript as it is; bundled, this is not in the folder of its own name. */
const script = (name: string): string =>
  fileURLToPath(new URL(`../platform/${name}.${import.meta.url.endsWith('.ts') ? 'ts' : 'js'}`, import.meta.url));

/** Nothing of what this process was told of Node is for those that it starts. */
const plainNode = () => ({ ...process.env, NODE_OPTIONS: '' });

/** Digests of the kernels, computed in a new process. */
async function digestsWith(flags: readonly string[]): Promise<ReadonlyMap<string, string>> {
  const { stdout } = await promisify(execFile)(process.execPath, [...flags, script('kernel-check-main')], {
    timeout: 60_000,
    killSignal: 'SIGKILL',
    maxBuffer: 1 << 24,
    env: plainNode(),
  });
  return new Map(JSON.parse(stdout) as [string, string][]);
}

/** Compares kernels in a process that outlives this one, where it is short, and ends by the limit of `digestsWith`. */
function startComparing(): void {
  const options = { detached: true, stdio: 'ignore', windowsHide: true, env: plainNode() } as const;
  const comparing = spawn(process.execPath, [script('revectorization-main')], options);
  // Without memory for another process it is tried again later.
  comparing.on('error', () => {});
  comparing.unref();
}
