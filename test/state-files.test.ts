import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, describe, expect, test, vi } from 'vitest';
import { referenceBackend } from '../src/backends/reference/index.ts';
import { stateCommand } from '../src/cli/state.ts';
import { FormatError, InputError } from '../src/core/errors.ts';
import { safetensorsOf } from '../src/formats/safetensors-writer.ts';
import { loadState, saveState } from '../src/platform/state-files.ts';
import type { Model } from '../src/runtime/model.ts';
import { goldenModel } from './assembled.ts';
import { pickled as p } from './pickled.ts';
import { zip } from './zip.ts';

const folder = mkdtempSync(join(tmpdir(), 'riverrun-state-files-'));
const backend = referenceBackend('f32');
afterAll(() => rmSync(folder, { recursive: true }));

describe('tuned states of RWKV', () => {
  /** The matrices of a session that has read something, as if they had been trained. */
  async function tuned(model: Model): Promise<Map<string, { shape: readonly number[]; values: Float32Array }>> {
    const session = model.session();
    await session.read([1, 2, 3, 4, 5]);
    const { tensors } = session.state.copy();
    return new Map(
      [...tensors]
        .filter(([name]) => name.endsWith('.att.wkv'))
        .map(([name, tensor]) => [name.replace('.wkv', '.time_state'), tensor]),
    );
  }

  const bytesOf = (values: Float32Array): Uint8Array => new Uint8Array(values.slice().buffer);

  /** As the trainers save them: a dictionary of tensors [H, value, key]. */
  function pth(states: Awaited<ReturnType<typeof tuned>>): Uint8Array {
    const files: Record<string, Uint8Array> = {};
    const entries: Record<string, Uint8Array> = {};
    for (const [i, [name, { shape, values }]] of [...states].entries()) {
      const storage = p.storage(p.global('torch', 'FloatStorage'), String(i), values.length);
      const [, N] = shape as [number, number, number];
      entries[name] = p.tensor(storage, 0, [...shape], [N * N, N, 1]);
      files[`state/data/${i}`] = bytesOf(values);
    }
    return zip({ 'state/data.pkl': p.file(p.dict(entries)), ...files });
  }

  /** As web-rwkv and Ai00 have them: [H, key, value] in a safetensors file. */
  function st(states: Awaited<ReturnType<typeof tuned>>): Uint8Array {
    return safetensorsOf(
      [...states].map(([name, { shape, values }]) => {
        const [H, N] = shape as [number, number, number];
        const turned = new Float32Array(values.length);
        for (let h = 0; h < H; h++)
          for (let i = 0; i < N; i++)
            for (let j = 0; j < N; j++) turned[(h * N + j) * N + i] = values[(h * N + i) * N + j]!;
        return { name, type: 'f32' as const, shape, data: bytesOf(turned) };
      }),
    );
  }

  test.each(['rwkv5', 'rwkv6', 'rwkv7'])('%s begins with them, from either kind of file', async (name) => {
    const model = await goldenModel(name, backend);
    const states = await tuned(model);
    for (const [file, bytes] of [
      ['tuned.pth', pth(states)],
      ['tuned.st', st(states)],
    ] as const) {
      const path = join(folder, file);
      writeFileSync(path, bytes);
      const session = model.session();
      await session.state.restore(await loadState(path, model));
      expect(session.position).toBe(0);
      for (const [tensor, { values }] of states)
        expect(session.state.read(tensor.replace('.time_state', '.wkv'))).toEqual(values);
      await session.read([7]);
      const untuned = model.session();
      await untuned.read([7]);
      expect(session.logits).not.toEqual(untuned.logits);
    }
    model.dispose();
  });

  test('are refused by other models, and when layers are missing or of another size', async () => {
    const [rwkv, mamba] = [await goldenModel('rwkv7', backend), await goldenModel('mamba', backend)];
    const states = await tuned(rwkv);
    const path = join(folder, 'state.st');
    writeFileSync(path, st(states));
    await expect(loadState(path, mamba)).rejects.toThrow(
      /is a tuned state of an RWKV-5, 6 or 7, and the model is of type mamba/,
    );
    await expect(loadState(path)).rejects.toThrow(/name the model that it is for/);
    const [[first, tensor]] = [...states] as [[string, { shape: readonly number[]; values: Float32Array }]];
    const write = (changed: typeof states) => writeFileSync(path, st(changed));
    write(new Map([[first, tensor]]));
    await expect(loadState(path, rwkv)).rejects.toThrow(/has no blocks\.1\.att\.time_state/);
    write(new Map([...states, ['blocks.99.att.time_state', tensor]]));
    await expect(loadState(path, rwkv)).rejects.toThrow(/blocks\.99.* is of a layer that the model has not/);
    write(new Map([...states, [first, { shape: [1, 2, 2], values: new Float32Array(4) }]]));
    await expect(loadState(path, rwkv)).rejects.toThrow(/time_state is \[1, 2, 2\], but the model's heads make it/);
    write(new Map([...states, [first, { ...tensor, values: tensor.values.map(() => Number.NaN) }]]));
    await expect(loadState(path, rwkv)).rejects.toThrow(FormatError);
  });
});

describe('state', () => {
  const written = vi.spyOn(process.stdout, 'write');
  afterEach(() => {
    written.mockReset();
    process.exitCode = undefined;
  });

  /** What the command prints. */
  async function riverrun(...args: string[]): Promise<string> {
    let text = '';
    written.mockImplementation(((chunk: string, done: () => void) => {
      text += chunk;
      done();
      return true;
    }) as never);
    await stateCommand().parseAsync(args, { from: 'user' });
    return text;
  }

  async function saved(name: string, model: Model, tokens: number[]): Promise<string> {
    const session = model.session();
    await session.read(tokens);
    const path = join(folder, name);
    await saveState(path, session.state.save({ notes: { title: 'Finnegans Wake' } }));
    return path;
  }

  test('info says what it is', async () => {
    const model = await goldenModel('mamba', backend);
    const path = await saved('info.state', model, [1, 2, 3]);
    expect(await riverrun('info', path)).toMatch(/^model {7}mamba, matrices held as f32\n[\s\S]*position {4}3 tokens/);
    expect(await riverrun('info', path, '--tensors')).toMatch(
      /title {7}Finnegans Wake\n[\s\S]*logits +\[256\] {2}rms \d/,
    );
    const json = JSON.parse(await riverrun('info', path, '--json'));
    expect(json).toMatchObject({ position: 3, model: model.fingerprint, notes: { title: 'Finnegans Wake' } });
    expect(json.tensors).toHaveLength(model.session().stateNames.length + 1);
  });

  test('diff says how far two are apart', async () => {
    const [mamba, llama] = [await goldenModel('mamba', backend), await goldenModel('llama', backend)];
    const [a, b] = [await saved('a.state', mamba, [1, 2, 3]), await saved('b.state', mamba, [1, 2, 3])];
    expect(await riverrun('diff', a, b)).toBe('the same, bit for bit\n');
    expect(process.exitCode).toBe(undefined);
    const c = await saved('c.state', mamba, [1, 2, 4, 5]);
    expect(await riverrun('diff', a, c)).toMatch(/position +3 against 4\n[\s\S]*logits +rms \S+ of \S+\n$/);
    expect(process.exitCode).toBe(1);
    const json = JSON.parse(await riverrun('diff', a, c, '--json'));
    expect(json).toMatchObject({ same: false, position: [3, 4] });
    const other = await saved('other.state', llama, [1, 2, 3]);
    expect(await riverrun('diff', a, other)).toMatch(
      /model +mamba against llama\n[\s\S]*only in the first\n[\s\S]*only in the second/,
    );
  });

  test('files that are missing or something else are errors', async () => {
    await expect(riverrun('info', join(folder, 'none'))).rejects.toThrow(InputError);
    const path = join(folder, 'text');
    writeFileSync(path, 'something');
    await expect(riverrun('info', path)).rejects.toThrow(FormatError);
  });
});

describe('generate', () => {
  const main = new URL('../dist/cli/main.js', import.meta.url).pathname;
  const riverrun = (...args: string[]) =>
    spawnSync(process.execPath, [main, 'generate', '--temperature', '0', ...args], { input: '', encoding: 'utf8' });

  test('goes on from a state that another process saved', () => {
    const path = join(folder, 'story.state');
    const prompt = 'Once upon a time';
    const whole = riverrun(prompt, '-n', '16').stdout;
    const first = riverrun(prompt, '-n', '6', '--save', path);
    expect(first.stderr).toBe('');
    const rest = riverrun('--load', path, '-n', '10');
    expect(rest.stderr).toBe('');
    expect(first.stdout.replace(/\n$/, '') + rest.stdout).toBe(whole);
    // The file is not changed by being read, and a prompt comes after it.
    const again = riverrun('--load', path, '--json', '-n', '3', ' and then');
    expect(JSON.parse(again.stdout)).toMatchObject({ prompt: ' and then', finishReason: 'length' });
  });

  test('refuses what is no state, or of another model', async () => {
    const path = join(folder, 'wrong.state');
    const model = await goldenModel('mamba', backend);
    const session = model.session();
    await session.read([1]);
    writeFileSync(path, session.state.save());
    const { status, stdout, stderr } = riverrun('--load', path);
    expect([status, stdout]).toEqual([1, '']);
    expect(stderr).toMatch(/the state is of another mamba: its configuration/);
    expect(readFileSync(path)).toEqual(Buffer.from(session.state.save()));
    expect(riverrun('x', '--load', join(folder, 'none')).stderr).toMatch(/there is no such file/);
  });
});
