import { copy } from './copy.ts';
import { reachable } from './grad.ts';
import type { Op } from './op.ts';
import { type Counts, elementCount, isRuntime, rowSize, type Shape } from './shape.ts';
import type { Attributes, DType, Node, Tensor } from './tensor.ts';

/**
 * Where a tensor's data lies. `arena` is the plan's own working memory; `state` is one block per sequence, found
 * through the segment's slot; the others are found by name.
 */
export interface Place {
  readonly region: 'arena' | 'parameter' | 'state' | 'input' | 'constant';
  /** Name of the parameter, state or input; index of the constant; empty in the arena. */
  readonly name: string;
  /** In elements: from the start of the arena, or of the named block. */
  readonly offset: number;
  /** Elements from one row of the first axis to the next. In a state rows are a slot apart and this is not used. */
  readonly stride: number;
  readonly shape: Shape;
  readonly dtype: DType;
}

/** One kernel call. */
export interface Step {
  readonly op: Op;
  readonly path: string;
  readonly inputs: Readonly<Record<string, Place>>;
  readonly outputs: Readonly<Record<string, Place>>;
  readonly attributes: Attributes;
  /** Working memory that lives for this step only, in elements from the start of the arena; -1 without. */
  readonly scratch: number;
  /** Inputs that have no place, since this step's kernel computes them too: by their names, the steps that would (`Layout.joins`). */
  readonly joined: Readonly<Record<string, Joined>>;
}

/** A step that the one which reads its value does: it has no outputs of its own. */
export type Joined = Omit<Step, 'outputs'>;

/**
 * What a run leaves behind for the next: `next` takes the place of `previous`, a state (see `Carry`) or, in training, a
 * parameter that is held row by row.
 */
export interface Replacement {
  readonly name: string;
  readonly previous: Tensor;
  readonly next: Tensor;
  /** Whether it is a state that gains a row with every token. */
  readonly growing?: boolean;
}

/** A graph laid out: a flat list of kernel calls over one arena. Running it allocates nothing. */
export interface Plan {
  readonly steps: readonly Step[];
  /** The most tokens, segments and outputs that one run may have. */
  readonly capacity: Counts;
  /** Length of the arena in elements. */
  readonly arena: number;
  readonly inputs: ReadonlyMap<string, { shape: Shape; dtype: DType }>;
  readonly constants: readonly (readonly number[])[];
  readonly outputs: ReadonlyMap<string, Place>;
  /** Where each stretch of the arena that nothing may touch begins and ends, in elements: none unless the layout asks for guards. */
  readonly guards: readonly (readonly [start: number, end: number])[];
}

/** What a backend's kernels ask of the planner. */
export interface Layout {
  /** Whether the kernel for `op` can read this input when its rows lie apart; otherwise it is copied first. */
  acceptsStrided(op: Op, input: string, shape: Shape): boolean;
  /** Elements of scratch memory that the kernel for this node needs at the plan's capacity. */
  scratch(node: Node, capacity: Counts): number;
  /** Whether the kernels of all that read a node's only value compute it too, each for itself, so that it is never stored. By default none do. */
  joins?(node: Node, readers: readonly Node[], capacity: Counts): boolean;
  /** Elements that are left unused behind every value and all scratch memory, none of which then share a place. For tests. */
  readonly guard?: number;
}

/** Rows start on 16-byte boundaries of f32 memory. */
const alignment = 4;
const align = (n: number): number => Math.ceil(n / alignment) * alignment;

/**
 * Lays out the graph that computes `outputs` and makes `replacements`: topological order, liveness, one arena.
 * States and parameters are updated in place where the op can and nothing reads the old value afterwards.
 */
export function plan(
  outputs: ReadonlyMap<string, Tensor>,
  replacements: Iterable<Replacement>,
  capacity: Counts,
  layout: Layout,
): Plan {
  return new Planner(capacity, layout).plan(outputs, [...replacements]);
}

/** A step before arena offsets are known. */
interface Draft {
  op: Op;
  path: string;
  attributes: Attributes;
  inputs: Record<string, Place | Block>;
  outputs: Record<string, Place | Block>;
  /** Elements of scratch memory, and where they are. */
  readonly size: number;
  scratch: Block | undefined;
  joined: Record<string, Draft>;
}

/** A stretch of the arena that is alive from step `first` to step `last`, or a view of another value. */
class Block {
  readonly first: number;
  readonly size: number;
  readonly shape: Shape;
  readonly dtype: DType;
  readonly stride: number;
  /** What a view is part of, and how many elements into it. */
  readonly base: Block | Place | undefined;
  readonly shift: number;
  last: number;
  offset = -1;

