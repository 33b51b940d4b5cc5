import { resetCounter } from './schedule';

/** Spins before a thread sleeps: a few tens of microseconds, longer than any wait for threads that all have a core. */
const SPINS: i32 = 20000;

/**
 * Holds every thread until all `threads` have arrived; false where one never will. Four i32 words at `control`: how many
 * arrived, a generation that changes when the last one does, how many sleep, and whether a thread has failed. Threads that
 * may (`mayWait`: not a browser's main thread) sleep when the others take long, so that more threads than cores still make
 * progress. A thread that fails sets its word before it changes the generation: so it is seen either here or there.
 */
export function barrier(control: usize, threads: i32, mayWait: i32): bool {
  if (threads == 1) return true;
  const generation = atomic.load<i32>(control, 4);
  if (atomic.add<i32>(control, 1) == threads - 1) {
    atomic.store<i32>(control, 0);
    resetCounter(control);
    atomic.add<i32>(control, 1, 4);
    if (atomic.load<i32>(control, 8) > 0) atomic.notify(control + 4, -1);
    return true;
  }
  if (atomic.load<i32>(control, 12) != 0) return false;
  let spins = 0;
  while (atomic.load<i32>(control, 4) == generation) {
    if (mayWait && ++spins > SPINS) {
      atomic.add<i32>(control, 1, 8);
      atomic.wait<i32>(control + 4, generation, -1);
      atomic.sub<i32>(control, 1, 8);
    }
  }
  return atomic.load<i32>(control, 12) == 0;
}
