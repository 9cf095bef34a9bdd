/** A recording: every step since its start, and the content of guest memory. export-c.ts exports a recording as C. */
import { refuseUnknown } from "../options.ts";
import type { About, MemoryRange, ObjectRef, Range, Step, Trace } from "./record.ts";
import { differences, Shadow } from "./shadow.ts";
import { isRecording, nextSeq, type Recorder, setRecorder, type TracedMemory } from "./sink.ts";
import type { Traced } from "./traced.ts";

/** A recording in progress. */
export interface Recording {
  /** The number of steps that were recorded so far. */
  readonly steps: readonly Step[];
  /** Ends the recording and returns its steps; further calls return the same steps. */
  stop(about?: About): Trace;
  /** Ends the recording at the end of a `using` block. */
  [Symbol.dispose](): void;
}

const ABOUT: readonly (keyof About)[] = [
  ...(["number", "name", "sentence", "verdict", "reason"] as const),
  ...(["kernel", "vendor", "cpu"] as const),
];

class Tape implements Recorder, Recording {
  readonly steps: Step[] = [];
  readonly #ids = new Map<TracedMemory, number>();
  readonly #shadows = new Map<TracedMemory, Shadow>();
  /** The content of each vCPU's kvm_run after its last run. */
  readonly #runs = new Map<Traced, Uint8Array>();
  #stopped: boolean = false;

  take(step: Step): void {
    this.steps.push(step);
  }

  memory(memory: TracedMemory, fd?: ObjectRef): number {
    const known = this.#ids.get(memory);
    if (known !== undefined) return known;
    const id = this.#ids.size + 1;
    this.#ids.set(memory, id);
    this.#shadows.set(memory, new Shadow(memory));
    this.take({ kind: "map", seq: nextSeq(), memory: id, byteLength: memory.byteLength, fd });
    return id;
  }

  unmapped(memory: TracedMemory): void {
    this.#recordWrites();
    this.#shadows.delete(memory);
  }

  recordChanges(on: Traced): void {
    // Guest memory is not compared before calls on /dev/kvm, because such a call belongs to no guest.
    if (on.kind !== "sys") this.#recordWrites();
  }

  replies(vcpu: Traced, run: Uint8Array): readonly Range[] {
    return differences(this.#runs.get(vcpu) ?? new Uint8Array(run.length), run);
  }

  guest(vcpu: Traced, run: Uint8Array): readonly MemoryRange[] {
    this.#runs.set(vcpu, run.slice());
    return this.#changes("guest");
  }

  stop(about: About = {}): Trace {
    refuseUnknown("stop()", about, ABOUT);
    if (!this.#stopped) setRecorder(undefined);
    this.#stopped = true;
    this.#shadows.clear();
    return { about, steps: this.steps };
  }

  [Symbol.dispose](): void {
    this.stop();
  }

  #recordWrites(): void {
    const ranges = this.#changes("program");
    if (ranges.length > 0) this.take({ kind: "write", seq: nextSeq(), ranges });
  }

  #changes(whose: "guest" | "program"): readonly MemoryRange[] {
    return Array.from(this.#shadows).flatMap(([memory, shadow]) =>
      shadow.changes(whose).map((range) => ({ memory: this.#ids.get(memory) ?? 0, ...range })),
    );
  }
}

/**
 * Starts to record every call of this thread. Earlier calls are not included, so start the recording before the device
 * is opened. Guest memory is compared at each call, and the comparison takes time linear in the size of the memory.
 *
 * @throws Error if another recording is in progress.
 * @example
 * ```ts run
 * import { Kvm } from "node-kvm";
 * import { exportC, record } from "node-kvm/trace";
 *
 * const recording = record();
 * const kvm = Kvm.open();
 * kvm.createVm().close();
 * kvm.close();
 * const program = exportC(recording.stop({ name: "create" }));
 * console.log(program.includes("KVM_CREATE_VM"));
 * ```
 *
 * ```text output
 * true
 * ```
 */
export function record(): Recording {
  if (isRecording()) throw new Error("a recording is under way in this thread");
  const tape = new Tape();
  setRecorder(tape);
  return tape;
}