  constructor(
    size: number,
    first: number,
    shape: Shape,
    dtype: DType,
    view?: { base: Block | Place; shift: number; stride: number },
  ) {
    this.size = size;
    this.first = first;
    this.last = first;
    this.shape = shape;
    this.dtype = dtype;
    this.base = view?.base;
    this.shift = view?.shift ?? 0;
    this.stride = view?.stride ?? rowSize(shape);
  }

  /** Keeps the memory alive until `step`. */
  use(step: number): void {
    this.last = Math.max(this.last, step);
    if (this.base instanceof Block) this.base.use(step);
  }

  /** The place; its offset is right once the arena is allocated. */
  place(): Place {
    const { shape, dtype, stride } = this;
    if (!this.base) return { region: 'arena', name: '', offset: this.offset, stride, shape, dtype };
    const base = placeOf(this.base);
    return { ...base, offset: base.offset + this.shift, stride, shape, dtype };
  }
}

class Planner {
  readonly #drafts: Draft[] = [];
  readonly #values = new Map<Tensor, Place | Block>();
  readonly #blocks: Block[] = [];
  readonly #inputs = new Map<string, { shape: Shape; dtype: DType }>();
  readonly #constants: (readonly number[])[] = [];
  readonly #copies = new Map<Place | Block, Block>();
  #lastReaders: ReadonlyMap<Tensor, number> = new Map();
  /** Nodes that the steps of their readers do, with the last of these. */
  #joined: ReadonlyMap<Node, number> = new Map();
  readonly capacity: Counts;
  readonly layout: Layout;

  constructor(capacity: Counts, layout: Layout) {
    this.capacity = capacity;
    this.layout = layout;
  }

