/** A vCPU's runs: here and now, or beside the event loop; their kicks and their exits. What exits are is exit.ts. */
import { constants } from "node:os";
import { isMainThread } from "node:worker_threads";
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
import { Abortable, type AbortOptions, signalOf } from "./abortable.ts";
import { CoalescedRing, coalescedRing } from "./coalesced-ring.ts";
import type { Exit } from "./exit.ts";
import { decodeExit, isExitBesideErrno } from "./exit-decoder.ts";
import { type ExitRule, encodeRules, FILTER_RING_BYTES } from "./exit-filter.ts";
import { ExitSource } from "./exit-source.ts";
import type { CallContext, IoctlArgument } from "./handle.ts";
import { refused } from "./refused.ts";
import type { GatedRun, RunGate } from "./run-gate.ts";
import { RunPage } from "./run-page.ts";
import { Steps } from "./steps.ts";
import { VcpuDevices } from "./vcpu-devices.ts";

const IMMEDIATE_EXIT = offsetOf(Run, "immediateExit");
const { EINTR, EBUSY } = constants.errno;
/** Of {@link NativeRun.history}. */
const STRAY = 4;
/** The native thread has stopped for a pause; no errno of the kernel's. */
const PAUSED = -512;
/** How long a kick that found the signal queue full waits before it is sent again. */
const AGAIN_MS = 10;
/** So often may a vCPU change between two threads before the program is warned. */
const MOST_CHANGES = 16;

/** How {@link VcpuRuns.runSync} runs. */
export interface RunSyncOptions {
  /**
   * Whether the guest runs on after a signal that nobody sent to end the run, such as a profiler's.
   * {@link kickVcpu} and `immediateExit` end it all the same. JavaScript listeners of signals are called
   * after the exit. False when left out.
   */
  readonly throughSignals?: boolean;
}

/** A run that was started and has not ended. */
interface Pending {
  /** What was written into `kvm_run` before it; for traces. */
  readonly replies: ReturnType<typeof traceRun>;
  /** Whether it is to end. A pause may have stopped it before. */
  isKicked: boolean;
  readonly ended: Abortable<Exit>;
}

let isWarned: boolean = false;

/**
 * Ends the run of a vCPU of this process, on whichever thread it is, or else its next one; it ends with
 * `{ kind: "intr" }`. `token` is its {@link VcpuRuns.kickToken}.
 *
 * @returns false when there is no such vCPU, or it was closed.
 * @throws {@link KvmError} tgkill's `EAGAIN`: the signal queue of this user is full (RLIMIT_SIGPENDING),
 *   and no standard signal is free. The run goes on; the next one ends at once.
 */
export function kickVcpu(token: bigint): boolean {
  const answer = native().kickVcpu(token);
  if (typeof answer === "boolean") return answer;
  throw refused({ call: answer.call, label: "vcpu", errno: answer.errno });
}

