import { type LayerQuantities, noNorms, QuantityRows, quantitiesOf, type TokenNorms } from './inspection.ts';
import type { Probe, ProbedBlock } from './probe.ts';

/** Sums what a probe tells over the heads, and keeps every head's where that is wanted. */
export class Observer {
  readonly probe: Probe;
  readonly #layer = new QuantityRows();
  readonly #heads: QuantityRows | undefined;
  #sum = noNorms();

  constructor(probe: Probe, byHead: boolean) {
    this.probe = probe;
    this.#heads = byHead ? new QuantityRows() : undefined;
  }

  observe(block: ProbedBlock): void {
    const { heads } = this.probe;
    this.probe.observe(block, (_, head, norms) => {
      this.#heads?.push(quantitiesOf(norms));
      if (head === 0) this.#sum = { ...noNorms(), decay: 0 };
      const sum = this.#sum;
      for (const name of Object.keys(sum) as (keyof TokenNorms)[])
        sum[name] += name === 'decay' ? norms.decay ** 2 / heads : norms[name];
      if (head === heads - 1) this.#layer.push(quantitiesOf({ ...sum, decay: Math.sqrt(sum.decay) }));
    });
  }

  get layer(): LayerQuantities {
    return this.#layer.result();
  }

  get byHead(): LayerQuantities | undefined {
    return this.#heads?.result();
  }
}
