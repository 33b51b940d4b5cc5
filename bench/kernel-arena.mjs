const GUARD = 64;
/** A NaN with a payload, so that a guard is told from a result that went wrong. */
const POISON = 0x7fc0beef;

/** One Wasm memory in which every block lies between bands of NaN that nothing may touch. */
export class Arena {
  constructor(module, megabytes = 64) {
    this.memory = new WebAssembly.Memory({ initial: megabytes * 16, maximum: 65536, shared: true });
    this.kernels = new WebAssembly.Instance(module, { env: { memory: this.memory } }).exports;
    this.f32 = new Float32Array(this.memory.buffer);
    this.i32 = new Int32Array(this.memory.buffer);
    this.u8 = new Uint8Array(this.memory.buffer);
    this.reset();
  }

  reset() {
    this.next = 65536;
    this.blocks = [];
  }

  /** Address of `bytes` bytes of NaN, with guards before and behind. */
  allocate(bytes) {
    const address = this.next + GUARD;
    const end = address + bytes;
    this.next = Math.ceil(end / 16) * 16 + GUARD;
    if (this.next > this.u8.length) throw new Error(`the arena has ${this.u8.length} bytes, ${this.next} are needed`);
    this.i32.fill(POISON, (address - GUARD) / 4, this.next / 4);
    this.blocks.push({ address, end, after: this.next });
    return address;
  }

  /** Address of numbers. */
  put(values) {
    const address = this.allocate(values.byteLength);
    this.u8.set(new Uint8Array(values.buffer, values.byteOffset, values.byteLength), address);
    return address;
  }

  words(...words) {
    return this.put(Int32Array.from(words));
  }

  /** Addresses at which something was written outside of a block. */
  damaged() {
    const found = [];
    const poison = new Uint8Array(Int32Array.of(POISON).buffer);
    for (const { address, end, after } of this.blocks) {
      for (let at = address - GUARD; at < after; at++) {
        if (at === address) at = end;
        if (at < after && this.u8[at] !== poison[at & 3]) found.push(at);
      }
    }
    return found;
  }

  /** Calls a kernel as each of `threads` threads, one after the other. */
  call(name, words, threads = 1) {
    const args = this.words(...words);
    for (let thread = 0; thread < threads; thread++) this.kernels[name](args, thread, threads);
  }
}