/** The part of a vCPU that runs it. */
export abstract class VcpuRuns extends VcpuDevices {
  readonly #run: NativeRun;
  readonly #bytes: Uint8Array;
  readonly #words: Int32Array;
  readonly #exits: ExitSource;
  readonly #gate: RunGate;
  #pending: Pending | undefined;
  /** Whether the thread of its own is in KVM_RUN, or about to be, or has not told us its end. */
  #isInside: boolean = false;
  #wasBeside: boolean = false;
  #changes = 0;
  /** The step of the last run, until subscribers are told of it. */
  #untold: ReturnType<typeof traceExit>;
  /** Where the exit filter collects. */
  #filtered: NativeMapping | undefined;
  /** Native code holds it weakly while nothing runs. */
  readonly #done = (result: number): void => this.#settle(result);
  readonly #gated: GatedRun = {
    start: () => this.#start(),
    stop: () => this.#signal("pause"),
    end: () => this.kick(),
  };

  /** Takes over a vCPU's descriptor and maps its kvm_run. */
  protected constructor(fd: NativeFd, label: string, vm: { readonly gate: RunGate }) {
    // `vm` may be nothing (a program's `new Vcpu()`): this says so, before its gate is looked for.
    super(fd, label);
    // A worker that is in KVM_RUN is asked whether it is to end by calling the second one.
    const run = fd.mapRun(this.#done, isMainThread ? undefined : () => undefined);
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
   * Runs the guest on this thread until it exits, which blocks the event loop for as long.
   *
   * A signal to this thread, {@link immediateExit} or {@link kickToken}'s kick ends the run with
   * `{ kind: "intr" }`. A signal does so that its listener can be called; Node's and V8's own (those of
   * `--cpu-prof`, say) do it too. Who runs a guest for its answer sets `throughSignals`.
   *
   * @ioctl KVM_RUN (api.rst 4.10; vcpu)
   * @throws {@link KvmError} with KVM_RUN's errno, `EINTR` excepted; `EFAULT` comes as an exit when
   *   KVM says which access it was (`memory_fault`).
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
   * Runs the guest until it exits, on a thread of the vCPU's own, beside the event loop. Until the
   * promise is settled every other call on this vCPU is refused, but {@link kick} and {@link close};
   * an exit is answered before the next run. While the VM is paused ({@link Vm.pause}) the run stands
   * still, and the vCPU can be looked at and changed.
   *
   * While exits come within 200 microseconds and each thread has a CPU, both look for the other before they
   * sleep, for as long at most: an idle CPU is slow to wake. The event loop serves all else meanwhile.
   *
   * @returns the exit; `{ kind: "intr" }` when the run was ended by `signal`, {@link kick},
   *   {@link close} or {@link immediateExit}.
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
      // What stands for a signal may have called run() or close() itself.
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
   * Runs the guest again and again, each time as {@link run} does: `for await (const exit of
   * vcpu.exits())`. The guest goes on when the next exit is asked for, so an exit is answered in the
   * loop's body. A kick comes as `{ kind: "intr" }`.
   *
   * Ends when `signal` is aborted or the vCPU is closed, also before it began. `return()` and `throw()`
   * kick a run that is under way and settle with it; an exit that came first is still given.
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

  /** Whether a {@link run} is under way, or stands still in a pause. */
  get running(): boolean {
    return this.#pending !== undefined;
  }

  /** Ends the {@link run} that is under way, with `{ kind: "intr" }`; the next one is not touched. */
  kick(): void {
    if (this.#pending === undefined) return;
    this.#pending.isKicked = true;
    if (this.#isInside) this.#signal("kick");
    else this.#settle(-EINTR);
  }

  /** Sends the signal that ends a run, again and again while there is no room in the signal queue. */
  #signal(way: "kick" | "pause"): void {
    const pending = this.#pending;
    if (this.#run.kick(way === "pause") === 0) return;
    setTimeout(() => {
      if (this.#isInside && this.#pending === pending) this.#signal(way);
    }, AGAIN_MS);
  }

  /**
   * What another thread of this process (a worker) can end a run with: `kickVcpu(token)`. Whoever asks
   * cannot know which run it is, so without one the next ends at once. A number without meaning.
   */
  get kickToken(): bigint {
    return this.#run.token;
  }

  /**
   * Says which exits the runs of this vCPU, of any kind, take care of themselves, without leaving native
   * code: port writes that nobody reads, say, or a serial port's output. The rules replace those from before.
   *
   * Collected writes are drained from the ring in their order; a program that wants to know what was
   * before another exit drains it first. When the ring is full, the next write is an exit. Traces and
   * recordings do not have what the filter took.
   *
   * @returns the ring, of 2730 slots, the same for all filters of this vCPU.
   * @throws TypeError or RangeError that names the rule and what is wrong with it.
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

  /**
   * Looks at the ring that `vm.registerCoalescedMmio()` made KVM fill. All vCPUs of a VM share one.
   */
  coalescedRing(): CoalescedRing {
    return coalescedRing(this.#open());
  }

  /** Gives the form of running that makes no garbage; {@link runSync} and {@link run} go on beside it. */
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
   * Finishes the instruction whose exit is pending and stops before the next one, so that the
   * registers are the guest's after it, and can be saved: what it reads is in them only then. The
   * exit cannot be answered any more; unanswered, the guest sees what its `reply` says. Without a
   * pending exit nothing happens. {@link immediateExit} stays as it is.
   *
   * One instruction may exit several times: it reads and writes (`add` to memory that is not
   * there), reaches over a page, moves more than 8 bytes, is a string instruction that reads
   * memory that is not there (up to 1024 elements in a row), or is single-stepped (a `debug` at its
   * end). `answer` is called with each of these further exits, and completes them all. `rep ins`
   * and `rep outs` are left at the end of a chunk, with RIP still at the instruction and RCX the
   * rest: that is between two instructions, and can be saved.
   *
   * @param answer - what does a further exit's work and replies to it.
   * @ioctl KVM_RUN (api.rst 4.10 and 5, `immediate_exit`; vcpu; KVM_CAP_IMMEDIATE_EXIT)
   * @throws {@link StateError} `ERR_UNANSWERED` when a further exit comes and there is no `answer`.
   *   It is still pending then, as after {@link runSync}.
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
   * Whether the next KVM_RUN returns at once, with `EINTR` and before the guest executes anything;
   * `kvm_run.immediate_exit` (KVM_CAP_IMMEDIATE_EXIT).
   */
  get immediateExit(): boolean {
    return this.#open()[IMMEDIATE_EXIT] !== 0;
  }

  /** Sets `kvm_run.immediate_exit`. */
  set immediateExit(value: boolean) {
    this.#open()[IMMEDIATE_EXIT] = value ? 1 : 0;
  }

  /** Ends what runs, and closes the vCPU. A run's promise is settled, with `{ kind: "intr" }`. */
  override close(): void {
    super.close();
    this.#filtered?.close();
    if (!this.#isInside) this.#settle(-EINTR);
  }

  /** The descriptor, while it is open and the vCPU does not run elsewhere: the kernel would wait. */
  protected override get fd(): NativeFd {
    this.#open();
    return super.fd;
  }

  /** Issues KVM_RUN where a kick reaches it, also when it comes through {@link ioctl}. */
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

  /** What kvm_run says, and whether the vCPU was run, and its guest surely entered. */
  protected history(): { run: Uint8Array; hasRun: boolean; hasEntered: boolean } {
    const bits = this.#run.history();
    return { run: this.#open(), hasRun: (bits & 1) !== 0, hasEntered: (bits & 2) !== 0 };
  }

  /** Lets the pending run go, on the vCPU's own thread. */
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

  /** Takes a run's end from the vCPU's thread; nothing is thrown from here. */
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

  /** Publishes the last run, now that its exit is a value: a subscriber may close this, or run it. */
  #tell(): void {
    const step = this.#untold;
    this.#untold = undefined;
    publishExit(step);
  }

  /** KVM finishes what is pending before it looks at immediate_exit; `EINTR` says all is finished. */
  #complete(): Exit | undefined {
    const before = this.immediateExit;
    this.immediateExit = true;
    try {
      return this.#enter();
    } finally {
      this.immediateExit = before;
    }
  }

  /** Runs the guest on this thread; `undefined` is `EINTR`. */
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

  /** What KVM_RUN's answer says; `undefined` is `EINTR`. */
  #exit(answer: number): Exit | undefined {
    if (answer === -EINTR) return undefined;
    if (answer < 0 && !isExitBesideErrno(this.#exits, -answer)) {
      throw this.refusal("KVM_RUN", -answer);
    }
    return decodeExit(this.#exits);
  }

  /** KVM waits for all CPUs (synchronize_rcu) when a vCPU comes from another thread. */
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
