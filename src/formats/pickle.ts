import { FormatError, UnsupportedError } from '../core/errors.ts';
import type { AllocationBudget } from './sequential-reader.ts';

/** A Python tuple, kept apart from lists, which are arrays. */
export class PickleTuple {
  readonly items: readonly unknown[];

  constructor(items: readonly unknown[]) {
    this.items = items;
  }
}

/** What a pickle may refer to. Nothing else is ever called, so a pickle can do no more than these functions. */
export interface PickleWorld {
  /** Allowed globals by `module.name`: functions for what may be called, any other value for what may be passed. */
  readonly globals: ReadonlyMap<string, unknown>;
  /** The object that a persistent id stands for. */
  readonly persistent: (id: unknown) => unknown;
}

/** A global that may be called. It throws FormatError for arguments that it does not take. */
export type PickleFunction = (args: readonly unknown[]) => unknown;

/**
 * Reads a pickle of the kinds that PyTorch writes (protocols 2 to 5, and what protocols 0 and 1 have in their place; opcodes as in
 * CPython's `pickletools`). Dictionaries
 * become Maps, lists arrays, integers numbers or bigints. A global outside `world` throws UnsupportedError by its name;
 * opcodes that PyTorch does not write, and broken pickles, throw FormatError.
 */
export function unpickle(file: string, bytes: Uint8Array, world: PickleWorld, budget: AllocationBudget): unknown {
  const machine = new Machine(file, bytes, world, budget);
  for (;;) {
    const code = machine.u8();
    if (code === stop) return machine.pop();
    const operation = operations.get(code);
    if (!operation)
      throw machine.error(`opcode 0x${code.toString(16)} at byte ${machine.at - 1} is none that torch.save writes`);
    else operation(machine);
  }
}

const stop = 0x2e;
const utf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

/** About how many bytes each kind of object takes. */
const cost = { item: 16, tuple: 64, list: 48, dict: 256, entry: 64 };

class Machine {
  readonly world: PickleWorld;
  readonly memo = new Map<number, unknown>();
  readonly #file: string;
  readonly #bytes: Uint8Array;
  readonly #view: DataView;
  readonly #budget: AllocationBudget;
  readonly #stack: unknown[] = [];
  readonly #marks: number[] = [];
  at = 0;

  constructor(file: string, bytes: Uint8Array, world: PickleWorld, budget: AllocationBudget) {
    this.#file = file;
    this.#bytes = bytes;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.world = world;
    this.#budget = budget;
  }

  error(problem: string): FormatError {
    return new FormatError(`${this.#file}: in its pickle, ${problem}`);
  }

  refusal(name: string): UnsupportedError {
    return new UnsupportedError(
      `refuses to load ${this.#file}: its pickle asks for ${name}, and only tensors and plain values are read. If you trust it, load it with PyTorch and save its state_dict()`,
    );
  }

  push(value: unknown, bytes = 0): void {
    this.#budget.spend(cost.item + bytes);
    this.#stack.push(value);
  }

  pop(): unknown {
    const value = this.top();
    this.#stack.length--;
    return value;
  }

