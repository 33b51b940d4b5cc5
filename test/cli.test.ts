import { execFileSync, spawn, spawnSync } from 'node:child_process';
import { cpSync, existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { goldenFolder, readTensors } from './golden.ts';
import { errorRatio, tolerance } from './tolerance.ts';

const root = new URL('../', import.meta.url).pathname;
const main = join(root, 'dist/cli/main.js');
const folder = mkdtempSync(join(tmpdir(), 'riverrun-cli-'));
afterAll(() => rmSync(folder, { recursive: true }));

function riverrun(args: string[], input?: string | Buffer) {
  const { status, stdout, stderr } = spawnSync(process.execPath, [main, ...args], {
    input: input ?? '',
    encoding: 'utf8',
  });
  return { status, stdout, stderr };
}

/** What a user sees of an error: exit code 1, one line, no stack trace, nothing on standard output. */
function expectError({ status, stdout, stderr }: ReturnType<typeof riverrun>, message: RegExp): void {
  expect(stderr).toMatch(message);
  expect(stderr).not.toMatch(/\n\s+at /);
  expect(stdout).toBe('');
  expect(status).toBe(1);
}

describe('generate', () => {
  test('continues the prompt', () => {
    const { status, stdout, stderr } = riverrun([
      'generate',
      'Once upon a time',
      '--temperature',
      '0',
      '--max-tokens',
      '12',
    ]);
    expect(stdout).toMatch(/^Once upon a time, there was a .+\n$/);
    expect(stderr).toBe('');
    expect(status).toBe(0);
  });

  test('takes the prompt from standard input, and prints JSON', () => {
    const { stdout } = riverrun(['generate', '--json', '--seed', '1', '-n', '5'], 'The king\n');
    const result = JSON.parse(stdout);
    expect(result).toMatchObject({ prompt: 'The king', finishReason: 'length' });
    expect(result.tokens).toHaveLength(5);
  });

  test('goes on from a state of the same kind of cache only', () => {
    const state = join(folder, 'f16.state');
    const given = ['--model', 'books-llama', '-n', '3', '--temperature', '0'];
    const { status, stderr } = riverrun(['generate', 'Once', ...given, '--kv-cache', 'f16', '--save', state]);
    expect([status, stderr]).toEqual([0, '']);
    expect(riverrun(['state', 'load', state, ...given, '--kv-cache', 'f16']).status).toBe(0);
    expectError(
      riverrun(['state', 'load', state, ...given]),
      /kept in f16, and here they are kept in f32: load .*--kv-cache f16/,
    );
    expect(riverrun(['state', 'info', state]).stdout).toMatch(/^model .*, keys and values in f16$/m);
  });

  test('the number of threads does not change the text', () => {
    const text = (threads: string) =>
      riverrun(['generate', 'One day', '-n', '30', '--seed', '5', '--threads', threads]).stdout;
    expect(text('1')).toBe(text('2'));
  });

  test('Ctrl-C ends it cleanly', async () => {
    const child = spawn(process.execPath, [main, 'generate', 'Once', '--max-tokens', '100000', '--seed', '1'], {
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    let [stdout, stderr] = ['', ''];
    child.stderr.on('data', (data) => (stderr += data));
    child.stdout.on('data', (data) => {
      if (stdout.length <= 60 && stdout.length + data.length > 60) child.kill('SIGINT');
      stdout += data;
    });
    const code = await new Promise((resolve) => child.on('close', resolve));
    expect(stderr).toBe('');
    expect(stdout.endsWith('\n')).toBe(true);
    expect(code).toBe(130);
  });

  test.each(['generate Once --max-tokens 3000 --seed 1', 'bench --help'])(
    'a reader that closes the pipe ends %s without a word',
    (args) => {
      const command = `"${process.execPath}" "${main}" ${args} | head -c 20`;
      const { stderr, stdout } = spawnSync('bash', ['-c', command], { encoding: 'utf8' });
      expect(stdout).toHaveLength(20);
      expect(stderr).toBe('');
    },
  );

  test.each<[string[], RegExp]>([
    [['--temprature', '1', 'x'], /unknown option '--temprature'[\s\S]*--temperature/],
    [['--temperature', 'hot', 'x'], /must be a number/],
    [['--max-tokens', '1.5', 'x'], /must be a whole number/],
    [['--top-p', '2', 'x'], /topP is 2/],
    [['--threads', '0', 'x'], /threads is 0/],
    [['--weights', 'q3', 'x'], /Allowed choices are auto/],
    [['--kv-cache', 'q8', 'x'], /Allowed choices are f32, f16/],
    [['--kv-cache', 'f16', 'x'], /kvCache is f16, but Mamba.* has no attention layer/],
    [['--model', 'no-such-model', 'x'], /there is no model no-such-model/],
    [['--model', 'org/none', '--offline', 'x'], /not in the cache/],
    [[''], /prompt is empty/],
  ])('%j is refused', (args, message) => {
    expectError(riverrun(['generate', ...args]), message);
  });

  test('an empty standard input, and one that is no text, are refused', () => {
    expectError(riverrun(['generate'], ''), /prompt is empty/);
    expectError(riverrun(['generate'], Buffer.from([0x61, 0xff, 0xfe])), /not UTF-8/);
  });
});

describe('score', () => {
  test('prints every token and the totals', () => {
    const { stdout } = riverrun(['score', '--text', 'The cat sat.']);
    expect(stdout).toMatch(/"The"\n[\s\S]*tokens 5\nln p -\d/);
    const { rows, perplexity, scored, logProbability } = JSON.parse(
      riverrun(['score', '--text', 'The cat sat.', '--json']).stdout,
    );
    expect(rows).toHaveLength(5);
    expect(rows[0].logProbability).toBeNull();
    expect(
      rows.slice(1).reduce((sum: number, row: { logProbability: number }) => sum + row.logProbability, 0),
    ).toBeCloseTo(logProbability, 6);
    expect(perplexity).toBeCloseTo(Math.exp(-logProbability / scored), 6);
  });

  test('writes the logits of token ids, for a model without a tokenizer', () => {
    const golden = readTensors(`${goldenFolder('mamba')}golden.safetensors`);
    const ids = join(folder, 'ids.json');
    const out = join(folder, 'logits.safetensors');
    writeFileSync(ids, JSON.stringify(Array.from(golden.get('tokens')!.data)));
    for (const backend of ['wasm', 'reference', 'reference-f64']) {
      const { status, stderr } = riverrun([
        'score',
        '--model',
        goldenFolder('mamba'),
        '--tokens',
        ids,
        '--logits',
        out,
        '--backend',
        backend,
        '--summary',
      ]);
      expect(stderr).toBe('');
      expect(status).toBe(0);
      const written = readTensors(out).get('logits')!;
      expect(written.shape).toEqual(golden.get('logits')!.shape);
      expect(errorRatio(written.data, golden.get('logits')!.data)).toBeLessThan(tolerance.model);
    }
    expect(readdirSync(folder).filter((name) => name.endsWith('.partial'))).toEqual([]);
  });

  test('a file and the same text on standard input score the same', () => {
    const path = join(folder, 'text.txt');
    writeFileSync(path, 'Once upon a time there was a small dog. '.repeat(300));
    const fromFile = riverrun(['score', '--file', path, '--summary']).stdout;
    expect(riverrun(['score', '--summary'], readFileSync(path)).stdout).toBe(fromFile);
    expect(fromFile).toMatch(/tokens \d{4}/);
  });

  test.each<[string[], RegExp]>([
    [['--text', 'a', '--file', 'b'], /one of --text, --file and --tokens/],
    [['--text', ''], /nothing to score/],
    [['--file', 'missing.txt'], /missing\.txt: there is no such file/],
    [['--file', '.'], /is a folder/],
    [['--tokens', 'package.json'], /not a JSON array/],
    [['--text', 'x', '--logits', '/no/such/folder/out.safetensors'], /no such file or folder/],
  ])('%j is refused', (args, message) => {
    expectError(riverrun(['score', ...args]), message);
  });

  test('a token out of range names it, and leaves no file behind', () => {
    const ids = join(folder, 'bad.json');
    writeFileSync(ids, '[1, 2, 4096]');
    const out = join(folder, 'never.safetensors');
    expectError(riverrun(['score', '--tokens', ids, '--logits', out]), /token 4096 is out of range/);
    expect(readdirSync(folder).some((name) => name.startsWith('never'))).toBe(false);
  });
});

describe('inspect', () => {
  test('says what a model takes, from its headers alone', () => {
    const { stdout } = riverrun(['inspect']);
    expect(stdout).toMatch(/Mamba \(Gu & Dao 2023\)[\s\S]*parameters {2}13,\d{3},\d{3}[\s\S]*at any length/);
    const sizes = JSON.parse(riverrun(['inspect', goldenFolder('llama'), '--json']).stdout);
    // Two layers of 2 key heads × 16 channels, keys and values, 4 bytes each.
    expect(sizes).toMatchObject({
      type: 'llama',
      stateBytes: 0,
      stateBytesPerToken: 2 * 2 * 2 * 16 * 4,
      vocabularySize: 256,
    });
    expect(sizes.tensors.length).toBeGreaterThan(10);
  });

  test('says what keys and values take only as far as the model can see, and what is beyond', () => {
    // A table of 64 positions; rotary embedding, which has no end; and a window.
    expect(riverrun(['inspect', goldenFolder('gpt2')]).stdout).toMatch(
      /^state {7}[\d.]+ [kKM]B at 64 tokens, the most that it has positions for$/m,
    );
    const { longest, trainedLength } = JSON.parse(riverrun(['inspect', goldenFolder('gpt2'), '--json']).stdout);
    expect([longest, trainedLength]).toEqual([64, 64]);
    const path = join(folder, 'with a window');
    cpSync(goldenFolder('llama'), path, { recursive: true });
    const config = JSON.parse(readFileSync(join(path, 'config.json'), 'utf8'));
    const file = join(path, 'config.json');
    writeFileSync(file, JSON.stringify({ ...config, max_position_embeddings: 2048 }));
    expect(riverrun(['inspect', path]).stdout).toMatch(
      /at 1K tokens, .* at 32K, .* at 1M; its configuration tells of 2,048 positions: what it makes of longer texts is not known$/m,
    );
    writeFileSync(file, JSON.stringify({ ...config, max_position_embeddings: 2048, sliding_window: 1500 }));
    const { stdout } = riverrun(['inspect', path]);
    const [, short, middle, long] = /state +(.*) at 1K tokens, (.*) at 32K, (.*) at 1M; it sees the last 1,500/.exec(
      stdout,
    )!;
    expect(middle).toBe(long);
    expect(short).not.toBe(long);
  });

  test('lists tensors, and which parameter each is where the names differ', () => {
    const { stdout } = riverrun(['inspect', goldenFolder('mamba-original'), '--tensors']);
    expect(stdout).toMatch(/backbone\.embedding\.weight +f32 +\[256, 64\].*→ backbone\.embeddings\.weight/);
    expect(stdout).toMatch(/lm_head\.weight.*\(not needed\)/);
  });

  test('shows what a model keeps of a text: as a table, as JSON, as a page', () => {
    const text = 'The king said </script> to Jack.';
    const { stdout } = riverrun(['inspect', '--text', text]);
    expect(stdout).toMatch(/surprise +write +memory +past +token/);
    expect(stdout).toMatch(/0\.\d{3} +" king"/);
    expect(stdout).not.toContain('\u001b');
    const json = JSON.parse(
      riverrun(['inspect', 'books-rwkv7', '--text', text, '--json', '--heads', '--maps', 'heads']).stdout,
    );
    const { tokens, pieces, surprise, layers } = json;
    expect(pieces.join('')).toContain(text);
    expect(surprise[0]).toBe(null);
    expect(layers[0].byHead.write.length).toBe(tokens.length * layers[0].heads);
    expect(layers[0].headMaps[0].weights.length).toBe(tokens.length ** 2);

    const folder = mkdtempSync(join(tmpdir(), 'inspection-'));
    const [page, file] = [join(folder, 'page.html'), join(folder, 'text.txt')];
    writeFileSync(file, text);
    riverrun(['inspect', '--model', goldenFolder('llama'), '--tokenizer', 'bytes', '--file', file, '--html', page]);
    const html = readFileSync(page, 'utf8');
    expect(html.match(/<script/g)!.length).toBe(2);
    const data = JSON.parse(/<script id="data" type="application\/json">(.*?)<\/script>/s.exec(html)![1]!);
    expect(data.pieces.join('')).toContain(text);
    expect(data.layers.map(({ op }: { op: string }) => op)).toEqual(['attention', 'attention']);
    expect(html).not.toMatch(/(?:src|href)=|https?:/);
    rmSync(folder, { recursive: true });
  });

  test('options of texts need a text, and two models are one too many', () => {
    expectError(riverrun(['inspect', '--html', 'x.html']), /--html is for texts/);
    expectError(riverrun(['inspect', '--weights', 'q4']), /--weights is for texts/);
    expectError(riverrun(['inspect', '--kv-cache', 'f16']), /has no attention layer/);
    const perToken = (...args: string[]) =>
      JSON.parse(riverrun(['inspect', 'books-llama', '--json', ...args]).stdout).stateBytesPerToken;
    expect(perToken('--kv-cache', 'f16')).toBe(perToken() / 2);
    expectError(riverrun(['inspect', '--no-revectorize']), /--no-revectorize is for texts and --device/);
    expectError(riverrun(['inspect', '--device', '--weights', 'q4']), /only --no-revectorize and --json go with it/);
    expectError(riverrun(['inspect', '--text', 'a', '--tensors']), /one at a time/);
    expectError(riverrun(['inspect', 'books-mamba', '--model', 'books-rwkv7']), /two models/);
    expectError(riverrun(['inspect', '--text', 'a', '--layer', '99']), /layers 0 to 11/);
    expectError(riverrun(['inspect', '--file', 'no-such-file.txt']), /no-such-file/);
  });

  test('tells of the machine with 256-bit kernels turned off', () => {
    const { status, stdout } = riverrun(['inspect', '--device', '--no-revectorize', '--json']);
    expect(status).toBe(0);
    expect(JSON.parse(stdout).revectorization).toEqual({
      on: false,
      reason: 'turned off by the option revectorize (--no-revectorize)',
    });
  });

  test('what is no model is refused', () => {
    expectError(riverrun(['inspect', 'package.json']), /riverrun: /);
    expectError(riverrun(['pull', 'not an id']), /hub id|org\/name/);
  });
});

test('help and version', () => {
  expect(riverrun(['--help']).stdout).toMatch(/Examples:[\s\S]*riverrun generate/);
  expect(riverrun(['generate', '--help']).stdout).toMatch(/--top-p[\s\S]*Examples:/);
  expect(riverrun(['--version']).stdout).toMatch(/^\d+\.\d+\.\d+\n$/);
  expect(riverrun(['generat', 'x']).stderr).toMatch(/Did you mean generate/);
  expect(riverrun(['generat', 'x']).status).toBe(1);
});

describe('bench', () => {
  test('gives every number, and a picture of the cost', () => {
    const svg = join(folder, 'cost.svg');
    const { status, stdout } = riverrun(
      'bench --prefill 8 --decode 3 --batch 2 --rounds 1 --lengths 32,8,32 --json --svg'.split(' ').concat(svg),
    );
    expect(status).toBe(0);
    const result = JSON.parse(stdout);
    const page = readFileSync(join(root, 'docs/speed.md'), 'utf8');
    for (const field of [
      'prefillTokensPerSecond',
      'decodeTokensPerSecond',
      'loadSeconds',
      'peakBytes',
      'bytesPerToken',
      'bandwidthBound',
      'multiplyAddsPerToken',
      'multiplyAddsPerSecond',
      'productsBound',
      'prefillOfBound',
      'decodeBound',
      'decodeOfBound',
    ]) {
      expect(result[field], field).toBeGreaterThan(0);
      expect(page).toContain(`\`${field}\``);
    }
    expect(result.batch).toBe(2);
    expect(result.weights).toBe('q8');
    expect(Object.keys(result.multiplyAddsByFormat)[0]).toBe('q8');
    expect(page).toContain('`multiplyAddsByFormat`');
    expect(result).not.toHaveProperty('notReached');
    expect(result.productsBound).toBeCloseTo(result.multiplyAddsPerSecond / result.multiplyAddsPerToken, 5);
    expect(result.prefillOfBound).toBeCloseTo(result.prefillTokensPerSecond / result.productsBound, 9);
    // Generating has the head's products besides, and memory's bandwidth.
    expect(result.decodeBound).toBeLessThan(result.productsBound);
    expect(result.decodeBound).toBeLessThanOrEqual(result.bandwidthBound);
    expect(result.decodeOfBound).toBeCloseTo(result.decodeTokensPerSecond / result.decodeBound, 9);
    expect(result.costs.map(({ length }: { length: number }) => length)).toEqual([8, 32]);
    expect(result.costs[0].stateBytes).toBe(result.costs[1].stateBytes);
    expect(readFileSync(svg, 'utf8')).toMatch(/^<svg [\s\S]*<polyline [\s\S]*<\/svg>\n$/);
  });

  test('tells how far reading and generating are from their bounds', () => {
    const { status, stdout } = riverrun('bench --prefill 8 --decode 3 --batch 16 --rounds 1'.split(' '));
    expect(status).toBe(0);
    expect(stdout).toMatch(
      /^prefill +\d+ tokens\/s: \d+ % of what products allow \(\d+: [\d.]+ M multiply-adds a token at [\d.]+ · 10⁹\/s\)$/m,
    );
    // Sixteen share the weights: products are what bounds them.
    expect(stdout).toMatch(
      /^decode +[\d.]+ tokens\/s, 16 sequences together: \d+ % of what products allow \(\d+; memory \d+\)$/m,
    );
  });

  test('refuses a picture that can not be written before it looks for the model', () => {
    const svg = join(folder, 'no-such-folder', 'cost.svg');
    expectError(riverrun(['bench', '--model', 'no-such-model', '--svg', svg]), /no-such-folder/);
  });

  test('tells of lengths that the model has no positions for, those too that are only almost too long', () => {
    const args = 'bench --prefill 8 --decode 3 --rounds 1 --lengths 60,8,100'.split(' ');
    const { status, stdout } = riverrun([...args, '--json', '--model', goldenFolder('gpt2')]);
    expect(status).toBe(0);
    const { weights, costs, notReached } = JSON.parse(stdout);
    expect(weights).toBe('f32');
    expect(costs.map(({ length }: { length: number }) => length)).toEqual([8]);
    expect(notReached).toEqual({ lengths: [60, 100], reason: 'the model has positions for 64 tokens' });
  });

  test('prints what it measured where there is nothing to draw', () => {
    const svg = join(folder, 'nothing.svg');
    const { status, stdout, stderr } = riverrun(
      `bench --prefill 8 --decode 3 --rounds 1 --lengths 100 --svg ${svg} --model`
        .split(' ')
        .concat(goldenFolder('gpt2')),
    );
    expect(status).toBe(1);
    expect(stdout).toMatch(/^prefill [\s\S]*^not measured after 100 tokens: the model has positions for 64 tokens$/m);
    expect(stderr).toMatch(/no positions for texts of 100 tokens/);
    expect(existsSync(svg)).toBe(false);
  });

  test('says what it takes', () => {
    expectError(
      riverrun(['bench', '--seed', '1']),
      /--architectures, --steps, --learning-rate and --seed go with --tasks/,
    );
    expectError(riverrun(['bench', '--lengths', '8', '--curve']), /leave --curve and --long out/);
    expectError(riverrun(['bench', '--decode', '0']), /decode is 0: it must be a whole number of at least 1/);
    const { status, stdout } = riverrun(['bench', '--help']);
    expect(status).toBe(0);
    expect(stdout).toMatch(/--curve/);
  });
});

describe('convert', () => {
  test('writes a file that the other commands take, and says what it wrote', () => {
    const out = join(folder, 'converted.gguf');
    const { status, stdout } = riverrun(['convert', goldenFolder('rwkv7'), out, '--type', 'f16', '--json']);
    expect(status).toBe(0);
    expect(JSON.parse(stdout)).toMatchObject({ output: out, format: 'gguf', architecture: 'rwkv7', type: 'f16' });
    expect(JSON.parse(riverrun(['inspect', out, '--json']).stdout)).toMatchObject({ type: 'rwkv7' });
  });

  test('says what is wrong, and writes nothing', () => {
    const out = join(folder, 'nothing.gguf');
    expectError(riverrun(['convert', goldenFolder('gla'), out]), /llama\.cpp has no architecture for gla/);
    expectError(riverrun(['convert', goldenFolder('mamba'), out, '--type', 'bf16']), /f32, f16, q8 or q4, not bf16/);
    expectError(riverrun(['convert', goldenFolder('mamba'), goldenFolder('mamba')]), /written over itself/);
    expectError(riverrun(['convert', goldenFolder('mamba'), join(folder, 'x.safetensors')]), /a folder is written/);
    expectError(riverrun(['convert', 'no-such-model', out]), /there is no model no-such-model/);
    expect(existsSync(out)).toBe(false);
  });
});

const pages = ['README.md', ...readdirSync(join(root, 'docs')).map((name) => `docs/${name}`)].filter(
  (page) => page.endsWith('.md') && readFileSync(join(root, page), 'utf8').includes('<!-- example: '),
);

describe.each(pages)('%s', (page) => {
  const markdown = readFileSync(join(root, page), 'utf8');
  const examples = [...markdown.matchAll(/<!-- example: (\S+) -->\n```ts\n([\s\S]*?)```/g)].map(
    ([, name, code]) => [name!, code!] as const,
  );

  test('every program in it is marked as an example', () => {
    expect(examples.length).toBe(markdown.match(/```ts/g)!.length);
  });

  test.each(examples)('%s runs', (_, code) => {
    const output = execFileSync(process.execPath, ['--input-type=module', '--eval', code], {
      cwd: root,
      encoding: 'utf8',
    });
    expect(output.length).toBeGreaterThan(40);
  });
});

test('every command line of the README and the docs has options that there are', () => {
  const helps = new Map<string, string>();
  const lines = pages.flatMap((page) =>
    [...readFileSync(join(root, page), 'utf8').matchAll(/^\s*npx riverrun (.*)$/gm)].map(([, line]) => line!),
  );
  expect(lines.length).toBeGreaterThan(20);
  for (const line of lines) {
    // What is quoted or a remark is no option.
    const words = line
      .replace(/'[^']*'|"[^"]*"/g, '…')
      .replace(/\s#.*$/, '')
      .split(/\s+/);
    const command = words[0] === 'state' ? words.slice(0, 2) : words.slice(0, 1);
    const name = command.join(' ');
    if (!helps.has(name)) helps.set(name, riverrun([...command, '--help']).stdout);
    const help = helps.get(name)!;
    expect(help, name).toMatch(`Usage: riverrun ${name} `);
    for (const flag of words.filter((word) => /^--?[a-z]/.test(word))) expect(help, line).toContain(flag);
  }
});
