/** A vCPU's runs, on the calling thread or on its own thread, with kicks and exits. The exits are exit.ts. */
import { constants } from "node:os";
import { KVM_RUN } from "../abi/generated/ioctls.ts";
import { Run } from "../abi/generated/structs.ts";
import type { Ioctl } from "../abi/ioctl.ts";
import { offsetOf } from "../abi/struct.ts";
import { StateError } from "../errors.ts";
import {
  isRefusal,
  type NativeFd,
  type NativeMapping,
  type NativeRefusal,
  type NativeRun,
  native,
} from "../native.ts";
import { refuseNonBooleans, refuseUnknown } from "../options.ts";
import { isTold, publishExit, traceExit, traceRun } from "../trace/sink.ts";
import type { Exit } from "./exits/exit.ts";
import { decodeExit, isExitBesideErrno } from "./exits/exit-decoder.ts";
import { ExitSource } from "./exits/exit-source.ts";
import type { CallContext, IoctlArgument } from "./handle.ts";
import { isMainThread } from "./host.ts";
import { refused } from "./refused.ts";
import { Abortable, type AbortOptions, signalOf } from "./run/abortable.ts";
import { CoalescedRing, coalescedRing } from "./run/coalesced-ring.ts";
import { type ExitRule, encodeRules, FILTER_RING_BYTES } from "./run/exit-filter.ts";
import type { GatedRun, RunGate } from "./run/run-gate.ts";
import { RunPage } from "./run/run-page.ts";
import { Steps } from "./run/steps.ts";
import { VcpuDevices } from "./vcpu-devices.ts";

const IMMEDIATE_EXIT = offsetOf(Run, "immediateExit");
const { EINTR, EBUSY } = constants.errno;
/** The bits of {@link NativeRun.history}. */
const STRAY = 4;
/** The result of a run that a pause has stopped; not an errno of the kernel. */
const PAUSED = -512;
/** The delay before a kick is sent again after it found the signal queue full. */
const AGAIN_MS = 10;
/** The number of changes between two threads after which the program is warned. */
const MOST_CHANGES = 16;

/** The options of {@link VcpuRuns.runSync}. */
export interface RunSyncOptions {
  /**
   * Whether to re-enter the guest after a signal that is not a kick, such as a profiler's. {@link kickVcpu} and
   * `immediateExit` still interrupt the run. JavaScript listeners of signals are called after the exit. The default is
   * false.
   */
  readonly throughSignals?: boolean;
}

/** A run that was started and has not ended. */
interface Pending {
  /** The answers that were written into `kvm_run` before the run, for traces. */
  readonly replies: ReturnType<typeof traceRun>;
  /** Whether the run shall end. A pause may have stopped it before. */
  isKicked: boolean;
  readonly ended: Abortable<Exit>;
}

let isWarned: boolean = false;

/**
 * Interrupts the current run of a vCPU of this process on any thread, or otherwise its next one; the run returns `{
 * kind: "intr" }`. `token` is the vCPU's {@link VcpuRuns.kickToken}.
 *
 * @returns false if no such vCPU exists, or it was closed.
 * @throws {@link KvmError} tgkill's `EAGAIN`: the signal queue of this user is full (RLIMIT_SIGPENDING), and no
 *   standard signal is unused. The current run continues; the next one ends at once.
 */
export function kickVcpu(token: bigint): boolean {
  const answer = native().kickVcpu(token);
  if (typeof answer === "boolean") return answer;
  throw refused({ call: answer.call, label: "vcpu", errno: answer.errno });
}

