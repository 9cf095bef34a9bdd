/**
 * Runs one vCPU, on the calling thread or on the vCPU's own thread: KVM_RUN, kicks, pauses, exits. vcpu.ts has the
 * public methods.
 */
import { constants } from "node:os";
import { Run } from "../../abi/generated/structs.ts";
import { offsetOf } from "../../abi/struct.ts";
import { type KvmError, StateError } from "../../errors.ts";
import {
  isRefusal,
  type NativeFd,
  type NativeMapping,
  type NativeRefusal,
  type NativeRun,
  native,
} from "../../native.ts";
import { refuseNonBooleans, refuseUnknown } from "../../options.ts";
import { hasListener, publishExit, traceExit, traceRun } from "../../trace/sink.ts";
import type { Traced } from "../../trace/traced.ts";
import { decodeExit, type Exit, isExitWithErrno } from "../exits/exit.ts";
import { ExitSource } from "../exits/source.ts";
import { isMainThread } from "../host.ts";
import { refused } from "../refused.ts";
import { Abortable, type AbortOptions, signalOf } from "./abortable.ts";
import { CoalescedRing, coalescedRing } from "./coalesced-ring.ts";
import { type ExitRuleInput, encodeRules, FILTER_RING_BYTES } from "./exit-filter.ts";
import type { GatedRun, RunGate } from "./run-gate.ts";
import { RunPage } from "./run-page.ts";
import { Steps } from "./steps.ts";

const IMMEDIATE_EXIT = offsetOf(Run, "immediateExit");
const { EINTR, EBUSY } = constants.errno;
/** The bits of {@link NativeRun.history}. */
const [HAS_RUN, HAS_ENTERED, STRAY] = [1, 2, 4];
/** The result of a run that a pause has stopped; the kernel has no errno with this number. */
const PAUSED = -512;
/** The delay before a kick is sent again if the signal queue was full, in milliseconds. */
const AGAIN_MS = 10;
/** The number of thread changes after which a warning is emitted. */
const MOST_CHANGES = 16;

/** The options of {@link Vcpu.runSync}. */
export interface RunSyncOptions {
  /**
   * Whether to re-enter the guest after a signal that is not a kick, such as the signal of a profiler. {@link kickVcpu}
   * and `immediateExit` still interrupt the run. Listeners of `process.on("SIGINT")` and other POSIX signals are called
   * after the VM exit. The default is false.
   */
  readonly throughSignals?: boolean;
}

/** The part of a vCPU that its runs need. */
export interface RunOwner {
  /** The vCPU's name in errors. */
  readonly label: string;
  /** The vCPU's identity in traces. */
  readonly traced: Traced;
  /** The gate that stops and continues the runs of the VM. */
  readonly gate: RunGate;
  /** Whether the vCPU was closed. */
  readonly isClosed: () => boolean;
  /** Creates the error of a failed call; explain/ uses `facts`. */
  readonly refusal: (
    call: string,
    errno: number,
    facts?: Readonly<Record<string, unknown>>,
  ) => KvmError;
}

/** A run that was started and has not ended. */
interface Pending {
  /** The replies that were written into `kvm_run` before the run, for traces. */
  readonly replies: ReturnType<typeof traceRun>;
  /** Whether the run was requested to end; a pause may already have stopped the run. */
  isKicked: boolean;
  readonly ended: Abortable<Exit>;
}

let isWarned: boolean = false;