  plan(outputs: ReadonlyMap<string, Tensor>, replacements: readonly Replacement[]): Plan {
    const roots = [...outputs.values(), ...replacements.map(({ next }) => next)];
    const nodes = [...reachable(roots.map(({ node }) => node))].sort((a, b) => a.id - b.id);
    this.#joined = this.#joins(nodes, roots);
    const inPlace = overwrites(nodes, replacements, this.#joined);
    this.#lastReaders = lastReaders(nodes, roots, this.#joined);
    for (const { name, growing, next } of replacements) {
      if (growing && next.node.op && !inPlace.has(next))
        throw new Error(`state ${name} grows where it lies, but something else reads it`);
    }
    for (const node of nodes) this.#visit(node, inPlace);
    for (const tensor of outputs.values()) this.#keep(tensor);
    for (const { previous, next } of replacements) this.#commit(previous, next);
    const { guard = 0 } = this.layout;
    const arena = guard > 0 ? spread(this.#blocks, guard) : allocate(this.#blocks);
    return {
      guards:
        guard > 0 ? this.#blocks.map(({ offset, size }) => [offset + size, align(offset + size) + align(guard)]) : [],
      steps: this.#drafts.map(finish),
      capacity: this.capacity,
      arena,
      inputs: this.#inputs,
      constants: this.#constants,
      outputs: new Map([...outputs].map(([name, tensor]) => [name, placeOf(this.#values.get(tensor)!)])),
    };
  }

  /** The nodes that have no step of their own, and the last node whose step does what they do. */
  #joins(nodes: readonly Node[], roots: readonly Tensor[]): Map<Node, number> {
    const readers = new Map<Tensor, Node[]>(roots.map((root) => [root, []]));
    const kept = new Set(roots);
    for (const node of nodes)
      for (const tensor of new Set(Object.values(node.inputs)))
        readers.set(tensor, [...(readers.get(tensor) ?? []), node]);
    const joined = new Map<Node, number>();
    // Later nodes first, since what reads a node may itself be done by what reads that.
    for (const node of [...nodes].reverse()) {
      const [value, ...others] = node.outputs;
      const found = readers.get(value!) ?? [];
      if (node.leaf || others.length > 0 || kept.has(value!) || found.length === 0) continue;
      if (this.layout.joins?.(node, found, this.capacity))
        joined.set(node, Math.max(...found.map((reader) => joined.get(reader) ?? reader.id)));
    }
    return joined;
  }

  #visit(node: Node, inPlace: ReadonlyMap<Tensor, Tensor>): void {
    if (this.#joined.has(node)) return;
    if (node.leaf) this.#values.set(node.outputs[0]!, this.#leaf(node));
    else if (!this.#view(node)) this.#step(node, inPlace);
  }

  #leaf(node: Node): Place {
    const { shape, dtype } = node.outputs[0]!;
    const leaf = node.leaf!;
    const common = { offset: 0, stride: rowSize(shape), shape, dtype };
    if (leaf.kind === 'constant') {
      this.#constants.push(leaf.values);
      return { region: 'constant', name: String(this.#constants.length - 1), ...common };
    }
    if (leaf.kind === 'input') this.#inputs.set(leaf.name, { shape, dtype });
    return { region: leaf.kind, name: leaf.name, ...common };
  }

  /** Makes the node's output a view of its input, if the op is one and the memory's layout allows it. */
  #view(node: Node): boolean {
    const [source] = Object.values(node.inputs);
    const view = node.op!.view && source && node.op!.view(source, node.attributes);
    if (!view) return false;
    const base = this.#values.get(source)!;
    if (placeOf(base).region === 'state') return false;
    for (const tensor of node.outputs) {
      const fixed = !isRuntime(tensor.shape[0]);
      const stride = fixed ? rowSize(tensor.shape) : strideOf(base);
      this.#values.set(
        tensor,
        new Block(0, this.#drafts.length, tensor.shape, tensor.dtype, { base, shift: view.offset, stride }),
      );
    }
    return true;
  }

  #step(node: Node, inPlace: ReadonlyMap<Tensor, Tensor>): void {
    const op = node.op!;
    const draft = this.#draft(node);
    const index = this.#drafts.length;
    this.#reach(draft, index);
    const { outputs } = draft;
    for (const [i, name] of Object.keys(op.outputs).entries()) {
      const tensor = node.outputs[i];
      if (!tensor) break;
      const overwritten = inPlace.get(tensor);
      const value = overwritten
        ? this.#values.get(overwritten)!
        : (this.#taken(node, tensor) ?? this.#block(tensor, index));
      this.#values.set(tensor, value);
      outputs[name] = value;
    }
    this.#drafts.push(draft);
  }

  /** A step with its inputs, those that it computes itself too. Copies that it needs become steps before it. */
  #draft(node: Node): Draft {
    const draft: Draft = {
      op: node.op!,
      path: node.path,
      attributes: node.attributes,
      inputs: {},
      outputs: {},
      size: this.layout.scratch(node, this.capacity),
      scratch: undefined,
      joined: {},
    };
    for (const [name, tensor] of Object.entries(node.inputs)) {
      if (this.#joined.has(tensor.node)) draft.joined[name] = this.#draft(tensor.node);
      else draft.inputs[name] = this.#operand(draft.op, name, tensor);
    }
    return draft;
  }

  /** Keeps what a step and those joined to it read until it is done, and reserves their scratch memory. */
  #reach(draft: Draft, index: number): void {
    const { inputs, size, joined } = draft;
    for (const value of Object.values(inputs)) this.#use(value, index);
    if (size > 0) draft.scratch = this.#reserve(new Block(size, index, [size], 'f32'));
    for (const part of Object.values(joined)) this.#reach(part, index);
  }

  /** The memory of an input that this output may take over, if nothing reads the input afterwards. */
  #taken(node: Node, output: Tensor): Block | undefined {
    const name = Object.keys(node.op!.outputs)[output.index]!;
    const [input] = Object.entries(node.op!.overwrites ?? {}).find(([, one]) => one === name) ?? [];
    const source = input === undefined ? undefined : node.inputs[input];
    const block = source && this.#values.get(source);
    if (!(block instanceof Block) || block.base || this.#lastReaders.get(source!) !== node.id) return undefined;
    const { shape, dtype, stride } = block;
    return new Block(0, this.#drafts.length, shape, dtype, { base: block, shift: 0, stride });
  }

  /** The value of an input as the kernel can read it: itself, or a copy of it. */
  #operand(op: Op, name: string, tensor: Tensor): Place | Block {
    const value = this.#values.get(tensor)!;
    const place = placeOf(value);
    const readable =
      place.region === 'state'
        ? op === copy || op.state?.[name] !== undefined
        : strideOf(value) === rowSize(tensor.shape) || this.layout.acceptsStrided(op, name, tensor.shape);
    if (readable) return value;
    const known = this.#copies.get(value);
    if (known) return known;
    const block = this.#block(tensor, this.#drafts.length);
    this.#copy(value, block);
    this.#copies.set(value, block);
    return block;
  }

  #copy(from: Place | Block, to: Place | Block): void {
    const index = this.#drafts.length;
    this.#use(from, index);
    this.#use(to, index);
    this.#drafts.push({
      op: copy,
      path: '/copy',
      attributes: {},
      inputs: { x: from },
      outputs: { y: to },
      size: 0,
      scratch: undefined,
      joined: {},
    });
  }

  /** Keeps an output until the end of the run, in dense rows. */
  #keep(tensor: Tensor): void {
    const value = this.#values.get(tensor)!;
    if (placeOf(value).region === 'arena' && strideOf(value) === rowSize(tensor.shape)) {
      this.#use(value, Number.POSITIVE_INFINITY);
      return;
    }
    const block = this.#block(tensor, this.#drafts.length);
    this.#copy(value, block);
    block.use(Number.POSITIVE_INFINITY);
    this.#values.set(tensor, block);
  }

  /** Puts a state that was not computed in place where the next step finds it. */
  #commit(previous: Tensor, next: Tensor): void {
    const source = this.#values.get(next)!;
    const target = this.#values.get(previous) ?? this.#leaf(previous.node);
    if (source !== target) this.#copy(source, target);
  }