/** Adds a vCPU's runs. */
export abstract class VcpuRuns extends VcpuDevices {
  readonly #run: NativeRun;
  readonly #bytes: Uint8Array;
  readonly #words: Int32Array;
  readonly #exits: ExitSource;
  readonly #gate: RunGate;
  #pending: Pending | undefined;
  /** Whether the vCPU's own thread is in KVM_RUN, is about to be, or has not reported the end of its run. */
  #isInside: boolean = false;
  #wasBeside: boolean = false;
  #changes = 0;
  /** The trace step of the last run, until subscribers are notified of it. */
  #untold: ReturnType<typeof traceExit>;
  /** The ring for writes that the exit filter collects. */
  #filtered: NativeMapping | undefined;
  /** Native code holds a weak reference to it while nothing runs. */
  readonly #done = (result: number): void => this.#settle(result);
  readonly #gated: GatedRun = {
    start: () => this.#start(),
    stop: () => this.#signal("pause"),
    end: () => this.kick(),
  };

  /** Takes a vCPU's descriptor and maps its kvm_run. */
  protected constructor(fd: NativeFd, label: string, vm: { readonly gate: RunGate }) {
    // `vm` may be undefined in a program's `new Vcpu()`: super() rejects that before the gate is used.
    super(fd, label);
    // A worker that is in KVM_RUN calls the second function to find out whether the environment ends.
    const run = fd.mapRun(this.#done, isMainThread() ? undefined : () => undefined);
    if (isRefusal(run)) {
      fd.close();
      throw refused({ call: run.call, label, errno: run.errno, facts: { what: "kvm_run" } });
    }
    this.#run = run;
    this.#bytes = new Uint8Array(run.bytes);
    this.#words = new Int32Array(run.bytes);
    this.#exits = new ExitSource(this.#bytes, label);
    this.#gate = vm.gate;
  }

  /**
   * Runs the guest on this thread until it exits. The event loop is blocked until then.
   *
   * A signal to this thread, {@link immediateExit} or a kick with {@link kickToken} makes it return `{ kind: "intr" }`.
   * It returns after a signal so that the signal's listener can run; signals of Node and V8 (for example of
   * `--cpu-prof`) have the same effect. Set `throughSignals` to re-enter the guest instead.
   *
   * @ioctl KVM_RUN (api.rst 4.10; vcpu)
   * @throws {@link KvmError} with KVM_RUN's errno, except `EINTR`. `EFAULT` is the exit `memory_fault` instead if KVM
   *   reports the access.
   * @throws {@link StateError} `ERR_CLOSED`, `ERR_RUNNING`, `ERR_PAUSED`.
   */
  runSync(options?: RunSyncOptions): Exit {
    if (options !== undefined) {
      refuseUnknown("runSync()", options, ["throughSignals"]);
      refuseNonBooleans("runSync()", options, ["throughSignals"]);
    }
    const throughSignals = options?.throughSignals === true;
    for (;;) {
      this.#runnableHere();
      const exit = this.#enter();
      if (exit !== undefined) return exit;
      if (!throughSignals || (this.#run.history() & STRAY) === 0) return { kind: "intr" };
    }
  }

  /**
   * Runs the guest until it exits, on the vCPU's own thread, while the event loop continues. Until the promise settles,
   * every other call on this vCPU except {@link kick} and {@link close} throws `ERR_RUNNING`. Answer an exit before the
   * next run. While the VM is paused ({@link Vm.pause}), the run is stopped, and the vCPU can be read and changed.
   *
   * Both threads spin before they sleep, for at most 200 microseconds, if exits come within that time and each thread
   * has a CPU, because waking an idle CPU is slow. The event loop serves other events in the meantime.
   *
   * @returns the exit; `{ kind: "intr" }` if the run was interrupted by `signal`, {@link kick}, {@link close} or {@link
   *   immediateExit}.
   * @ioctl KVM_RUN (api.rst 4.10; vcpu)
   * @throws {@link StateError} `ERR_RUNNING`, `ERR_CLOSED`.
   * @throws {@link KvmError} as {@link runSync}, and pthread_create's; the promise is rejected with it.
   */
  run(options: AbortOptions = {}): Promise<Exit> {
    return this.#begin(signalOf("run()", options));
  }

  #begin(signal: AbortSignal | undefined): Promise<Exit> {
    const isAborted = signal?.aborted === true;
    this.#runnable();
    if (isAborted) return Promise.resolve({ kind: "intr" });
    const ended = new Abortable<Exit>({ signal }, () => this.kick());
    try {
      // An object that is passed as the signal may have called run() or close() itself.
      this.#runnable();
    } catch (error) {
      ended.drop();
      throw error;
    }
    this.#exits.expire();
    const replies = traceRun(this.traced, this.#bytes);
    this.#pending = { replies, isKicked: false, ended };
    this.#gate.enter(this.#gated);
    return ended.promise;
  }

  /**
   * Runs the guest repeatedly, each time as {@link run} does: `for await (const exit of vcpu.exits())`. The guest
   * continues when the loop requests the next exit, so answer an exit in the loop's body. A kick yields `{ kind: "intr"
   * }`.
   *
   * Ends when `signal` is aborted or the vCPU is closed, even before the first run. `return()` and `throw()` kick the
   * current run and wait for it; an exit that occurs first is still yielded.
   *
   * @throws {@link KvmError} as {@link run}.
   */
  exits(options: AbortOptions = {}): AsyncGenerator<Exit, void> {
    const signal = signalOf("exits()", options);
    const isOver = (): boolean => this.closed || signal?.aborted === true;
    return new Steps<Exit>({
      next: async (steps) => {
        if (isOver()) return undefined;
        const exit = await this.#begin(signal);
        return exit.kind === "intr" && (steps.isOver || isOver()) ? undefined : exit;
      },
      stop: () => this.kick(),
    });
  }

  /** Whether a {@link run} is in progress, or is stopped by a pause. */
  get running(): boolean {
    return this.#pending !== undefined;
  }

  /** Interrupts the current {@link run}, which returns `{ kind: "intr" }`. Later runs are not affected. */
  kick(): void {
    if (this.#pending === undefined) return;
    this.#pending.isKicked = true;
    if (this.#isInside) this.#signal("kick");
    else this.#settle(-EINTR);
  }

  /** Sends the signal that interrupts a run, and repeats it while the signal queue is full. */
  #signal(way: "kick" | "pause"): void {
    const pending = this.#pending;
    if (this.#run.kick(way === "pause") === 0) return;
    setTimeout(() => {
      if (this.#isInside && this.#pending === pending) this.#signal(way);
    }, AGAIN_MS);
  }

  /**
   * The token with which another thread of this process (a worker) can interrupt a run: `kickVcpu(token)`. Because that
   * thread cannot know the current run, a kick between two runs interrupts the next one. The number is random.
   */
  get kickToken(): bigint {
    return this.#run.token;
  }

  /**
   * Sets rules for exits that all runs of this vCPU handle in native code: for example, port writes that can be
   * ignored, or a serial port's output. The rules replace the previous ones.
   *
   * Collected writes are read from the ring in their order. To keep the order relative to other exits, drain the ring
   * before handling an exit. If the ring is full, the next write is an exit. Traces and recordings do not contain the
   * filtered accesses.
   *
   * @returns the ring with 2730 slots, the same for all filters of this vCPU.
   * @throws TypeError or RangeError that names the rule and its fault.
   * @throws {@link StateError} `ERR_RUNNING`, `ERR_CLOSED`.
   * @throws {@link KvmError} mmap's, for the first filter.
   */
  setExitFilter(rules: readonly ExitRule[]): CoalescedRing {
    const encoded = encodeRules(rules);
    this.#open();
    this.#filtered ??= this.#mapFiltered();
    this.#run.setFilter(encoded, this.#filtered);
    return new CoalescedRing(new Uint8Array(this.#filtered.window(0, FILTER_RING_BYTES)));
  }

  #mapFiltered(): NativeMapping {
    const ring = native().mapAnonymous(FILTER_RING_BYTES);
    if (typeof ring !== "number") return ring;
    throw this.refusal("mmap", -ring, { facts: { what: "filter ring" } });
  }

  /** Returns the ring that KVM fills after `vm.registerCoalescedMmio()`. All vCPUs of a VM share one. */
  coalescedRing(): CoalescedRing {
    return coalescedRing(this.#open());
  }

  /** Returns the low-level interface, which allocates no objects; {@link runSync} and {@link run} can still be used. */
  lowLevel(): RunPage {
    this.#open();
    const gate = this.#gate;
    const { run } = this.#run;
    const enter = (): number => (gate.isShut ? -EBUSY : run());
    const told = (): number => {
      const replies = traceRun(this.traced, this.#bytes);
      const answer = enter();
      publishExit(traceExit(this.traced, this.#words, answer, replies));
      return answer;
    };
    return new RunPage({ enter: () => (isTold() ? told() : enter()), source: this.#exits });
  }

  /**
   * Completes the instruction whose exit is pending and stops before the next one, so that the registers contain its
   * result and can be saved. Without this, a value that the instruction reads is in no register. The exit cannot be
   * answered any more; if it was not, the guest gets the default of its `reply`. Without a pending exit this is a
   * no-op. {@link immediateExit} is unchanged.
   *
   * One instruction may exit several times: it reads and writes (`add` to an address without memory), crosses a page,
   * moves more than 8 bytes, is a string instruction that reads addresses without memory (up to 1024 elements in a
   * row), or is single-stepped (a `debug` at its end). `answer` is called with each of these further exits, and all are
   * completed. `rep ins` and `rep outs` stop at the end of a chunk, with RIP still at the instruction and the remaining
   * count in RCX; that is a point between two instructions, and can be saved.
   *
   * @param answer - handles a further exit and replies to it.
   * @ioctl KVM_RUN (api.rst 4.10 and 5, `immediate_exit`; vcpu; KVM_CAP_IMMEDIATE_EXIT)
   * @throws {@link StateError} `ERR_UNANSWERED` if a further exit occurs and `answer` is omitted. That exit is then
   *   pending, as after {@link runSync}.
   * @throws {@link KvmError} as {@link runSync}.
   */
  completeExit(answer?: (exit: Exit) => void): void {
    for (let exit = this.#complete(); exit !== undefined; exit = this.#complete()) {
      if (answer === undefined) {
        throw new StateError("ERR_UNANSWERED", `${this.label}: ${exit.kind}`);
      }
      answer(exit);
    }
  }

  /**
   * Whether the next KVM_RUN returns at once with `EINTR`, before the guest executes an instruction:
   * `kvm_run.immediate_exit` (KVM_CAP_IMMEDIATE_EXIT).
   */
  get immediateExit(): boolean {
    return this.#open()[IMMEDIATE_EXIT] !== 0;
  }

  /** Sets `kvm_run.immediate_exit`. */
  set immediateExit(value: boolean) {
    this.#open()[IMMEDIATE_EXIT] = value ? 1 : 0;
  }

  /** Interrupts the current run, whose promise resolves to `{ kind: "intr" }`, and closes the vCPU. */
  override close(): void {
    super.close();
    this.#filtered?.close();
    if (!this.#isInside) this.#settle(-EINTR);
  }

  /** The descriptor. Throws while the vCPU runs on its own thread, because the kernel would block. */
  protected override get fd(): NativeFd {
    this.#open();
    return super.fd;
  }

  /** Makes KVM_RUN in a way that a kick can interrupt, also for calls through {@link ioctl}. */
  protected override call(
    ioctl: Ioctl,
    argument: IoctlArgument | undefined,
    context: CallContext = {},
  ): number | NativeFd {
    const isRun = ioctl.request === KVM_RUN.request && !argument;
    if (!isRun) return super.call(ioctl, argument, context);
    this.#runnableHere();
    const answer = this.#issue();
    this.#tell();
    if (answer < 0) throw this.refusal(ioctl.name, -answer, context);
    return answer;
  }

  /** Returns kvm_run, whether the vCPU has run, and whether its guest was certainly entered. */
  protected history(): { run: Uint8Array; hasRun: boolean; hasEntered: boolean } {
    const bits = this.#run.history();
    return { run: this.#open(), hasRun: (bits & 1) !== 0, hasEntered: (bits & 2) !== 0 };
  }

  /** Starts the pending run on the vCPU's own thread. */
  #start(): void {
    this.#count(true);
    const started = this.#run.start();
    this.#isInside = started === 0;
    if (started !== 0) this.#fail(started);
  }

  #fail({ call: ioctl, errno }: NativeRefusal): void {
    const pending = this.#pending;
    this.#pending = undefined;
    this.#gate.leave(this.#gated);
    pending?.ended.reject(this.refusal(ioctl, errno));
  }

  /** Handles the end of a run on the vCPU's thread; it never throws. */
  #settle(answer: number): void {
    this.#isInside = false;
    this.#gate.leave(this.#gated);
    const pending = this.#pending;
    if (pending === undefined) return;
    if (answer === PAUSED && !pending.isKicked && !this.closed) {
      this.#gate.enter(this.#gated);
      return;
    }
    this.#pending = undefined;
    try {
      const result = answer === PAUSED ? -EINTR : answer;
      if (!this.closed) {
        this.#untold = traceExit(this.traced, this.#words, result, pending.replies);
      }
      const exit = this.closed ? undefined : this.#exit(result);
      pending.ended.resolve(exit ?? { kind: "intr" });
    } catch (error) {
      pending.ended.reject(error);
    }
    this.#tell();
  }

  /** Publishes the last run after its exit was decoded, because a subscriber may close or run this vCPU. */
  #tell(): void {
    const step = this.#untold;
    this.#untold = undefined;
    publishExit(step);
  }

  /** KVM completes a pending exit before it checks immediate_exit; `EINTR` means that nothing is pending. */
  #complete(): Exit | undefined {
    const before = this.immediateExit;
    this.immediateExit = true;
    try {
      return this.#enter();
    } finally {
      this.immediateExit = before;
    }
  }

  /** Runs the guest on this thread; `undefined` means `EINTR`. */
  #enter(): Exit | undefined {
    const answer = this.#issue();
    try {
      return this.#exit(answer);
    } finally {
      if (this.#untold !== undefined) this.#tell();
    }
  }

  /** Calls KVM_RUN on this thread. */
  #issue(): number {
    this.#count(false);
    this.#exits.expire();
    const replies = traceRun(this.traced, this.#bytes);
    const answer = this.#run.run();
    this.#untold = traceExit(this.traced, this.#words, answer, replies);
    return answer;
  }

  /** Decodes KVM_RUN's result; `undefined` means `EINTR`. */
  #exit(answer: number): Exit | undefined {
    if (answer === -EINTR) return undefined;
    if (answer < 0 && !isExitBesideErrno(this.#exits, -answer)) {
      throw this.refusal("KVM_RUN", -answer);
    }
    return decodeExit(this.#exits);
  }

  /** Counts changes of threads, because KVM waits for all CPUs (synchronize_rcu) when a vCPU changes its thread. */
  #count(isBeside: boolean): void {
    if (isBeside === this.#wasBeside) return;
    this.#wasBeside = isBeside;
    this.#changes += 1;
    if (this.#changes < MOST_CHANGES || isWarned) return;
    isWarned = true;
    const type = "PerformanceWarning";
    process.emitWarning(
      `${this.label} is run by run() and by runSync() in turn. Each change of threads costs KVM some ` +
        "milliseconds: use one of them.",
      { type, code: "NODE_KVM_THREADS" },
    );
  }

  #runnableHere(): void {
    this.#runnable();
    if (this.#gate.isShut) throw new StateError("ERR_PAUSED", this.label);
  }

  #runnable(): void {
    this.#open();
    if (this.#pending !== undefined) throw new StateError("ERR_RUNNING", this.label);
  }

  #open(): Uint8Array {
    if (this.closed) throw new StateError("ERR_CLOSED", this.label);
    if (this.#isInside) throw new StateError("ERR_RUNNING", this.label);
    return this.#bytes;
  }
}
