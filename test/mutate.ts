import type { Random } from '../src/core/random.ts';

/** Lengths and counts that break readers which trust them. */
const nastyNumbers = [0, 1, 0x7f, 0x80, 0xff, 0xffff, 0x7fffffff, 0x80000000, 0xffffffff];

/** A copy of `bytes` with a few random faults: flipped bits, nasty numbers, a part missing, repeated or cut off. */
export function mutate(bytes: Uint8Array, random: Random): Uint8Array {
  let result: Uint8Array = Uint8Array.from(bytes);
  for (let left = 1 + random.integer(3); left > 0; left--)
    result = faults[random.integer(faults.length)]!(result, random);
  return result;
}

type Fault = (bytes: Uint8Array, random: Random) => Uint8Array;

const faults: readonly Fault[] = [
  (bytes, random) => {
    const at = random.integer(bytes.length);
    bytes[at] = bytes[at]! ^ (1 << random.integer(8));
    return bytes;
  },
  (bytes, random) => {
    bytes[random.integer(bytes.length)] = random.integer(256);
    return bytes;
  },
  (bytes, random) => {
    const number = nastyNumbers[random.integer(nastyNumbers.length)]!;
    const width = [1, 2, 4, 8][random.integer(4)]!;
    const at = random.integer(bytes.length);
    for (let i = 0; i < width && at + i < bytes.length; i++)
      bytes[at + i] = i < 4 ? (number >>> (8 * i)) & 255 : number >>> 31;
    return bytes;
  },
  (bytes, random) => bytes.slice(0, random.integer(bytes.length) + 1),
  (bytes, random) => {
    const at = random.integer(bytes.length);
    const until = Math.min(bytes.length, at + 1 + random.integer(16));
    return Uint8Array.of(...bytes.subarray(0, at), 0, ...bytes.subarray(until));
  },
  (bytes, random) => {
    const at = random.integer(bytes.length);
    return Uint8Array.of(...bytes.subarray(0, at + 1 + random.integer(16)), ...bytes.subarray(at));
  },
];

/** Bytes of the heap and of buffers, with what was not collected yet. */
const heldBytes = (): number => {
  const { heapUsed, arrayBuffers } = process.memoryUsage();
  return heapUsed + arrayBuffers;
};

/** What reading a file may take: four times its length and 64 MB. Returns a check to be made after reading. */
export function memoryLimit(length: number): () => void {
  const before = heldBytes();
  return () => {
    const taken = heldBytes() - before;
    if (taken > 4 * length + 64e6) throw new Error(`${taken} bytes were allocated for a file of ${length}`);
  };
}