  #block(tensor: Tensor, step: number): Block {
    return this.#reserve(new Block(elementCount(tensor.shape, this.capacity), step, tensor.shape, tensor.dtype));
  }

  #reserve(block: Block): Block {
    this.#blocks.push(block);
    return block;
  }

  #use(value: Place | Block, step: number): void {
    if (value instanceof Block) value.use(step);
  }
}

/**
 * Which outputs may overwrite a carried state: those that the op declares, that are the carry's next value, and whose
 * old value nothing reads later.
 */
function overwrites(
  nodes: readonly Node[],
  replacements: readonly Replacement[],
  joined: ReadonlyMap<Node, number>,
): Map<Tensor, Tensor> {
  const lastReader = new Map<Tensor, number>();
  for (const node of nodes) {
    const id = joined.get(node) ?? node.id;
    for (const tensor of Object.values(node.inputs)) lastReader.set(tensor, Math.max(id, lastReader.get(tensor) ?? 0));
  }
  const result = new Map<Tensor, Tensor>();
  for (const { next } of replacements) if (next.node.leaf) lastReader.set(next, Number.POSITIVE_INFINITY);
  for (const { previous, next } of replacements) {
    const { node } = next;
    const names = Object.keys(node.op?.outputs ?? {});
    const pairs = Object.entries({ ...node.op?.state, ...node.op?.overwrites });
    const [input] = pairs.find(([, output]) => output === names[next.index]) ?? [];
    if (input && node.inputs[input] === previous && lastReader.get(previous) === node.id) result.set(next, previous);
  }
  return result;
}

/** The last node that reads each tensor, itself or through a view of it; infinite for what is read after the run. */
function lastReaders(
  nodes: readonly Node[],
  roots: readonly Tensor[],
  joined: ReadonlyMap<Node, number>,
): Map<Tensor, number> {
  const last = new Map<Tensor, number>(roots.map((root) => [root, Number.POSITIVE_INFINITY]));
  for (const node of [...nodes].reverse()) {
    const id = joined.get(node) ?? node.id;
    const later = node.op?.view ? Math.max(id, ...node.outputs.map((tensor) => last.get(tensor) ?? 0)) : id;
    for (const tensor of Object.values(node.inputs)) last.set(tensor, Math.max(later, last.get(tensor) ?? 0));
  }
  return last;
}

/**
 * Gives every block an offset so that blocks alive at the same step don't overlap: largest first, each at the lowest
 * offset that is free while it lives. Returns the arena's length.
 */
function allocate(blocks: readonly Block[]): number {
  const placed: Block[] = [];
  let length = 0;
  for (const block of [...blocks].sort((a, b) => b.size - a.size || a.first - b.first)) {
    const end = (start: number) => align(start + block.size);
    let offset = 0;
    for (const other of placed) {
      const together = other.first <= block.last && block.first <= other.last;
      if (together && other.offset < end(offset) && offset < align(other.offset + other.size)) {
        offset = align(other.offset + other.size);
      }
    }
    block.offset = offset;
    length = Math.max(length, end(offset));
    let index = placed.length;
    while (index > 0 && placed[index - 1]!.offset > offset) index--;
    placed.splice(index, 0, block);
  }
  return length;
}

/** Gives every block a place of its own, with `guard` elements behind it. Returns the arena's length. */
function spread(blocks: readonly Block[], guard: number): number {
  let length = 0;
  for (const block of blocks) {
    block.offset = length;
    length = align(length + block.size) + align(guard);
  }
  return length;
}

const placeOf = (value: Place | Block): Place => (value instanceof Block ? value.place() : value);
const strideOf = (value: Place | Block): number => value.stride;

function finish({ op, path, attributes, inputs, outputs, scratch, joined }: Draft): Step {
  const each = <From, To>(values: Record<string, From>, to: (value: From) => To) =>
    Object.fromEntries(Object.entries(values).map(([name, value]) => [name, to(value)]));
  return {
    op,
    path,
    attributes,
    inputs: each(inputs, placeOf),
    outputs: each(outputs, placeOf),
    scratch: scratch?.offset ?? -1,
    joined: each(joined, finish),
  };
}
