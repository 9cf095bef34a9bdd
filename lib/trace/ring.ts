/** The last calls of one VM, always kept, cheaply. Showing them is line.ts; all of them, recorder.ts. */
import type { ObjectRef, Step } from "./record.ts";

/** How many bytes of an argument a ring keeps; KVM_SET_SREGS, the longest that lines show, has 312. */
export const RING_BYTES = 512;

/** How many calls a ring keeps. */
export const RING_LENGTH = 256;

/** Where `kvm_run` has what, in 32-bit words. */
const [EXIT_REASON, UNION] = [2, 8];
/** What of a run is kept: result, exit reason, 32 bytes of the union. */
const UNION_WORDS = 8;
const RUN_WORDS = 2 + UNION_WORDS;

/** The last so many steps; an old one goes as a new one comes. */
export class Ring {
  /** A step, or the vCPU of a run, whose words are in #runs and whose number is in #seqs. */
  readonly #entries: (Step | ObjectRef)[] = [];
  readonly #length: number;
  /** Made by the first run: /dev/kvm and many a VM never run. */
  #runs: Int32Array | undefined;
  #seqs: Float64Array | undefined;
  #next = 0;

  /** Makes an empty ring. */
  constructor(length: number = RING_LENGTH) {
    this.#length = length;
  }

  /** Keeps a step. */
  push(step: Step): void {
    this.#entries[this.#take()] = step;
  }

  /** Keeps a run without making an object: `run` is the vCPU's kvm_run. */
  pushRun(vcpu: ObjectRef, seq: number, result: number, run: Int32Array): void {
    const place = this.#take();
    this.#entries[place] = vcpu;
    this.#seqs ??= new Float64Array(this.#length);
    this.#runs ??= new Int32Array(this.#length * RUN_WORDS);
    this.#seqs[place] = seq;
    const runs = this.#runs;
    const at = place * RUN_WORDS;
    runs[at] = result;
    runs[at + 1] = run[EXIT_REASON] ?? 0;
    for (let i = 0; i < UNION_WORDS; i += 1) runs[at + 2 + i] = run[UNION + i] ?? 0;
  }

  /** The kept steps, the oldest first. */
  steps(): readonly Step[] {
    const { length } = this.#entries;
    const first = length < this.#length ? 0 : this.#next;
    return Array.from({ length }, (_, i) => this.#stepAt((first + i) % length)).filter(
      (step) => step !== undefined,
    );
  }

  #take(): number {
    const place = this.#next;
    this.#next = place + 1 === this.#length ? 0 : place + 1;
    return place;
  }

  #stepAt(place: number): Step | undefined {
    const entry = this.#entries[place];
    if (entry === undefined || "seq" in entry) return entry;
    const words = (this.#runs ?? new Int32Array()).slice(
      place * RUN_WORDS,
      (place + 1) * RUN_WORDS,
    );
    return {
      kind: "run",
      seq: this.#seqs?.[place] ?? 0,
      fd: entry,
      replies: [],
      result: words[0] ?? 0,
      exitReason: words[1] ?? 0,
      exit: new Uint8Array(words.buffer, 8),
      io: undefined,
      guest: [],
    };
  }
}
