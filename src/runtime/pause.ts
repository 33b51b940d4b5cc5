/** How long to compute before letting timers, signals and other requests have their turn, in milliseconds. */
const TURN = 12;

type Immediate = (callback: () => void) => void;

/** Gives the event loop one full turn: a promise alone would let no timer or input through. */
export function turn(): Promise<void> {
  const { setImmediate } = globalThis as { setImmediate?: Immediate };
  if (setImmediate) return new Promise((resolve) => setImmediate(resolve));
  return new Promise((resolve) => {
    const { port1, port2 } = new MessageChannel();
    port1.onmessage = () => {
      port1.close();
      resolve();
    };
    port2.postMessage(undefined);
  });
}

/** Lets the event loop run now and then during long computations. */
export class Pace {
  #since = performance.now();

  /** Call between steps: resolves at once, or after a turn of the event loop when the last one was long ago. */
  async breathe(): Promise<void> {
    if (performance.now() - this.#since < TURN) return;
    await turn();
    this.#since = performance.now();
  }
}
