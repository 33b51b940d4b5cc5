import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { createInterface, type Interface } from 'node:readline';
import { Command } from 'commander';
import { type ChatTemplate, jinjaTemplate, worldTemplate } from '../chat/template.ts';
import { InputError, RiverrunError } from '../core/errors.ts';
import { expectWritable, openFile } from '../platform/node-file.ts';
import { saveState } from '../platform/state-files.ts';
import type { Model } from '../runtime/model.ts';
import { Chat } from '../tasks/chat.ts';
import { type ModelFlags, withModel } from './options.ts';
import { type SamplingFlags, samplingOptions, withSampling } from './sampling-options.ts';
import { loadModel, print } from './terminal.ts';

interface ChatFlags extends ModelFlags, SamplingFlags {
  readonly system?: string;
  readonly session?: string;
  readonly template?: string;
  readonly json?: boolean;
}

export function chatCommand(): Command {
  const command = new Command('chat')
    .description('Talk with a model. Every line of standard input is a message.')
    .option('--system <text>', 'how the model is to behave')
    .option('--session <file>', 'remember the conversation here, and go on with it the next time')
    .option('--template <name>', 'a file with a Jinja template, or "world" for "User: … Assistant: …"')
    .option('--json', 'print one JSON object a line for every answer')
    .addHelpText(
      'after',
      `
Examples:
  riverrun chat --model BlinkDL/rwkv7-g1
  riverrun chat --model ./my-model --session talk.state --system "Be brief."
  echo "Who are you?" | riverrun chat --template world --json

While talking, /help lists the commands. Ctrl-C stops an answer, and leaves when there is none.`,
    )
    .action(runChat);
  return withModel(withSampling(command));
}

async function runChat(flags: ChatFlags): Promise<void> {
  if (flags.session !== undefined) await expectWritable(flags.session);
  const loading = new AbortController();
  const stopLoading = () => loading.abort();
  process.once('SIGINT', stopLoading);
  const model = await loadModel(flags, loading.signal);
  process.off('SIGINT', stopLoading);
  try {
    const chat = await openChat(model, flags);
    await new Conversation(chat, flags).run();
  } finally {
    model.dispose();
  }
}

async function openChat(model: Model, { session, system, template: name }: ChatFlags): Promise<Chat> {
  if (name === undefined && !model.hasChatTemplate)
    throw new InputError('the model has no chat template: --template world writes "User: … Assistant: …"');
  const template = name === undefined ? model.chatTemplate : await openTemplate(name);
  const isKept = session !== undefined && existsSync(session);
  if (!isKept) return new Chat(model, { template, ...(system !== undefined && { system }) });
  if (system !== undefined) throw new InputError(`${session} has a conversation with its system message already`);
  await (await openFile(session)).close();
  return await Chat.load(model, await readFile(session), { template });
}

async function openTemplate(name: string): Promise<ChatTemplate> {
  if (name === 'world') return worldTemplate();
  await (await openFile(name)).close();
  return jinjaTemplate(await readFile(name, 'utf8'), {}, name);
}

const help = `/undo   take the last message and its answer back
/retry  answer the last message anew
/info   tell how long the conversation is
/help   list the commands
/quit   leave (as Ctrl-D does)
`;

/** A conversation at the terminal, or through pipes. */
class Conversation {
  readonly #chat: Chat;
  readonly #flags: ChatFlags;
  readonly #lines: Interface;
  readonly #isTerminal = process.stdin.isTTY === true && process.stdout.isTTY === true;
  /** Stops the answer that is being given. */
  #answering: AbortController | undefined;

  constructor(chat: Chat, flags: ChatFlags) {
    this.#chat = chat;
    this.#flags = flags;
    const output = this.#isTerminal ? { output: process.stdout } : {};
    this.#lines = createInterface({ input: process.stdin, prompt: '> ', ...output });
  }

  async run(): Promise<void> {
    const interrupt = () => this.#interrupt();
    // A terminal that is read line by line tells the interface, anything else the process.
    this.#lines.on('SIGINT', interrupt);
    process.on('SIGINT', interrupt);
    try {
      this.#prompt();
      for await (const line of this.#lines) {
        if (line.trim() === '/quit') break;
        await this.#take(line.trim());
        this.#prompt();
      }
    } finally {
      process.off('SIGINT', interrupt);
      this.#lines.close();
    }
  }

  #prompt(): void {
    if (this.#isTerminal) this.#lines.prompt();
  }

  /** Stops an answer; without one, leaves. */
  #interrupt(): void {
    if (this.#answering && !this.#answering.signal.aborted) {
      this.#answering.abort();
      return;
    }
    process.exitCode = 130;
    this.#lines.close();
  }

  async #take(line: string): Promise<void> {
    if (line === '') return;
    if (!line.startsWith('/')) return await this.#answer(line);
    const say = (text: string) => void process.stderr.write(text);
    try {
      if (line === '/help') say(help);
      else if (line === '/info') say(`${this.#chat.messages.length} messages, ${this.#chat.position} tokens\n`);
      else if (line === '/undo') {
        say(`taken back: ${this.#chat.undo().content}\n`);
        await this.#remember();
      } else if (line === '/retry') await this.#answer(this.#chat.undo().content);
      else say(`there is no command ${line}: /help lists them\n`);
    } catch (error) {
      if (!(error instanceof RiverrunError) || !this.#isTerminal) throw error;
      say(`${error.message}\n`);
    }
  }

  async #answer(question: string): Promise<void> {
    const { json } = this.#flags;
    const controller = new AbortController();
    this.#answering = controller;
    let [text, tokens, finishReason] = ['', 0, 'interrupted'];
    try {
      const options = { ...samplingOptions(this.#flags), signal: controller.signal, onToken: () => void tokens++ };
      const answer = this.#chat.send(question, options);
      for (;;) {
        const next = await answer.next();
        if (next.done) {
          finishReason = next.value.finishReason;
          break;
        }
        // Most vocabularies begin words with a space, the first one too.
        const piece = text === '' ? next.value.trimStart() : next.value;
        text += piece;
        if (!json) await print(piece);
      }
    } catch (error) {
      if (!controller.signal.aborted) throw error;
      if (!this.#isTerminal) process.exitCode = 130;
    } finally {
      this.#answering = undefined;
    }
    if (json) await print(`${JSON.stringify({ question, answer: text.trim(), tokens, finishReason })}\n`);
    else await print('\n');
    await this.#remember();
  }

  async #remember(): Promise<void> {
    if (this.#flags.session !== undefined) await saveState(this.#flags.session, this.#chat.save());
  }
}
