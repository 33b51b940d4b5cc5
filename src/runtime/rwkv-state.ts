import { FormatError, InputError } from '../core/errors.ts';
import { formatShape } from '../core/shape.ts';
import type { Checkpoint, StoredTensor } from '../formats/checkpoint.ts';
import { readF32 } from '../formats/read-f32.ts';
import type { Model } from './model.ts';
import { State } from './state.ts';

const timeState = /^blocks\.(\d+)\.att\.time_state$/;

/** Whether a checkpoint holds a tuned initial state of an RWKV rather than a model. */
export const isRwkvState = ({ tensors }: Checkpoint): boolean =>
  tensors.size > 0 && [...tensors.keys()].every((name) => timeState.test(name));

/**
 * The initial state that a state-tuned RWKV-5, 6 or 7 begins with: `blocks.i.att.time_state` [H, N, N] of every layer. It is
 * [value, key] in the `.pth` files of the trainers, and transposed in the `.st` files of web-rwkv and Ai00. InputError for
 * another model than an RWKV of these sizes.
 */
export async function rwkvState(model: Model, checkpoint: Checkpoint): Promise<State> {
  const { name } = checkpoint;
  if (!isRwkvState(checkpoint))
    throw new FormatError(`${name} is no tuned state of an RWKV: it holds more than blocks.i.att.time_state`);
  const session = model.session();
  const empty = session.state.copy();
  session.dispose();
  const tensors = new Map(empty.tensors);
  const wanted = new Set([...tensors.keys()].filter((carry) => carry.endsWith('.att.wkv')));
  if (wanted.size === 0)
    throw new InputError(`${name} is a tuned state of an RWKV-5, 6 or 7, and the model is of type ${model.type}`);
  for (const stored of checkpoint.tensors.values()) {
    const carry = stored.name.replace(timeState, 'blocks.$1.att.wkv');
    if (!wanted.delete(carry)) throw new InputError(`${name}: ${stored.name} is of a layer that the model has not`);
    const { shape } = tensors.get(carry)!;
    if (formatShape(stored.shape) !== formatShape(shape))
      throw new InputError(
        `${name}: ${stored.name} is ${formatShape(stored.shape)}, but the model's heads make it ${formatShape(shape)}`,
      );
    tensors.set(carry, { shape, values: await readTimeState(checkpoint, stored) });
  }
  const [missing] = wanted;
  if (missing) throw new InputError(`${name} has no ${missing.replace('.wkv', '.time_state')}`);
  return new State({ ...empty, tensors });
}

/** [H, value, key], whatever the file's own order. */
async function readTimeState(checkpoint: Checkpoint, stored: StoredTensor): Promise<Float32Array> {
  const values = await readF32(checkpoint, stored);
  if (!values.every(Number.isFinite)) throw new FormatError(`${checkpoint.name}: ${stored.name} is not finite`);
  if (checkpoint.format !== 'safetensors') return values;
  const [, N] = stored.shape as [number, number, number];
  const matrix = N * N;
  return values.map((_, n) => {
    const [head, row, column] = [Math.floor(n / matrix), Math.floor((n % matrix) / N), n % N];
    return values[head * matrix + column * N + row]!;
  });
}
