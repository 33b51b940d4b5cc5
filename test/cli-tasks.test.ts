import { spawn, spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';

const root = new URL('../', import.meta.url).pathname;
const main = join(root, 'dist/cli/main.js');
const folder = mkdtempSync(join(tmpdir(), 'riverrun-tasks-'));
afterAll(() => rmSync(folder, { recursive: true }));

function riverrun(args: string[], input = '') {
  const { status, stdout, stderr } = spawnSync(process.execPath, [main, ...args], { input, encoding: 'utf8' });
  return { status, stdout, stderr };
}

/** Exit code 1 and one line. */
function expectError({ status, stdout, stderr }: ReturnType<typeof riverrun>, message: RegExp): void {
  expect(stderr).toMatch(message);
  expect(stderr.trimEnd().split('\n')).toHaveLength(1);
  expect(stdout).toBe('');
  expect(status).toBe(1);
}

const book = join(folder, 'book.txt');
writeFileSync(book, 'Once there was a boy. His name was Tom. He had a dog. The dog was called Rex.\n');

describe('generate', () => {
  test('holds the text to what is asked', () => {
    const { stdout } = riverrun(['generate', 'The weather was', '--choices', ' fine, bad', '--seed', '1']);
    expect(stdout).toMatch(/^The weather was (fine|bad)\n$/);
    const regex = riverrun(['generate', 'Tom is', '--regex', ' [a-z]{3,9} and [a-z]{3,9}\\.', '--seed', '1']).stdout;
    expect(regex).toMatch(/^Tom is [a-z]{3,9} and [a-z]{3,9}\.\n$/);
    const schema = join(folder, 'schema.json');
    const properties = { name: { type: 'string', maxLength: 5 }, good: { type: 'boolean' } };
    writeFileSync(schema, JSON.stringify({ properties, required: ['name', 'good'] }));
    const { text, finishReason } = JSON.parse(riverrun(['generate', 'x', '--json-schema', schema, '--json']).stdout);
    expect(finishReason).toBe('complete');
    expect(Object.keys(JSON.parse(text))).toEqual(['name', 'good']);
    const inline = riverrun(['generate', 'x', '--json-schema', '{"type":"boolean"}']).stdout;
    const cut = riverrun(['generate', 'x', '--regex', '[a-z]{30}', '--max-tokens', '1']);
    expect(cut.stderr).toMatch(/the text ended at --max-tokens 1, and may be cut off/);
    expect(riverrun(['generate', 'x', '--json-schema', 'true', '-n', '9', '-q']).stderr).toBe('');
    expect(inline).toMatch(/^x(true|false)\n$/);
  });

  test.each<[string[], RegExp]>([
    [['--regex', '('], /invalid regular expression/],
    [['--regex', 'a', '--choices', 'b'], /one of --choices, --regex and --json-schema/],
    [['--choices', 'a,,b'], /none of them empty/],
    [['--json-schema', 'missing.json'], /missing\.json: there is no such file/],
    [['--json-schema', '{'], /--json-schema is not valid JSON/],
    [['--json-schema', '{"typ":1}'], /unknown keyword typ: did you mean type/],
  ])('%j is refused', (args, message) => {
    expectError(riverrun(['generate', 'x', ...args]), message);
  });

  test('reads texts of any length from a pipe', () => {
    const long = 'Tom had a dog. '.repeat(4400);
    const args = ['generate', '--json', '-t', '0', '-n', '3'];
    const { status, stdout } = riverrun(args, `${long}\n`);
    expect(status).toBe(0);
    const result = JSON.parse(stdout);
    expect(result.prompt).toBeUndefined();
    expect(result.tokens).toHaveLength(3);
    const short = JSON.parse(riverrun(args, `${long.slice(0, 3000)}\r\n`).stdout);
    expect(short.prompt).toBe(long.slice(0, 3000));
    expect(result.text).toBe(short.text);
  });
});

describe('ask', () => {
  test('answers every question with a line', () => {
    const asked = ['Who is the boy?', 'What is the dog called?'];
    const { status, stdout, stderr } = riverrun(['ask', book, ...asked]);
    expect([status, stderr]).toEqual([0, '']);
    expect(stdout).toMatch(/^.+\n.+\n$/);
    expect(riverrun(['ask', book], `${asked.join('\n\n')}\n`).stdout).toBe(stdout);
  });

  test('answers from a list, and keeps the document’s state', () => {
    const state = join(folder, 'book.state');
    const args = ['ask', book, 'Is he a boy?', '--choices', 'yes, no', '--json', '--checkpoint', state];
    const first = JSON.parse(riverrun(args).stdout);
    expect(['yes', 'no']).toContain(first.answers[0].answer);
    expect(first.answers[0].logProbability).toBeLessThan(0);
    expect(existsSync(state)).toBe(true);
    expect(JSON.parse(riverrun(args).stdout)).toEqual(first);
  });

  test('reads the document from a pipe', () => {
    const { status, stdout } = riverrun(['ask', '-', 'Who?', '--json'], 'Once there was a boy.');
    expect(status).toBe(0);
    expect(JSON.parse(stdout)).toMatchObject({ document: '-', answers: [{ question: 'Who?' }] });
  });

  test('says what is wrong', () => {
    expectError(riverrun(['ask', join(folder, 'none.txt'), 'x']), /there is no such file/);
    expectError(riverrun(['ask', '-'], 'text'), /there is no question/);
    expectError(riverrun(['ask', '-', 'x'], ''), /document is empty/);
  });
});

describe('classify and embed', () => {
  const template = ' This is the story of a {}.';
  const texts = ['Rex barked and wagged his tail.', 'The sailors saw the sea.'];

  test('classify arguments and lines', () => {
    const args = ['classify', '--labels', 'dog, king,ship', '--template', template];
    const { status, stdout, stderr } = riverrun([...args, ...texts]);
    expect([status, stderr]).toEqual([0, '']);
    expect(stdout).toMatch(/^dog\t0\.\d{3}\tRex barked.*\nship\t0\.\d{3}\tThe sailors.*\n$/);
    expect(riverrun(args, texts.join('\n\n')).stdout).toBe(stdout);
    const lines = riverrun([...args, '--json'], texts.join('\r\n'))
      .stdout.trimEnd()
      .split('\n');
    const results = lines.map((line) => JSON.parse(line));
    expect(results.map(({ text, label }) => [text, label])).toEqual([
      [texts[0], 'dog'],
      [texts[1], 'ship'],
    ]);
    expect(results[0].labels).toHaveLength(3);
  });

  test('embed gives a vector a line', () => {
    const { stdout } = riverrun(['embed', ...texts]);
    const vectors = stdout
      .trimEnd()
      .split('\n')
      .map((line) => line.split(' ').map(Number));
    expect(vectors).toHaveLength(2);
    expect(Math.hypot(...vectors[0]!)).toBeCloseTo(1, 4);
    const result = JSON.parse(riverrun(['embed', '--json', '--no-normalize', '--pooling', 'last'], texts[0]!).stdout);
    expect(result.text).toBe(texts[0]);
    expect(result.embedding).toHaveLength(vectors[0]!.length);
  });

  test('say what is wrong', () => {
    expectError(riverrun(['classify', 'x']), /name the labels with --labels/);
    expectError(riverrun(['classify', '--labels', 'a,a', 'x']), /a label is there twice/);
    expectError(riverrun(['classify', '--labels', 'a,b', '--template', 'none', 'x']), /must have \{\} once/);
    expectError(riverrun(['embed', '--pooling', 'max', 'x']), /Allowed choices are mean, last, first/);
  });
});

describe('chat', () => {
  const world = ['chat', '--template', 'world', '--max-tokens', '12', '--seed', '1'];

  test('answers every line, and remembers the conversation', () => {
    const session = join(folder, 'talk.state');
    const whole = riverrun([...world, '--json'], 'Hello.\nGo on.\n')
      .stdout.trimEnd()
      .split('\n');
    expect(whole).toHaveLength(2);
    const first = riverrun([...world, '--json', '--session', session], 'Hello.\n').stdout.trimEnd();
    const second = riverrun([...world, '--json', '--session', session], 'Go on.\n').stdout.trimEnd();
    expect([first, second]).toEqual(whole);
    expect(JSON.parse(second)).toMatchObject({ question: 'Go on.' });
    expectError(
      riverrun([...world, '--session', session, '--system', 'x'], 'x'),
      /has its system message|system message already/,
    );
    expectError(riverrun([...world, '--session', book], 'x'), /book\.txt|safetensors|conversation/);
  });

  test('has commands', () => {
    const { status, stdout, stderr } = riverrun(world, 'Hello.\n/info\n/retry\n/undo\n/what\n/help\n/quit\nnever\n');
    expect(status).toBe(0);
    const answers = stdout.trimEnd().split('\n');
    expect(answers[0]).toBe(answers[1]);
    expect(answers).toHaveLength(2);
    expect(stderr).toMatch(
      /^2 messages, \d+ tokens\ntaken back: Hello\.\nthere is no command \/what.*\n\/undo[\s\S]*\/quit/,
    );
  });

  test('Ctrl-C stops the answer, and a second one leaves', async () => {
    const args = [main, ...world, '--max-tokens', '100000', '--stop', 'never', '--frequency-penalty', '0'];
    const child = spawn(process.execPath, args, { stdio: ['pipe', 'pipe', 'pipe'] });
    let [stdout, stderr, sent] = ['', '', 0];
    child.stderr.on('data', (data) => (stderr += data));
    child.stdout.on('data', (data) => {
      stdout += data;
      // Once while it answers, once when the answer has ended.
      if (sent === 0 || (sent === 1 && stdout.endsWith('\n'))) {
        sent++;
        child.kill('SIGINT');
      }
    });
    child.stdin.write('Tell me a long story.\n');
    const code = await new Promise((resolve) => child.on('close', resolve));
    expect(stderr).toBe('');
    expect(code).toBe(130);
  });

  test('says what is wrong', () => {
    expectError(riverrun(['chat'], 'Hi'), /no chat template: --template world/);
    expectError(riverrun(['chat', '--template', join(folder, 'none.jinja')], 'Hi'), /there is no such file/);
    expectError(riverrun(['chat', '--template', 'world', '--top-p', '3'], 'Hi'), /topP is 3/);
    expectError(riverrun(['chat', '--template', 'world'], '/undo'), /nothing to take back/);
  });
});

test.each(['chat', 'ask', 'classify', 'embed'])('%s --help has examples', (command) => {
  expect(riverrun([command, '--help']).stdout).toMatch(new RegExp(`Examples:\\n  riverrun ${command} `));
});
