/** Spins before a thread sleeps: a few tens of microseconds, longer than any wait for threads that all have a core. */
const SPINS: i32 = 20000;

/**
 * Holds every thread until all `threads` have arrived. Two i32 words at `control`: how many arrived, and a generation
 * that changes when the last one does. Threads that may (`mayWait`: not a browser's main thread) sleep when the others
 * take long, so that more threads than cores still make progress.
 */
export function barrier(control: usize, threads: i32, mayWait: i32): void {
  if (threads == 1) return;
  const generation = atomic.load<i32>(control, 4);
  if (atomic.add<i32>(control, 1) == threads - 1) {
    atomic.store<i32>(control, 0);
    atomic.add<i32>(control, 1, 4);
    if (atomic.load<i32>(control, 8) > 0) atomic.notify(control + 4, -1);
    return;
  }
  let spins = 0;
  while (atomic.load<i32>(control, 4) == generation) {
    if (mayWait && ++spins > SPINS) {
      atomic.add<i32>(control, 1, 8);
      atomic.wait<i32>(control + 4, generation, -1);
      atomic.sub<i32>(control, 1, 8);
    }
  }
}