/** The runs of one vCPU. */
export class Runner {
  readonly #owner: RunOwner;
  readonly #run: NativeRun;
  readonly #bytes: Uint8Array;
  readonly #words: Int32Array;
  readonly #exits: ExitSource;
  #pending: Pending | undefined;
  /** Whether a run on the vCPU's own thread was started and has not reported its end. */
  #isInside: boolean = false;
  #wasOnOwnThread: boolean = false;
  #changes = 0;
  /** The trace step of the last run, until it is published. */
  #unpublished: ReturnType<typeof traceExit>;
  /** The ring for writes that the exit filter collects. */
  #filtered: NativeMapping | undefined;
  /** Native code holds only a weak reference to the ring while no run is active. */
  readonly #done = (result: number): void => this.#settle(result);
  readonly #gated: GatedRun = {
    start: () => this.#start(),
    stop: () => this.#signal("pause"),
    end: () => this.kick(),
  };

  /** Maps the kvm_run of a vCPU's descriptor; if the mapping fails, closes the descriptor. */
  constructor(fd: NativeFd, owner: RunOwner) {
    const { label } = owner;
    // The second argument is for workers: native code calls this function to determine whether the worker is shutting
    // down.
    const run = fd.mapRun(this.#done, isMainThread() ? undefined : () => undefined);
    if (isRefusal(run)) {
      fd.close();
      throw refused({ call: run.call, label, errno: run.errno, facts: { what: "kvm_run" } });
    }
    this.#owner = owner;
    this.#run = run;
    this.#bytes = new Uint8Array(run.bytes);
    this.#words = new Int32Array(run.bytes);
    this.#exits = new ExitSource(this.#bytes, label);
  }

  /** Whether a {@link run} is in progress, or is stopped by a pause. */
  get running(): boolean {
    return this.#pending !== undefined;
  }

  /** The vCPU's token for {@link kickVcpu}. */
  get kickToken(): bigint {
    return this.#run.token;
  }

  /** `kvm_run.immediate_exit`. */
  get immediateExit(): boolean {
    return this.#open()[IMMEDIATE_EXIT] !== 0;
  }

  /** Sets `kvm_run.immediate_exit`. */
  set immediateExit(value: boolean) {
    this.#open()[IMMEDIATE_EXIT] = value ? 1 : 0;
  }

  /** Runs the guest on this thread until it exits. */
  runSync(options: RunSyncOptions | undefined): Exit {
    if (options !== undefined) {
      refuseUnknown("runSync()", options, ["throughSignals"]);
      refuseNonBooleans("runSync()", options, ["throughSignals"]);
    }
    const throughSignals = options?.throughSignals === true;
    for (;;) {
      this.#expectRunnableHere();
      const exit = this.#enter();
      if (exit !== undefined) return exit;
      if (!throughSignals || (this.#run.history() & STRAY) === 0) return { kind: "intr" };
    }
  }

  /** Runs the guest on the vCPU's own thread until the guest exits. */
  run(options: AbortOptions): Promise<Exit> {
    return this.#begin(signalOf("run()", options));
  }

  /** Runs the guest on the vCPU's own thread repeatedly, once for each requested exit. */
  exits(options: AbortOptions): AsyncGenerator<Exit, void> {
    const signal = signalOf("exits()", options);
    const isOver = (): boolean => this.#owner.isClosed() || signal?.aborted === true;
    return new Steps<Exit>({
      next: async (steps) => {
        if (isOver()) return undefined;
        const exit = await this.#begin(signal);
        return exit.kind === "intr" && (steps.isOver || isOver()) ? undefined : exit;
      },
      stop: () => this.kick(),
    });
  }

  /** Calls KVM_RUN once on this thread, without decoding the exit; returns its result or `-errno`. */
  runOnce(): number {
    this.#expectRunnableHere();
    const answer = this.#issue();
    this.#publish();
    return answer;
  }

  /** Completes the instruction of a pending exit. The instruction may cause further exits; these are also completed. */
  completeExit(answer: ((exit: Exit) => void) | undefined): void {
    for (let exit = this.#complete(); exit !== undefined; exit = this.#complete()) {
      if (answer === undefined) {
        throw new StateError("ERR_UNANSWERED", `${this.#owner.label}: ${exit.kind}`);
      }
      answer(exit);
    }
  }

  /** Interrupts the current {@link run}. */
  kick(): void {
    if (this.#pending === undefined) return;
    this.#pending.isKicked = true;
    if (this.#isInside) this.#signal("kick");
    else this.#settle(-EINTR);
  }

  /** Sets the rules of the exit filter, and returns the ring of collected writes. */
  setExitFilter(rules: readonly ExitRuleInput[]): CoalescedRing {
    const encoded = encodeRules(rules);
    this.#open();
    this.#filtered ??= this.#mapFiltered();
    this.#run.setFilter(encoded, this.#filtered);
    return new CoalescedRing(new Uint8Array(this.#filtered.window(0, FILTER_RING_BYTES)));
  }

  /** Returns the ring that KVM fills. */
  coalescedRing(): CoalescedRing {
    return coalescedRing(this.#open());
  }

  /** Returns the low-level interface to KVM_RUN and to the exit's fields. */
  lowLevel(): RunPage {
    this.#open();
    const { gate, traced } = this.#owner;
    const { run } = this.#run;
    const enter = (): number => (gate.isShut ? -EBUSY : run());
    const enterTraced = (): number => {
      const replies = traceRun(traced, this.#bytes);
      const answer = enter();
      publishExit(traceExit(traced, this.#words, answer, replies));
      return answer;
    };
    return new RunPage({
      enter: () => (hasListener() ? enterTraced() : enter()),
      source: this.#exits,
    });
  }

  /**
   * Returns the fields of kvm_run that explain errors, whether the vCPU has run, and whether it has certainly entered
   * the guest.
   */
  history(): { run: Uint8Array; hasRun: boolean; hasEntered: boolean } {
    const bits = this.#run.history();
    return {
      run: this.#open(),
      hasRun: (bits & HAS_RUN) !== 0,
      hasEntered: (bits & HAS_ENTERED) !== 0,
    };
  }

  /**
   * Throws if the vCPU was closed. Also throws while the vCPU runs on its own thread, because the kernel would block
   * other calls.
   */
  expectOpen(): void {
    this.#open();
  }

  /** Ends the current run and closes the filter's ring; the vCPU's descriptor must be closed already. */
  close(): void {
    this.#filtered?.close();
    if (!this.#isInside) this.#settle(-EINTR);
  }

  #begin(signal: AbortSignal | undefined): Promise<Exit> {
    const isAborted = signal?.aborted === true;
    this.#expectRunnable();
    if (isAborted) return Promise.resolve({ kind: "intr" });
    const ended = new Abortable<Exit>({ signal }, () => this.kick());
    try {
      // The caller's signal may have a getter that has called run() or close().
      this.#expectRunnable();
    } catch (error) {
      ended.drop();
      throw error;
    }
    this.#exits.expire();
    const replies = traceRun(this.#owner.traced, this.#bytes);
    this.#pending = { replies, isKicked: false, ended };
    this.#owner.gate.enter(this.#gated);
    return ended.promise;
  }

  /** Sends the signal that interrupts a run; while the signal queue is full, sends it again. */
  #signal(way: "kick" | "pause"): void {
    const pending = this.#pending;
    if (this.#run.kick(way === "pause") === 0) return;
    setTimeout(() => {
      if (this.#isInside && this.#pending === pending) this.#signal(way);
    }, AGAIN_MS);
  }

  #mapFiltered(): NativeMapping {
    const ring = native().mapAnonymous(FILTER_RING_BYTES);
    if (typeof ring !== "number") return ring;
    throw this.#owner.refusal("mmap", -ring, { what: "filter ring" });
  }

  /** Starts the pending run on the vCPU's own thread. */
  #start(): void {
    this.#count(true);
    const started = this.#run.start();
    this.#isInside = started === 0;
    if (started !== 0) this.#fail(started);
  }

  #fail({ call, errno }: NativeRefusal): void {
    const pending = this.#pending;
    this.#pending = undefined;
    this.#owner.gate.leave(this.#gated);
    pending?.ended.reject(this.#owner.refusal(call, errno));
  }

  /** Handles the end of a run on the vCPU's thread; it never throws. */
  #settle(answer: number): void {
    const { gate, traced, isClosed } = this.#owner;
    this.#isInside = false;
    gate.leave(this.#gated);
    const pending = this.#pending;
    if (pending === undefined) return;
    if (answer === PAUSED && !pending.isKicked && !isClosed()) {
      gate.enter(this.#gated);
      return;
    }
    this.#pending = undefined;
    try {
      const result = answer === PAUSED ? -EINTR : answer;
      if (!isClosed()) {
        this.#unpublished = traceExit(traced, this.#words, result, pending.replies);
      }
      const exit = isClosed() ? undefined : this.#exit(result);
      pending.ended.resolve(exit ?? { kind: "intr" });
    } catch (error) {
      pending.ended.reject(error);
    }
    this.#publish();
  }

  /** Publishes the last run after its exit was decoded, because a subscriber may close or run this vCPU. */
  #publish(): void {
    const step = this.#unpublished;
    this.#unpublished = undefined;
    publishExit(step);
  }

  /** KVM completes a pending exit before it checks immediate_exit, so `EINTR` means that no exit is pending. */
  #complete(): Exit | undefined {
    const before = this.immediateExit;
    this.immediateExit = true;
    try {
      return this.#enter();
    } finally {
      this.immediateExit = before;
    }
  }

  /** Runs the guest on this thread, and returns the exit; `undefined` after `EINTR`. */
  #enter(): Exit | undefined {
    const answer = this.#issue();
    try {
      return this.#exit(answer);
    } finally {
      if (this.#unpublished !== undefined) this.#publish();
    }
  }

  /** Calls KVM_RUN on this thread. */
  #issue(): number {
    const { traced } = this.#owner;
    this.#count(false);
    this.#exits.expire();
    const replies = traceRun(traced, this.#bytes);
    const answer = this.#run.run();
    this.#unpublished = traceExit(traced, this.#words, answer, replies);
    return answer;
  }

  /** Returns the exit of a KVM_RUN from its result; `undefined` after `EINTR`. */
  #exit(answer: number): Exit | undefined {
    if (answer === -EINTR) return undefined;
    if (answer < 0 && !isExitWithErrno(this.#exits, -answer)) {
      throw this.#owner.refusal("KVM_RUN", -answer);
    }
    return decodeExit(this.#exits);
  }

  /** Counts changes of threads, because KVM waits for all CPUs (synchronize_rcu) when a vCPU changes its thread. */
  #count(isOnOwnThread: boolean): void {
    if (isOnOwnThread === this.#wasOnOwnThread) return;
    this.#wasOnOwnThread = isOnOwnThread;
    this.#changes += 1;
    if (this.#changes < MOST_CHANGES || isWarned) return;
    isWarned = true;
    const type = "PerformanceWarning";
    process.emitWarning(
      `${this.#owner.label} is run by run() and by runSync() in turn. Each change of threads costs KVM some ` +
        "milliseconds: use one of them.",
      { type, code: "NODE_KVM_THREADS" },
    );
  }

  #expectRunnableHere(): void {
    this.#expectRunnable();
    if (this.#owner.gate.isShut) throw new StateError("ERR_PAUSED", this.#owner.label);
  }

  #expectRunnable(): void {
    this.#open();
    if (this.#pending !== undefined) throw new StateError("ERR_RUNNING", this.#owner.label);
  }

  #open(): Uint8Array {
    if (this.#owner.isClosed()) throw new StateError("ERR_CLOSED", this.#owner.label);
    if (this.#isInside) throw new StateError("ERR_RUNNING", this.#owner.label);
    return this.#bytes;
  }
}