  top(): unknown {
    if (this.#stack.length <= (this.#marks.at(-1) ?? 0)) throw this.error(`the stack is empty at byte ${this.at - 1}`);
    return this.#stack.at(-1);
  }

  mark(): void {
    this.#budget.spend(cost.item);
    this.#marks.push(this.#stack.length);
  }

  /** Takes the values above the last mark. */
  popMark(): unknown[] {
    const mark = this.#marks.pop();
    if (mark === undefined) throw this.error(`there is no mark at byte ${this.at - 1}`);
    const values = this.#stack.splice(mark);
    this.#budget.spend(values.length * cost.item);
    return values;
  }

  popTuple(count: number): void {
    const items: unknown[] = [];
    for (let i = 0; i < count; i++) items.unshift(this.pop());
    this.push(new PickleTuple(items), cost.tuple);
  }

  remember(key: number): void {
    this.#budget.spend(cost.entry);
    this.memo.set(key, this.top());
  }

  recall(key: number): void {
    if (!this.memo.has(key)) throw this.error(`nothing is remembered under ${key}`);
    this.push(this.memo.get(key));
  }

  /** Adds keys and values in turn to the dictionary on top. */
  setItems(pairs: readonly unknown[]): void {
    const target = this.top();
    if (!(target instanceof Map)) throw this.error('an entry is added to what is no dictionary');
    if (pairs.length % 2) throw this.error('a key has no value');
    this.#budget.spend((pairs.length / 2) * cost.entry);
    for (let i = 0; i < pairs.length; i += 2) {
      const key = pairs[i];
      if (typeof key === 'object' && key !== null) throw this.error('a key is no plain value');
      target.set(key, pairs[i + 1]);
    }
  }

  /** Adds items to the list on top. */
  append(items: readonly unknown[]): void {
    const target = this.top();
    if (!Array.isArray(target)) throw this.error('an item is added to what is no list');
    this.#budget.spend(items.length * cost.item);
    for (const item of items) target.push(item);
  }

  global(module: unknown, name: unknown): void {
    if (typeof module !== 'string' || typeof name !== 'string') throw this.error('a global has no name');
    const path = `${module}.${name}`;
    if (!this.world.globals.has(path)) throw this.refusal(path);
    this.push(this.world.globals.get(path));
  }

  call(callable: unknown, args: unknown): void {
    if (typeof callable !== 'function') throw this.error('a value that is no function is called');
    if (!(args instanceof PickleTuple)) throw this.error('a function is called with no tuple of arguments');
    this.push((callable as PickleFunction)(args.items), cost.dict);
  }

  /** Python would set attributes; those of the one kind of object that gets any, OrderedDict, are not needed. */
  build(): void {
    this.pop();
    if (!(this.top() instanceof Map)) throw this.error('attributes are set on what is no dictionary');
  }

  u8(): number {
    return this.#view.getUint8(this.#take(1));
  }

  u16(): number {
    return this.#view.getUint16(this.#take(2), true);
  }

  i32(): number {
    return this.#view.getInt32(this.#take(4), true);
  }

  u32(): number {
    return this.#view.getUint32(this.#take(4), true);
  }

  u64(): number {
    return this.u32() + this.u32() * 2 ** 32;
  }

  f64BigEndian(): number {
    return this.#view.getFloat64(this.#take(8));
  }

  /** A little-endian two's complement integer of `count` bytes. */
  integer(count: number): number | bigint {
    if (count > 64) throw this.error(`an integer has ${count} bytes`);
    const at = this.#take(count);
    let value = 0n;
    for (let i = count - 1; i >= 0; i--) value = (value << 8n) | BigInt(this.#bytes[at + i]!);
    value = BigInt.asIntN(8 * count, value);
    return Number.isSafeInteger(Number(value)) ? Number(value) : value;
  }

  text(count: number): string {
    const at = this.#take(count);
    this.#budget.spend(2 * count + 32);
    try {
      return utf8.decode(this.#bytes.subarray(at, at + count));
    } catch {
      throw this.error(`the text at byte ${at} is not UTF-8`);
    }
  }

  /** A number that is written in digits; Python's long ones end in L, and 00 and 01 are false and true. */
  digits(): void {
    const line = this.line();
    const isFlag = line === '00' || line === '01';
    if (!/^-?\d{1,150}L?$/.test(line)) throw this.error(`${JSON.stringify(line.slice(0, 40))} is no integer`);
    const value = BigInt(line.replace('L', ''));
    this.push(isFlag ? line === '01' : Number.isSafeInteger(Number(value)) ? Number(value) : value);
  }

  /** Text up to the end of the line, between quotes. */
  quoted(): string {
    const line = this.line();
    const [, text] = /^(?:'(.*)'|"(.*)")$/s.exec(line)?.filter((part) => part !== undefined) ?? [];
    if (text === undefined) throw this.error(`a text at byte ${this.at - line.length - 1} has no quotes`);
    return text;
  }

  /** A place in the memo, written in digits. */
  place(): number {
    const line = this.line();
    if (!/^\d{1,9}$/.test(line)) throw this.error(`${JSON.stringify(line.slice(0, 40))} is no place in the memo`);
    return Number(line);
  }

  /** Text up to the end of the line. */
  line(): string {
    const end = this.#bytes.indexOf(0x0a, this.at);
    if (end < 0) throw this.error('a name has no end');
    const line = this.text(end - this.at);
    this.at = end + 1;
    return line;
  }

  #take(count: number): number {
    const at = this.at;
    if (count > this.#bytes.length - at) throw this.error(`${count} bytes are missing at its end`);
    this.at += count;
    return at;
  }
}

const operations: ReadonlyMap<number, (machine: Machine) => void> = new Map<number, (machine: Machine) => void>([
  // PROTO, FRAME
  [0x80, (m) => checkProtocol(m)],
  [0x95, (m) => void m.u64()],
  // NONE, NEWTRUE, NEWFALSE
  [0x4e, (m) => m.push(null)],
  [0x88, (m) => m.push(true)],
  [0x89, (m) => m.push(false)],
  // BININT, BININT1, BININT2, LONG1, LONG4, BINFLOAT
  [0x4a, (m) => m.push(m.i32())],
  [0x4b, (m) => m.push(m.u8())],
  [0x4d, (m) => m.push(m.u16())],
  [0x8a, (m) => m.push(m.integer(m.u8()))],
  [0x8b, (m) => m.push(m.integer(m.u32()))],
  [0x47, (m) => m.push(m.f64BigEndian())],
  // INT, LONG, FLOAT
  [0x49, (m) => m.digits()],
  [0x4c, (m) => m.digits()],
  [0x46, (m) => m.push(Number(m.line()))],
  // STRING, UNICODE, SHORT_BINSTRING, BINSTRING
  [0x53, (m) => m.push(m.quoted())],
  [0x56, (m) => m.push(m.line())],
  [0x55, (m) => m.push(m.text(m.u8()))],
  [0x54, (m) => m.push(m.text(m.u32()))],
  // SHORT_BINUNICODE, BINUNICODE, BINUNICODE8
  [0x8c, (m) => m.push(m.text(m.u8()))],
  [0x58, (m) => m.push(m.text(m.u32()))],
  [0x8d, (m) => m.push(m.text(m.u64()))],
  // MARK, EMPTY_TUPLE, TUPLE1, TUPLE2, TUPLE3, TUPLE
  [0x28, (m) => m.mark()],
  [0x29, (m) => m.popTuple(0)],
  [0x85, (m) => m.popTuple(1)],
  [0x86, (m) => m.popTuple(2)],
  [0x87, (m) => m.popTuple(3)],
  [0x74, (m) => m.push(new PickleTuple(m.popMark()), cost.tuple)],
  // LIST, EMPTY_LIST, APPEND, APPENDS
  [0x6c, (m) => m.push(m.popMark(), cost.list)],
  [0x5d, (m) => m.push([], cost.list)],
  [0x61, (m) => m.append([m.pop()])],
  [0x65, (m) => m.append(m.popMark())],
  // DICT, EMPTY_DICT, SETITEM, SETITEMS
  [0x64, (m) => dictionary(m, m.popMark())],
  [0x7d, (m) => m.push(new Map(), cost.dict)],
  [0x73, (m) => inOrder(m, (key, value) => m.setItems([key, value]))],
  [0x75, (m) => m.setItems(m.popMark())],
  // PUT, GET, BINPUT, LONG_BINPUT, MEMOIZE, BINGET, LONG_BINGET
  [0x70, (m) => m.remember(m.place())],
  [0x67, (m) => m.recall(m.place())],
  [0x71, (m) => m.remember(m.u8())],
  [0x72, (m) => m.remember(m.u32())],
  [0x94, (m) => m.remember(m.memo.size)],
  [0x68, (m) => m.recall(m.u8())],
  [0x6a, (m) => m.recall(m.u32())],
  // INST, OBJ: a class by its name, or one that was asked for, is called.
  [0x69, (m) => instance(m, m.line(), m.line(), m.popMark())],
  [0x6f, (m) => object(m, m.popMark())],
  // GLOBAL, STACK_GLOBAL, BINPERSID, REDUCE, BUILD
  [0x63, (m) => m.global(m.line(), m.line())],
  [0x93, (m) => inOrder(m, (module, name) => m.global(module, name))],
  [0x51, (m) => m.push(m.world.persistent(m.pop()))],
  [0x52, (m) => inOrder(m, (callable, args) => m.call(callable, args))],
  [0x62, (m) => m.build()],
]);

function dictionary(machine: Machine, pairs: readonly unknown[]): void {
  machine.push(new Map(), cost.dict);
  machine.setItems(pairs);
}

function instance(machine: Machine, module: string, name: string, args: readonly unknown[]): void {
  machine.global(module, name);
  machine.call(machine.pop(), new PickleTuple(args));
}

function object(machine: Machine, [callable, ...args]: readonly unknown[]): void {
  machine.call(callable, new PickleTuple(args));
}

function checkProtocol(machine: Machine): void {
  const protocol = machine.u8();
  if (protocol > 5) throw machine.error(`the protocol is ${protocol}, and 5 is the newest known`);
}

/** Takes two values, the upper of which was pushed last. */
function inOrder(machine: Machine, use: (below: unknown, above: unknown) => void): void {
  const above = machine.pop();
  use(machine.pop(), above);
}
