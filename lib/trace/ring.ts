/**
 * Stores the last calls of one VM at low cost: each call is copied into arrays that are allocated once. line.ts formats
 * the calls; recorder.ts records all calls with all bytes.
 */
import { EXIT_REASON_OFFSET, EXIT_UNION_OFFSET } from "../abi/exits.ts";
import type { Ioctl } from "../abi/ioctl.ts";
import type { IoctlStep, ObjectRef, RunStep, Step } from "./record.ts";

/**
 * The maximum number of an argument's bytes that a ring stores. Among the arguments that a line of text shows, the
 * argument of KVM_SET_SREGS is the longest, with 312 bytes.
 */
export const RING_BYTES = 320;

/** The number of calls that a ring stores. */
export const RING_LENGTH = 256;

/** The offsets of fields in `kvm_run`, in 32-bit words. */
const EXIT_REASON = EXIT_REASON_OFFSET / 4;
const UNION = EXIT_UNION_OFFSET / 4;
/** The number of bytes of kvm_run that a ring stores for a run: the exit reason, and 32 bytes of the union. */
const UNION_WORDS = 8;
const RUN_WORDS = 1 + UNION_WORDS;

/** The positions of the numbers in an entry; a length of -1 means that no bytes are stored. */
const [SEQ, RESULT, LENGTH, BEFORE, AFTER, NUMBERS] = [0, 1, 2, 3, 4, 5];
/** The result that marks a call that has not returned. */
const PENDING = -1_000_000;

const NONE: readonly never[] = [];

/** The last steps of a ring; a new step replaces the oldest step. */
export class Ring {
  readonly #length: number;
  /** The step of each entry, or the object of its call or run. */
  readonly #entries: (Step | ObjectRef)[] = [];
  /** The ioctl of each entry that is a call. */
  readonly #ioctls: (Ioctl | undefined)[] = [];
  readonly #integers: (number | bigint | undefined)[] = [];
  readonly #made: (ObjectRef | undefined)[] = [];
  readonly #numbers: Float64Array;
  /**
   * The arrays are allocated when the first bytes, or the first run, are stored, because many rings contain neither
   * bytes nor a run.
   */
  #bytes: Uint8Array | undefined;
  #runs: Int32Array | undefined;
  #next = 0;

  /** Creates an empty ring. */
  constructor(length: number = RING_LENGTH) {
    this.#length = length;
    this.#numbers = new Float64Array(length * NUMBERS);
  }

  /** Keeps a step. */
  push(step: Step): void {
    const place = this.#take();
    this.#entries[place] = step;
    this.#ioctls[place] = undefined;
  }

  /** Stores the argument of an ioctl; returns the position of the entry, for {@link end}. */
  begin(fd: ObjectRef, ioctl: Ioctl, argument: number | bigint | Uint8Array | undefined): number {
    const place = this.#take();
    this.#entries[place] = fd;
    this.#ioctls[place] = ioctl;
    this.#made[place] = undefined;
    const at = place * NUMBERS;
    this.#numbers[at + RESULT] = PENDING;
    this.#numbers[at + BEFORE] = -1;
    this.#numbers[at + AFTER] = -1;
    if (typeof argument === "object") {
      this.#integers[place] = undefined;
      this.#numbers[at + LENGTH] = argument.length;
      if (ioctl.direction !== "out") this.#numbers[at + BEFORE] = this.#keep(place, 0, argument);
    } else {
      this.#integers[place] = argument;
      this.#numbers[at + LENGTH] = 0;
    }
    return place;
  }

  /** Stores the kernel's result of a call. */
  end(
    place: number,
    seq: number,
    result: number,
    argument: number | bigint | Uint8Array | undefined,
    made: ObjectRef | undefined,
  ): void {
    const at = place * NUMBERS;
    this.#numbers[at + SEQ] = seq;
    this.#numbers[at + RESULT] = result;
    this.#made[place] = made;
    if (typeof argument === "object" && this.#ioctls[place]?.direction !== "in") {
      this.#numbers[at + AFTER] = this.#keep(place, 1, argument);
    }
  }

  /** Stores a run of a vCPU; `run` is the vCPU's kvm_run. */
  pushRun(vcpu: ObjectRef, seq: number, result: number, run: Int32Array): void {
    const place = this.#take();
    this.#entries[place] = vcpu;
    this.#ioctls[place] = undefined;
    this.#numbers[place * NUMBERS + SEQ] = seq;
    this.#numbers[place * NUMBERS + RESULT] = result;
    this.#runs ??= new Int32Array(this.#length * RUN_WORDS);
    const runs = this.#runs;
    const at = place * RUN_WORDS;
    runs[at] = run[EXIT_REASON] ?? 0;
    for (let i = 0; i < UNION_WORDS; i += 1) runs[at + 1 + i] = run[UNION + i] ?? 0;
  }

  /** Returns the stored steps, the oldest first. */
  steps(): readonly Step[] {
    const { length } = this.#entries;
    const first = length < this.#length ? 0 : this.#next;
    return Array.from({ length }, (_, i) => this.stepAt((first + i) % length)).filter(
      (step) => step !== undefined,
    );
  }

  /** Returns the step at a position; `undefined` for a call that has not returned. */
  stepAt(place: number): Step | undefined {
    const entry = this.#entries[place];
    if (entry === undefined || "seq" in entry) return entry;
    const ioctl = this.#ioctls[place];
    return ioctl === undefined ? this.#run(place, entry) : this.#ioctl(place, entry, ioctl);
  }

  #take(): number {
    const place = this.#next;
    this.#next = place + 1 === this.#length ? 0 : place + 1;
    return place;
  }

  /** Copies the first bytes to one of the two areas of an entry; returns the number of copied bytes. */
  #keep(place: number, which: 0 | 1, bytes: Uint8Array): number {
    this.#bytes ??= new Uint8Array(this.#length * 2 * RING_BYTES);
    const kept = bytes.length <= RING_BYTES ? bytes : bytes.subarray(0, RING_BYTES);
    this.#bytes.set(kept, (2 * place + which) * RING_BYTES);
    return kept.length;
  }

  #kept(place: number, which: 0 | 1): Uint8Array | undefined {
    const length = this.#number(place, which === 0 ? BEFORE : AFTER);
    const start = (2 * place + which) * RING_BYTES;
    return length < 0 ? undefined : this.#bytes?.slice(start, start + length);
  }

  #number(place: number, which: number): number {
    return this.#numbers[place * NUMBERS + which] ?? 0;
  }

  #ioctl(place: number, fd: ObjectRef, ioctl: Ioctl): IoctlStep | undefined {
    const result = this.#number(place, RESULT);
    if (result === PENDING) return undefined;
    const integer = this.#integers[place];
    return {
      kind: "ioctl",
      seq: this.#number(place, SEQ),
      fd,
      request: ioctl.request,
      name: ioctl.name,
      before: integer === undefined ? this.#kept(place, 0) : BigInt(integer),
      byteLength: this.#number(place, LENGTH),
      links: NONE,
      result,
      after: this.#kept(place, 1),
      made: this.#made[place],
    };
  }

  #run(place: number, fd: ObjectRef): RunStep {
    const at = place * RUN_WORDS;
    const words = (this.#runs ?? new Int32Array()).slice(at, at + RUN_WORDS);
    return {
      kind: "run",
      seq: this.#number(place, SEQ),
      fd,
      replies: NONE,
      result: this.#number(place, RESULT),
      exitReason: words[0] ?? 0,
      exit: new Uint8Array(words.buffer, 4),
      io: undefined,
      guest: NONE,
    };
  }
}
