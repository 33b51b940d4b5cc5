import { expect, test } from 'vitest';
import { Memory } from './memory.ts';
import { WasmSlot } from './slot.ts';

const states = [
  { name: 'a', shape: [3], fill: 0, growing: false },
  { name: 'b', shape: [2, 4], fill: 1, growing: false },
];

/** A slot in which number `at` from its beginning on is written over. */
function slotWritten(at: number, guarded: boolean): WasmSlot {
  const memory = new Memory(false, guarded);
  const slot = new WasmSlot(memory, states);
  memory.f32[slot.address / 4 + at] = 7;
  return slot;
}

test('in a guarded memory what was written behind a state is found, in others states lie side by side', () => {
  for (const at of [3, 4, 18]) expect(() => slotWritten(at, true).dispose(), `at ${at}`).toThrow(/behind a state/);
  expect(() => slotWritten(2, true).dispose()).not.toThrow();
  expect([...slotWritten(2, true).read('a')]).toEqual([0, 0, 7]);
  expect(slotWritten(4, false).read('b')[0]).toBe(7);
  expect(() => slotWritten(4, false).dispose()).not.toThrow();
});
