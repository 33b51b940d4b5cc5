import { execFileSync } from 'node:child_process';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { expect, test } from 'vitest';
import { architectures } from '../src/models/index.ts';
import type { TaskResult } from '../src/platform/bench-tasks.ts';
import { version } from '../src/version.ts';

const root = new URL('../', import.meta.url).pathname;
const tracked = execFileSync('git', ['ls-files', '--cached', '--others', '--exclude-standard'], {
  cwd: root,
  encoding: 'utf8',
})
  .split('\n')
  .filter((name) => name !== '' && existsSync(join(root, name)));
const pages = tracked.filter((name) => name.endsWith('.md'));

test.each(pages)('%s links only to what exists', (page) => {
  const text = readFileSync(join(root, page), 'utf8').replace(/```[\s\S]*?```/g, '');
  for (const [, target] of text.matchAll(/\]\(([^)#]+)(?:#[^)]*)?\)/g)) {
    if (/^[a-z]+:/.test(target!)) continue;
    expect(existsSync(join(root, dirname(page), target!)), `${page} → ${target}`).toBe(true);
  }
});

test('the version is that of package.json', () => {
  expect(version).toBe(JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')).version);
});

test('the README names every architecture', () => {
  const readme = readFileSync(join(root, 'README.md'), 'utf8');
  for (const { type } of Object.values(architectures)) expect(readme, type).toContain(`\`${type}\``);
});

test('the table of quantised models is that of the results', () => {
  const { rows } = JSON.parse(readFileSync(join(root, 'bench/results/quality.json'), 'utf8'));
  const page = readFileSync(join(root, 'docs/quantisation.md'), 'utf8');
  for (const { model, f32, q8, q4 } of rows) {
    const worse = (loss: number) => {
      const percent = 100 * (loss / f32 - 1);
      return `${loss.toFixed(4)} (${percent < 0 ? '' : '+'}${percent.toFixed(2)} %)`;
    };
    expect(page).toContain(`| ${model} | ${f32.toFixed(4)} | ${worse(q8)} | ${worse(q4)} |`);
    // What fewer bits may cost.
    expect(q8 / f32 - 1, model).toBeLessThan(0.001);
    expect(q4 / f32 - 1, model).toBeLessThan(0.015);
  }
  const peer = JSON.parse(readFileSync(join(root, 'bench/results/quality-llama-cpp.json'), 'utf8'));
  for (const [i, { model, f32, q8, q4 }] of peer.rows.entries()) {
    expect(page).toContain(`| ${model} | ${f32.toFixed(4)} | ${q8.toFixed(4)} | ${q4.toFixed(4)} |`);
    expect(rows[i].model).toBe(model);
    expect(rows[i].q8 / q8 - 1, model).toBeLessThan(1e-5);
    expect(rows[i].q4 / q4 - 1, model).toBeLessThan(1e-5);
  }
});

test('the table of group sizes is that of the results', () => {
  const { rows } = JSON.parse(readFileSync(join(root, 'bench/results/group-sizes.json'), 'utf8'));
  const page = readFileSync(join(root, 'docs/decisions/0003-integer-products.md'), 'utf8');
  for (const row of rows) {
    const cells = ['32', '64', '128'].map((size) => `+${(100 * (row[size] / row.f32 - 1)).toFixed(2)} %`);
    expect(page).toContain(`| ${[row.model, ...cells].join(' | ')} |`);
  }
});

test('the table of training beside PyTorch is that of the results', () => {
  const page = readFileSync(join(root, 'docs/training.md'), 'utf8');
  const { rows } = JSON.parse(readFileSync(join(root, 'bench/results/training.json'), 'utf8'));
  for (const { name, form, node, riverrun, pytorch, ratio } of rows)
    expect(page).toContain(`| ${name} | ${form} | ${node} | ${riverrun} | ${pytorch} | ${ratio.toFixed(2)} |`);
  const table = page.slice(page.indexOf('## Speed beside PyTorch'), page.indexOf('## Made-up tasks'));
  expect(table.match(/^\| (?!model)/gm)).toHaveLength(rows.length);
});

test('what is told of trainings that were killed, and of what Hugging Face opens, is in the results', () => {
  const page = readFileSync(join(root, 'docs/training.md'), 'utf8');
  const [plain, carried] = JSON.parse(readFileSync(join(root, 'bench/results/training-crash.json'), 'utf8'));
  expect(page).toContain(`has ${plain.kills} kills at random moments in ${plain.steps} steps`);
  expect(page).toContain(`and ${carried.kills} with \`--carry-state\``);
  expect([plain, carried].every(({ same }) => same)).toBe(true);
  const { tolerance, rows } = JSON.parse(readFileSync(join(root, 'bench/results/hugging-face.json'), 'utf8'));
  const names = ['mamba', 'mamba2', 'llama'].flatMap((name) => [name, `${name}, LoRA`]);
  const ofPeft = ['llama', 'mamba', 'gpt2'].map((name) => `${name}, LoRA of PEFT`);
  expect(rows.map(({ name }: { name: string }) => name)).toEqual(
    expect.arrayContaining([...names, 'gpt2, LoRA', 'mamba, LoRA, merged', 'gpt2, LoRA, merged', ...ofPeft]),
  );
  const written = ['tiny-books-mamba', 'random mamba', 'random mamba2', 'random falcon_mamba'];
  const taught = written.flatMap((name) =>
    ['taught whole', 'LoRA', 'LoRA, merged'].map((how) => `${name} of transformers, ${how}`),
  );
  expect(rows.map(({ name }: { name: string }) => name)).toEqual(expect.arrayContaining(taught));
  expect(page).toContain('which move the logits by an eighth of their size and more');
  for (const { name, worst, sameIds, sameAutoIds, moved = 1 } of rows) {
    const same = ofPeft.includes(name) ? undefined : true;
    expect([name, worst <= tolerance, sameIds, sameAutoIds, moved > 1 / 8]).toEqual([name, true, same, same, true]);
  }
});

test('the table of made-up tasks is that of the results', () => {
  const page = readFileSync(join(root, 'docs/training.md'), 'utf8');
  for (const line of readFileSync(join(root, 'bench/results/tasks.jsonl'), 'utf8').trim().split('\n')) {
    const { task, architecture, steps, accuracy } = JSON.parse(line) as TaskResult;
    const found = accuracy.map((one) => `${one.length}: ${(100 * one.accuracy).toFixed(1)}`).join(' · ');
    expect(page).toContain(`| ${task} | ${architecture} | ${steps} | ${found} |`);
  }
});

test('the table of classifiers is that of the results', () => {
  const page = readFileSync(join(root, 'docs/training.md'), 'utf8');
  const percent = (accuracy: number) => `${(100 * accuracy).toFixed(1)} %`;
  for (const line of readFileSync(join(root, 'bench/results/classification.jsonl'), 'utf8').trim().split('\n')) {
    const { name, labels, epochs, validation, test: found } = JSON.parse(line);
    const right = `${found.right} of ${found.examples}`;
    expect(page).toContain(
      `| ${name} | ${labels} | ${epochs} | ${percent(validation.accuracy)} | ${percent(found.accuracy)} (${right}) |`,
    );
  }
});

test('the table of sessions is that of the results', () => {
  const result = (name: string) => JSON.parse(readFileSync(join(root, `bench/results/${name}.json`), 'utf8'));
  const page = readFileSync(join(root, 'docs/sessions.md'), 'utf8');
  const count = (n: number) => n.toLocaleString('en-US');
  const endless = result('endless');
  const all = (name: 'speed' | 'least' | 'most') => endless.tenths.map((tenth: Record<string, number>) => tenth[name]);
  expect(page).toContain(`| ${count(endless.tokens)} tokens piped`);
  expect(page).toContain(`${Math.min(...all('least'))} to ${Math.max(...all('most'))} MB resident`);
  expect(page).toContain(
    `${count(Math.min(...all('speed')))} to ${count(Math.max(...all('speed')))} tokens a CPU second`,
  );
  const { questions, tokens, seconds } = result('ask');
  expect(page).toContain(`| ${questions} questions about a document of ${count(tokens)} tokens`);
  expect(page).toContain(`read in ${seconds.reading.toFixed(1)} s, asked in ${seconds.asking.toFixed(2)} s`);
  const { sessions, same, ratio } = result('batcher');
  expect(page).toContain(`| ${same} the same as alone; ${ratio.toFixed(2)} times as fast as one at a time`);
  expect(same).toBe(sessions);
  const crash = result('crash');
  expect(page).toContain(`| ${crash.kills} × \`kill -9\``);
  expect([crash.same, crash.partial]).toEqual([true, 0]);
});

test('the table of bAbI is that of the results', () => {
  const page = readFileSync(join(root, 'docs/training.md'), 'utf8');
  for (const line of readFileSync(join(root, 'bench/results/babi.jsonl'), 'utf8').trim().split('\n')) {
    const { task, steps, validation, test: found, seconds } = JSON.parse(line);
    const [chosen, told] = [validation, found].map(({ accuracy }) => `${(100 * accuracy).toFixed(1)} %`);
    const right = `${found.right} of ${found.questions}`;
    expect(page).toContain(`| ${task} | ${steps} | ${chosen} | ${told} (${right}) | ${seconds} |`);
  }
});

test('the table of answers in a text is that of the results', () => {
  const page = readFileSync(join(root, 'docs/training.md'), 'utf8');
  for (const line of readFileSync(join(root, 'bench/results/squad.jsonl'), 'utf8').trim().split('\n')) {
    const { steps, batch, dev } = JSON.parse(line);
    const [exact, f1] = [dev.exactMatch, dev.f1].map((share) => `${(100 * share).toFixed(1)} %`);
    expect(page).toContain(`| ${steps * batch} of 87,599 | ${steps} | ${exact} | ${f1} |`);
  }
});

test('the table of slots is that of the results', () => {
  const page = readFileSync(join(root, 'docs/training.md'), 'utf8');
  for (const line of readFileSync(join(root, 'bench/results/slots.jsonl'), 'utf8').trim().split('\n')) {
    const { steps, validation, test: found } = JSON.parse(line);
    const [kept, exact, f1] = [validation.accuracy, found.exactMatch, found.f1].map((x) => `${(100 * x).toFixed(1)} %`);
    expect(page).toContain(`| ${steps} | ${kept} | ${exact} (${found.right} of ${found.questions}) | ${f1} |`);
  }
});

test('the table of questions is that of the results', () => {
  const page = readFileSync(join(root, 'docs/training.md'), 'utf8');
  for (const { model, blimp, lambada } of JSON.parse(
    readFileSync(join(root, 'bench/results/questions.json'), 'utf8'),
  )) {
    const pairs = `${(100 * blimp.accuracy).toFixed(1)} % (${blimp.right} of ${blimp.questions})`;
    expect(page).toContain(`| ${model} | ${pairs} | ${lambada.right} of ${lambada.questions} |`);
  }
});

test('the table of embedded models is that of the results', () => {
  const page = readFileSync(join(root, 'docs/training.md'), 'utf8');
  const { rows } = JSON.parse(readFileSync(join(root, 'bench/results/embedded.json'), 'utf8'));
  const base = rows.find(({ model }: { model: string }) => model === 'books-mamba');
  for (const { model, parameters, loss, reportedLoss, prefill, decode, peakBytes, stateBytes } of rows) {
    const [size, state] = [(parameters / 1e6).toFixed(2), (stateBytes / 1024).toFixed(0)];
    const [reading, writing] = [(prefill / base.prefill).toFixed(2), (decode / base.decode).toFixed(2)];
    expect(page).toContain(`| ${model} | ${size} | ${loss.toFixed(3)} | ${reportedLoss?.toFixed(3) ?? '—'} |`);
    expect(page).toContain(`| ${reading} | ${writing} | ${(peakBytes / 1e6).toFixed(0)} | ${state} |`);
  }
});

/** What compare.mjs found, for each shape, number of bits and Node. */
const compared = () => JSON.parse(readFileSync(join(root, 'bench/results/llama-cpp.json'), 'utf8'));
const majorOf = (node: string) => node.slice(1, node.indexOf('.'));

test('the tables of speeds beside llama.cpp and PyTorch are those of the results', () => {
  const page = readFileSync(join(root, 'docs/speed.md'), 'utf8');
  const { results, pytorch } = compared();
  const ratio = (a: number, b: number) => `${a.toFixed(0)} : ${b.toFixed(0)} = ${(a / b).toFixed(2)}×`;
  for (const { shape, bits, node, speeds, limits } of results) {
    const cells = Object.keys(speeds).map((kind) => ratio(speeds[kind].ours.best, speeds[kind]['llama.cpp'].best));
    const rate = ((speeds['decode after 16'].ours.best * limits.bytesPerToken) / 1e9).toFixed(1);
    expect(page).toContain(`| ${[shape, bits, majorOf(node), ...cells, rate].join(' | ')} |`);
  }
  for (const { shape, bits, prefill, 'decode after 16': decode } of pytorch)
    expect(page).toContain(
      `| ${[shape, bits, ratio(prefill.ours, prefill.pytorch), ratio(decode.ours, decode.pytorch)].join(' | ')} |`,
    );
});

test('the table of keys and values in 16 bits is that of the results', () => {
  const page = readFileSync(join(root, 'docs/speed.md'), 'utf8');
  const { kvCaches } = compared();
  const about = page.slice(page.indexOf('### Keys and values in 16 bits'), page.indexOf('### Memory and loading'));
  expect(about.match(/^\| llama/gm)).toHaveLength(kvCaches.length);
  for (const { shape, bits, node, cacheBytes, speeds } of kvCaches) {
    const [short, long] = [speeds['decode after 16'], speeds['decode after 4096']];
    const cell = (found: typeof short) =>
      ['f32', 'f16', 'llama.cpp'].map((who) => found[who].best.toFixed(0)).join(' · ');
    const ratios = ['llama.cpp', 'f32'].map((who) => `${(long.f16.best / long[who].best).toFixed(2)}×`);
    expect(about).toContain(`| ${[shape, bits, majorOf(node), cell(short), cell(long), ...ratios].join(' | ')} |`);
    expect(cacheBytes.f16).toBe(cacheBytes.f32 / 2);
    expect(page).toContain(`reads ${((4096 * cacheBytes.f32) / 1e6).toFixed(0)} MB of keys and values in f32 a token`);
  }
});

test('the loss with keys and values in 16 bits is that of the results, and within 0.01 %', () => {
  const { rows } = JSON.parse(readFileSync(join(root, 'bench/results/quality.json'), 'utf8'));
  const { f32, kvCacheF16, tokens } = rows.find(({ model }: { model: string }) => model === 'tiny-books-llama');
  expect(Math.abs(kvCacheF16 / f32 - 1)).toBeLessThan(1e-4);
  const [sessions, decision] = ['sessions.md', 'decisions/0015-keys-and-values-in-16-bits.md'].map((name) =>
    readFileSync(join(root, 'docs', name), 'utf8'),
  );
  const count = `${tokens.toLocaleString('en-US')} tokens of \`held-out.txt\` is`;
  expect(sessions).toContain(`${count} ${f32.toFixed(5)} with f32 and ${kvCacheF16.toFixed(5)} with f16`);
  expect(decision).toContain(
    `${count} ${f32.toFixed(6)} with keys and values in f32 and ${kvCacheF16.toFixed(6)} in f16`,
  );
});

test('the table of speeds beside transformers.js is that of the results', () => {
  const page = readFileSync(join(root, 'docs/speed.md'), 'utf8');
  const rows: BesideTransformersJs[] = compared().transformersJs;
  const types = rows.map(({ type, node }) => `${type} ${majorOf(node)}`);
  expect(types.sort()).toEqual(['f32', 'q4', 'q4-f32', 'q8'].flatMap((type) => [`${type} 20`, `${type} 24`]));
  for (const { bits, type, node, speeds, difference } of rows) {
    const cells = ['prefill', 'decode after 16', 'decode after 4096'].map((kind) => {
      const { ours, 'transformers.js': theirs } = speeds[kind]!;
      return `${ours.best.toFixed(0)} : ${theirs.best.toFixed(0)} = ${(ours.best / theirs.best).toFixed(2)}×`;
    });
    expect(page).toContain(`| ${[bits, type, majorOf(node), ...cells].join(' | ')} |`);
    // The same model, or the speeds would be of different things.
    if (bits === 'f32') expect(difference['transformers.js']).toBeLessThan(1e-3);
  }
  const forward = rows.map(
    ({ speeds: { 'decode after 16': of } }) => of!['forward']!.best / of!['transformers.js']!.best,
  );
  const [least, most] = rangeOf(forward).map((ratio) => ratio.toFixed(2));
  expect(page).toContain(`which is what ours does, is ${least} to ${most} times as fast`);
});

test('the table of speeds in a browser is that of the results', () => {
  const page = readFileSync(join(root, 'docs/speed.md'), 'utf8');
  const { rows } = JSON.parse(readFileSync(join(root, 'bench/results/browser.json'), 'utf8'));
  expect(rows).toHaveLength(4);
  for (const { bits, threads, speeds } of rows) {
    const cells = ['read', 'generate'].map((kind) => {
      const { ours, 'transformers.js': theirs } = speeds[kind];
      return `${ours.best.toFixed(0)} : ${theirs.best.toFixed(1)} = ${(ours.best / theirs.best).toFixed(2)}×`;
    });
    expect(page).toContain(`| ${[bits, threads, ...cells].join(' | ')} |`);
  }
  // Its q4 in a browser is the one that multiplies f32.
  const beside = compared().transformersJs.find(({ type }: BesideTransformersJs) => type === 'q4-f32');
  for (const { type, difference } of rows)
    if (type === 'q4') expect(difference['transformers.js']).toBeCloseTo(beside.difference['transformers.js'], 6);
});

test('the README tells the least and the most of speeds beside transformers.js', () => {
  const readme = readFileSync(join(root, 'README.md'), 'utf8');
  const { rows } = JSON.parse(readFileSync(join(root, 'bench/results/browser.json'), 'utf8'));
  const quantised = compared().transformersJs.filter(({ bits }: BesideTransformersJs) => bits !== 'f32');
  const range = (found: readonly BesideTransformersJs[], kind: string) => {
    const ratios = found.map(({ speeds }) => speeds[kind]!['ours']!.best / speeds[kind]!['transformers.js']!.best);
    return [Math.min(...ratios), Math.max(...ratios)].map((x) => x.toFixed(x < 5.5 ? 1 : 0)).join(' to ');
  };
  for (const [found, generating, reading] of [
    [quantised, 'decode after 16', 'prefill'],
    [rows, 'generate', 'read'],
  ] as const)
    expect(readme).toContain(
      `generating is ${range(found, generating)} times as fast and reading ${range(found, reading)} times`,
    );
});

interface BesideTransformersJs {
  readonly bits: string;
  readonly type: string;
  readonly node: string;
  readonly speeds: Readonly<Record<string, Readonly<Record<string, { readonly best: number }>>>>;
  readonly difference: Readonly<Record<string, number>>;
}

test('the table of aims is that of the results', () => {
  const page = readFileSync(join(root, 'docs/speed.md'), 'utf8');
  const { results } = compared();
  // Times llama.cpp's speed: reading and generating.
  const aims: Record<string, [number, number]> = {
    'mamba-130m q4': [2.5, 2.2],
    'mamba-130m q8': [2, 2],
    'mamba2-130m q4': [1.3, 2.2],
    'mamba2-130m q8': [1.1, 2],
    'rwkv7-0.19b q4': [1.1, 2.2],
    'rwkv7-0.19b q8': [0.9, 1.9],
    'llama-160m q4': [1.1, 1.6],
    'llama-160m q8': [0.9, 1.9],
  };
  for (const [key, [reading, generating]] of Object.entries(aims)) {
    const rows = ['20', '24'].map((major) =>
      results.find((row: Compared) => `${row.shape} ${row.bits}` === key && majorOf(row.node) === major),
    );
    const cells = (kind: string, aim: number) =>
      rows.map(({ ratios }: Compared) =>
        ratios[kind]! >= aim ? `**${ratios[kind]!.toFixed(2)}**` : ratios[kind]!.toFixed(2),
      );
    const line = [reading, ...cells('prefill', reading), generating, ...cells('decode after 16', generating)];
    expect(page).toContain(`| ${[...key.split(' '), ...line].join(' | ')} |`);
  }
});

interface Compared {
  readonly shape: string;
  readonly bits: string;
  readonly node: string;
  readonly speeds: Readonly<Record<string, { readonly ours: { readonly best: number } }>>;
  readonly ratios: Readonly<Record<string, number>>;
  readonly limits: {
    readonly multiplyAddsPerSecond: number;
    readonly multiplyAddsPerToken: number;
    readonly prefillOfProducts: number;
    readonly decodeOfBandwidth: number;
  };
  readonly bytes: Readonly<Record<string, number>>;
  readonly loadSeconds: Readonly<Record<string, number>>;
}

test('the tables of choosing tokens are those of the results', () => {
  const { runs } = JSON.parse(readFileSync(join(root, 'bench/results/sampling.json'), 'utf8'));
  const page = readFileSync(join(root, 'docs/speed.md'), 'utf8');
  for (const { node, choosing, generating } of runs) {
    const major = node.split('.')[0];
    for (const { logits, milliseconds } of choosing) {
      const times = (Object.values(milliseconds) as number[]).map((time) => time.toFixed(2));
      expect(page).toContain(`| ${[major, logits, ...times].join(' | ')} |`);
    }
    expect(page).toContain(`| ${[major, ...Object.values(generating.tokensPerSecond)].join(' | ')} |`);
  }
});

test('what is told of a comparison made again is that of its results', () => {
  const page = readFileSync(join(root, 'docs/speed.md'), 'utf8');
  const again = JSON.parse(readFileSync(join(root, 'bench/results/llama-cpp-again.json'), 'utf8'))
    .results as Compared[];
  const first = (compared().results as Compared[]).filter(({ node }) => majorOf(node) === '20');
  expect(again.map(({ shape, bits }) => `${shape} ${bits}`)).toEqual(
    first.map(({ shape, bits }) => `${shape} ${bits}`),
  );
  const range = (rows: readonly Compared[], kind: string) =>
    rangeOf(rows.map(({ ratios }) => ratios[kind]!))
      .map((ratio) => ratio.toFixed(2))
      .join(' to ');
  const [reading, generating] = ['prefill', 'decode after 16'] as const;
  expect(page).toContain(
    `had ${range(again, reading)} times llama.cpp's speed of reading and ${range(again, generating)} of generating, where the table has ${range(first, reading)} and ${range(first, generating)}.`,
  );
});

test('the table of memory and loading is that of the results', () => {
  const page = readFileSync(join(root, 'docs/speed.md'), 'utf8');
  const results: Compared[] = compared().results;
  for (const { shape, bits, node, ratios, bytes, loadSeconds } of results) {
    const cell = (of: Readonly<Record<string, number>>, unit: number, digits: number) =>
      `${['ours', 'llama.cpp'].map((who) => (of[who]! / unit).toFixed(digits)).join(' : ')} = ${(of['ours']! / of['llama.cpp']!).toFixed(2)}×`;
    expect(page).toContain(
      `| ${[shape, bits, majorOf(node), cell(bytes, 1e6, 0), cell(loadSeconds, 1, 2)].join(' | ')} |`,
    );
    expect([ratios['memory'], ratios['load time']]).toEqual(
      [bytes, loadSeconds].map((of) => of['ours']! / of['llama.cpp']!),
    );
  }
  const range = (kind: string, digits: number) =>
    rangeOf(results.map(({ ratios }) => ratios[kind]!))
      .map((x) => x.toFixed(digits))
      .join(' to ');
  expect(page).toContain(
    `${range('memory', 2)} times the memory that is told of llama.cpp, and ${range('load time', 1)} times the time to load`,
  );
});

const rangeOf = (numbers: readonly number[]): readonly number[] => [Math.min(...numbers), Math.max(...numbers)];
const percents = (shares: readonly number[]): string =>
  `${rangeOf(shares)
    .map((share) => (100 * share).toFixed(0))
    .join(' to ')} %`;

test('the shares of what products and memory allow are those of the results', () => {
  const page = readFileSync(join(root, 'docs/speed.md'), 'utf8').replace(/\s+/g, ' ');
  const { rows } = JSON.parse(readFileSync(join(root, 'bench/results/profile.json'), 'utf8')) as {
    rows: ProfiledRow[];
  };
  const results: Compared[] = compared().results;
  const of = <Row extends { node: string }>(all: readonly Row[], major: string) =>
    all.filter(({ node }) => majorOf(node) === major);
  const [older, newer] = ['20', '24'].map((major) =>
    percents(of(rows, major).map(({ reading }) => reading.bound / reading.whole)),
  );
  expect(page).toContain(
    `reading is at ${older} of the speed at which nothing but products would take time (\`bound\` below) on Node 20 and at ${newer} on Node 24`,
  );
  expect(page).toContain(
    `products take ${percents(rows.map(({ reading }) => shareOf(reading, ...products)))} of the kernels' time`,
  );
  const [olderRuns, newerRuns] = ['20', '24'].map((major) =>
    percents(of(results, major).map(({ limits }) => limits.prefillOfProducts)),
  );
  for (const { speeds, limits } of results)
    expect(limits.prefillOfProducts).toBe(
      (speeds['prefill']!.ours.best * limits.multiplyAddsPerToken) / limits.multiplyAddsPerSecond,
    );
  expect(page).toContain(
    `By the rates of products that the runs of the table above measured themselves it is at ${olderRuns} and ${newerRuns}.`,
  );
  const spreads = ['20', '24'].flatMap((major) =>
    ['q4', 'q8'].map((bits) => {
      const rates = of(results, major).filter((row) => row.bits === bits);
      const [least, most] = rangeOf(rates.map(({ limits }) => limits.multiplyAddsPerSecond));
      return most! / least!;
    }),
  );
  expect(page).toContain(`differ by up to ${Math.max(...spreads).toFixed(1)} times between rows of the same bits`);
  expect(page).toContain(
    `ours does at ${percents(results.map(({ limits }) => limits.decodeOfBandwidth))} of memory's speed`,
  );
});

test('the table of where time goes is that of the results', () => {
  const page = readFileSync(join(root, 'docs/speed.md'), 'utf8');
  const { rows } = JSON.parse(readFileSync(join(root, 'bench/results/profile.json'), 'utf8'));
  for (const { shape, bits, node, reading, generating } of rows) {
    const cells = [reading, generating].flatMap((one: Profiled) => {
      const share = (...names: string[]) => `${(100 * shareOf(one, ...names)).toFixed(0)} %`;
      const [whole, bound] = [one.whole, one.bound].map((time) => time.toFixed(0));
      return [whole, bound, share(...products), share('attention', 'recurrence', 'conv')];
    });
    expect(page).toContain(`| ${[shape, bits, majorOf(node), ...cells].join(' | ')} |`);
  }
  const quantising = (rows as ProfiledRow[])
    .flatMap(({ reading, generating }) => [reading, generating])
    .map((one) => 100 * shareOf(one, 'quantiseRowsQ4', 'quantiseRowsQ8'));
  const told = rangeOf(quantising).map((percent) => percent.toFixed(1));
  expect(page).toContain(`quantising rows (${told.join(' to ')} %)`);
});

interface Profiled {
  readonly whole: number;
  readonly bound: number;
  readonly kernels: Readonly<Record<string, number>>;
}

interface ProfiledRow {
  readonly node: string;
  readonly reading: Profiled;
  readonly generating: Profiled;
}

const products = ['linearQ4', 'linearQ8', 'linear'];

/** The share of the kernels' time that some take. */
const shareOf = ({ kernels }: Profiled, ...names: string[]): number =>
  names.reduce((all, name) => all + (kernels[name] ?? 0), 0) / Object.values(kernels).reduce((a, b) => a + b, 0);

test('the table of what joined steps are worth is that of the results', () => {
  const page = readFileSync(join(root, 'docs/decisions/0016-joined-steps.md'), 'utf8');
  const { rows } = JSON.parse(readFileSync(join(root, 'bench/results/builds.json'), 'utf8'));
  expect(rows).toHaveLength(12);
  type Ratios = { readonly median: number; readonly quartiles: readonly [number, number] };
  const told = ({ median, quartiles: [low, high] }: Ratios) =>
    `${median.toFixed(3)} (${low.toFixed(3)} to ${high.toFixed(3)})`;
  for (const { shape, bits, threads, node, generating, reading } of rows)
    expect(page).toContain(`| ${[shape, bits, threads, majorOf(node), told(generating), told(reading)].join(' | ')} |`);
  expect(rows.filter(({ generating }: { generating: Ratios }) => generating.median > 1)).toHaveLength(10);
});

test('the tables of costs by length are those of the results, and linear is linear', () => {
  const page = readFileSync(join(root, 'docs/speed.md'), 'utf8');
  const { groups } = JSON.parse(readFileSync(join(root, 'bench/results/linear.json'), 'utf8'));
  const us = (milliseconds: number) => (1000 * milliseconds).toFixed(0);
  for (const { model, isLinear, points, passes } of Object.values(groups).flat() as CostsByLength[]) {
    if (!isLinear) {
      const cells = points.map(({ generating, reading }) => `${us(generating)} · ${us(reading)}`);
      expect(page).toContain(`| ${model} | ${cells.join(' | ')} |`);
      continue;
    }
    const [short, long] = points as [CostsByLength['points'][0], CostsByLength['points'][0]];
    const [generating, reading] = [long.generating / short.generating, long.reading / short.reading];
    expect(Math.max(generating, reading), model).toBeLessThan(1.03);
    expect([short.length, long.length, long.stateBytes]).toEqual([1024, 262_144, short.stateBytes]);
    const costs = [us(short.generating), generating.toFixed(3), us(short.reading), reading.toFixed(3)];
    expect(page).toContain(`| ${[model, ...costs, short.stateBytes, passes.generating, passes.reading].join(' | ')} |`);
  }
});

interface CostsByLength {
  readonly model: string;
  readonly isLinear: boolean;
  readonly points: readonly { length: number; generating: number; reading: number; stateBytes: number }[];
  readonly passes: { readonly generating: number; readonly reading: number };
}

test('the table of threads is that of the results', () => {
  const page = readFileSync(join(root, 'docs/speed.md'), 'utf8');
  const { rows } = JSON.parse(readFileSync(join(root, 'bench/results/threads.json'), 'utf8'));
  for (const { shape, weights, one, two } of rows)
    expect(page).toContain(
      `| ${shape} | ${weights} | ${one.toFixed(0)} | ${two.toFixed(0)} | ${(two / one).toFixed(2)} |`,
    );
});

test('the table of revectorized kernels is that of the results', () => {
  const page = readFileSync(join(root, 'docs/speed.md'), 'utf8');
  const { machine, rows } = JSON.parse(readFileSync(join(root, 'bench/results/revectorized.json'), 'utf8'));
  expect(page).toContain(`in turns on Node ${machine.node.slice(1)}`);
  for (const { shape, weights, reading, generating } of rows)
    expect(page).toContain(`| ${shape} | ${weights} | ${reading.toFixed(2)} | ${generating.toFixed(2)} |`);
});

test('the rates of products are those of the results', () => {
  const [older, newer] = JSON.parse(readFileSync(join(root, 'bench/results/kernels.json'), 'utf8')).runs as Products[];
  const of = (run: Products | undefined, build: string, rows: number, outputs: number, inputs: number) =>
    run!.products.find(
      (one) => one.build === build && one.rows === rows && one.matrix[0] === outputs && one.matrix[1] === inputs,
    )!.rates;
  const decision = (name: string) => readFileSync(join(root, 'docs/decisions', name), 'utf8');
  const products = decision('0003-integer-products.md');
  for (const [rows, outputs, inputs] of [
    [256, 3072, 768],
    [4, 768, 768],
    [1, 16384, 768],
  ] as const) {
    const rates = of(older, 'relaxed', rows, outputs, inputs);
    const cells = ['f32', 'bf16', 'q8', 'q4'].map((format) => {
      const { multiplyAdds, bytes } = rates[format]!;
      return `${multiplyAdds.toFixed(1)}${rows === 1 ? ` (${bytes.toFixed(1)} GB/s)` : ''}`;
    });
    expect(products).toContain(`| ${rows} × [${outputs}, ${inputs}] | ${cells.join(' | ')} |`);
  }
  const plain = of(older, 'simd', 256, 3072, 768);
  const rate = (rates: Products['products'][number]['rates'], format = 'q4') => rates[format]!.multiplyAdds.toFixed(1);
  expect(products).toContain(`q4 does ${rate(plain)} on 256 rows and f32 ${rate(plain, 'f32')}`);
  const limits = decision('0008-limits-of-integer-products.md');
  const [less, more] = [older, newer].map((run) => of(run, 'relaxed', 256, 3072, 768)).map((rates) => rate(rates));
  expect(limits).toContain(`does ${less} on Node 20 and ${more} on Node 24 in a product of 256 rows`);
  const [before, since] = [older, newer].map((run) => of(run, 'relaxed', 1, 16384, 768)).map((rates) => rate(rates));
  expect(limits).toContain(`${since} · 10⁹ multiply-adds there and ${before} on Node 20`);
});

interface Products {
  readonly products: readonly {
    readonly build: string;
    readonly rows: number;
    readonly matrix: readonly number[];
    readonly rates: Readonly<Record<string, { readonly multiplyAdds: number; readonly bytes: number }>>;
  }[];
}

test('the times of starting are those of the results', () => {
  const page = readFileSync(join(root, 'docs/speed.md'), 'utf8');
  const { runs } = JSON.parse(readFileSync(join(root, 'bench/results/start.json'), 'utf8'));
  const [older, newer] = runs as [Started, Started];
  expect(page).toContain(
    `the first token comes ${older.firstToken.toFixed(2)} s after \`riverrun generate\` is started on Node ${majorOf(older.node)}, ${newer.firstToken.toFixed(2)} s on Node ${majorOf(newer.node)}, and ${newer.firstStart.toFixed(2)} s there at the first start`,
  );
  const { pages, one, two } = older.clearing;
  const cleared = `${one.toFixed(2)} s on one thread`;
  expect(page).toContain(
    `clearing ${pages.toLocaleString('en-US')} new pages takes the system ${cleared}, ${two.toFixed(2)} s on two`,
  );
  const decision = readFileSync(join(root, 'docs/decisions/0009-files-straight-into-shared-memory.md'), 'utf8');
  const ofOwn = ['f32', 'q8', 'q4'].map(
    (type) => older.loads.find(({ file, held }) => file === type && held === type)!,
  );
  const [f32, q8, q4] = ofOwn.map(({ loading }) => loading.toFixed(2));
  const [first, second, third] = ofOwn.map(({ fingerprint }) => fingerprint.toFixed(2));
  expect(decision).toContain(
    `takes ${ofOwn[0]!.readReused.toFixed(2)} s, into memory that nobody touched ${ofOwn[0]!.readFresh.toFixed(2)} s`,
  );
  expect(decision).toContain(
    `f32 loads in ${f32} s, its own files in 8 bits in ${q8} and in 4 bits in ${q4}; a fingerprint, when it is asked for, takes ${first}, ${second} and ${third} s.`,
  );
  expect(decision).toContain(
    `${((1e6 * one) / pages).toFixed(1)} µs, ${pages.toLocaleString('en-US')} of them ${cleared} and ${two.toFixed(2)} s on two`,
  );
  for (const { node, loads } of runs as Started[])
    for (const one of loads) {
      const { file, held, bytes, readReused, readFresh, loading, loadingWeights, weightsBytes, peakMore } = one;
      const times = [readReused, readFresh, loading, loadingWeights].map((time) => time.toFixed(2));
      const share = `${((100 * readFresh) / loadingWeights).toFixed(0)} %`;
      const megabytes = [weightsBytes, peakMore].map((count) => (count / 1e6).toFixed(0));
      const cells = [file, held, majorOf(node), (bytes / 1e6).toFixed(0), ...times, share, ...megabytes];
      expect(page).toContain(`| ${cells.join(' | ')} |`);
    }
});

interface Started {
  readonly node: string;
  readonly firstToken: number;
  readonly firstStart: number;
  readonly clearing: { readonly pages: number; readonly one: number; readonly two: number };
  readonly loads: readonly {
    readonly file: string;
    readonly held: string;
    readonly bytes: number;
    readonly readReused: number;
    readonly readFresh: number;
    readonly loading: number;
    readonly loadingWeights: number;
    readonly fingerprint: number;
    readonly weightsBytes: number;
    readonly peakMore: number;
  }[];
}

test('decision records are numbered without gaps', () => {
  const numbers = readdirSync(join(root, 'docs/decisions')).map((name) => Number(name.slice(0, 4)));
  expect(numbers.sort((a, b) => a - b)).toEqual(numbers.map((_, i) => i + 1));
});

test('no file names a path of one machine or a package registry', () => {
  const suspicious = new RegExp(
    ['/home/\\w', '/Users/\\w', '/root/', '/opt/\\w', '/work/\\w', 'registry\\.npm'].join('|'),
  );
  for (const name of tracked.filter(
    (file) => /\.(ts|mjs|json|md|yml)$|^\.ci/.test(file) && file !== 'test/docs.test.ts',
  )) {
    expect(readFileSync(join(root, name), 'utf8').match(suspicious)?.[0], name).toBeUndefined();
  }
});
