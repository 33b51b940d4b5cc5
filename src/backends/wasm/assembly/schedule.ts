import { share } from './rows';

/*
 * Units of work that threads take as they come to them (OpenMP's dynamic schedule): a thread whose core is slower for a while, which on
 * shared machines any may be, takes fewer, and none waits long at the barrier. What a unit computes may not depend on who computes it.
 */

/** Address of the number of units that have been taken of the current kernel, in shared memory; 0 where this thread walks alone. */
let taken: usize = 0;
/** Where no thread takes from others: the units that are left. */
let next: i32 = 0;
let end: i32 = 0;

/** Bytes of control memory behind which the count of units lies: a cache line of its own. */
const COUNTER: usize = 64;

/** Threads that walk a plan together share the count in their control memory. */
export function shareCounter(control: usize, threads: i32): void {
  taken = threads > 1 ? control + COUNTER : 0;
}

/** The next kernel's units begin at 0: the last thread at a barrier says so, before it lets the others go. */
export function resetCounter(control: usize): void {
  atomic.store<i32>(control + COUNTER, 0);
}

/** Begins a kernel of `units` units; a kernel may do so once. Called outside of a plan, threads have equal shares. */
export function beginUnits(units: i32, thread: i32, threads: i32): void {
  next = taken ? 0 : share(units, thread, threads);
  end = taken ? units : share(units, thread + 1, threads);
}

/** The first of the next `run` units that this thread is to do, as far as they are below `lastUnit`; none are left from there on. */
export function takeUnits(run: i32): i32 {
  if (taken) return atomic.add<i32>(taken, run);
  const first = next;
  next += run;
  return first;
}

/** Where the run that begins with unit `first` ends. */
export function runEnd(first: i32, run: i32): i32 {
  return min(end, first + run);
}

/** Where all units that this thread may take end. */
export function unitsEnd(): i32 {
  return end;
}
