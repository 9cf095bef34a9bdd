/** A virtual CPU: running it, its CPUID table, its rings. Registers are vcpu-registers.ts, exits exit.ts. */
import { isMainThread } from "node:worker_threads";
import { KVM_GET_CPUID2, KVM_SET_CPUID, KVM_SET_CPUID2 } from "../abi/generated/ioctls.ts";
import { Cpuid, Cpuid2, type CpuidEntry, type CpuidEntry2, Run } from "../abi/generated/structs.ts";
import { encode, offsetOf, read, type StructInput } from "../abi/struct.ts";
import { KvmError, StateError } from "../errors.ts";
import type { Evidence } from "../explain/index.ts";
import type { NativeFd, NativeRun } from "../native.ts";
import type { VcpuState } from "../state/state.ts";
import { traceExit, traceRun } from "../trace/sink.ts";
import { type CoalescedWrite, coalescedWrites } from "./coalesced-mmio.ts";
import { type CpuidEntry2Input, getCpuid2, KVM_MAX_CPUID_ENTRIES } from "./cpuid2.ts";
import { DirtyRing } from "./dirty-pages.ts";
import { evidenceOfVcpu, type VcpuHistory } from "./evidence.ts";
import type { Exit } from "./exit.ts";
import { decodeExit, isExitBesideErrno } from "./exit-decoder.ts";
import { ExitSource } from "./exit-source.ts";
import { VcpuDevices } from "./vcpu-devices.ts";
import { restoreVcpus, type SaveStateOptions, saveVcpus } from "./vcpu-state.ts";
import type { Vm } from "./vm.ts";

const IMMEDIATE_EXIT = offsetOf(Run, "immediateExit");
const EINTR = 4;

/** A run that was started and has not ended. */
interface Pending {
  /** What was written into `kvm_run` before it; for traces. */
  readonly replies: ReturnType<typeof traceRun>;
  resolve(exit: Exit): void;
  reject(error: unknown): void;
}

/** What {@link Vcpu.run} may be told. */
export interface RunOptions {
  /** Its abort ends the run, with `{ kind: "intr" }`. */
  readonly signal?: AbortSignal;
}

/** What KVM_SET_CPUID2 may be told beyond the entries. */
export interface SetCpuid2Options {
  /**
   * The count to send, when it is to differ from the entries'. A count that reaches past them
   * meets an unmapped page there, so that the kernel can only refuse (E2BIG, EFAULT).
   */
  readonly nent?: number;
}

/** A virtual CPU of a {@link Vm}. */
export class Vcpu extends VcpuDevices {
  /** The number that KVM_CREATE_VCPU was given. */
  readonly id: number;
  /** The VM that it was made for. */
  readonly vm: Vm;
  readonly #run: NativeRun;
  readonly #bytes: Uint8Array;
  readonly #words: Int32Array;
  readonly #exits: ExitSource;
  /** Whether KVM_RUN was called, and whether the guest surely was entered by it. */
  #ran: boolean = false;
  #entered: boolean = false;
  #pending: Pending | undefined;
  readonly #done = (result: number): void => this.#settle(result);

  /** Takes over a vCPU's descriptor and maps its kvm_run; {@link Vm.createVcpu} does. @internal */
  constructor(fd: NativeFd, id: number, vm: Vm) {
    super(fd, `vcpu ${id}`);
    this.id = id;
    this.vm = vm;
    // A worker that is in KVM_RUN is asked whether it is to end by calling this.
    const run = fd.mapRun(this.#done, isMainThread ? undefined : () => undefined);
    if (typeof run === "number") {
      fd.close();
      throw new KvmError({ ioctl: "mmap", fd: this.label, errno: -run });
    }
    this.#run = run;
    this.#bytes = new Uint8Array(run.bytes);
    this.#words = new Int32Array(run.bytes);
    this.#exits = new ExitSource(this.#bytes, this.label);
  }

  /**
   * Runs the guest on this thread until it exits, which blocks the event loop for as long.
   *
   * A signal to this thread, or {@link immediateExit}, ends the run with `{ kind: "intr" }`.
   *
   * @ioctl KVM_RUN (api.rst 4.10; vcpu)
   * @throws {@link KvmError} with KVM_RUN's errno, `EINTR` excepted; `EFAULT` comes as an exit when
   *   KVM says which access it was (`memory_fault`).
   */
  runSync(): Exit {
    this.#open();
    return this.#enter() ?? { kind: "intr" };
  }

  /**
   * Runs the guest until it exits, on a thread of the vCPU's own, beside the event loop. Until the
   * promise is settled every other call on this vCPU is refused, but {@link kick} and {@link close};
   * an exit is answered before the next run.
   *
   * @returns the exit; `{ kind: "intr" }` when the run was ended by `signal`, {@link kick},
   *   {@link close} or {@link immediateExit}.
   * @ioctl KVM_RUN (api.rst 4.10; vcpu)
   * @throws {@link StateError} `ERR_RUNNING`, `ERR_CLOSED`.
   * @throws {@link KvmError} as {@link runSync}; the promise is rejected with it.
   */
  run(options: RunOptions = {}): Promise<Exit> {
    const { signal } = options;
    this.#open();
    if (signal?.aborted === true) return Promise.resolve({ kind: "intr" });
    this.#exits.expire();
    const replies = traceRun(this.traced, this.#bytes);
    const started = this.#run.start();
    if (started < 0) {
      throw new KvmError({ ioctl: "pthread_create", fd: this.label, errno: -started });
    }
    const ended = new Promise<Exit>((resolve, reject) => {
      this.#pending = { replies, resolve, reject };
    });
    if (signal === undefined) return ended;
    const kick = (): void => this.kick();
    signal.addEventListener("abort", kick, { once: true });
    return ended.finally(() => signal.removeEventListener("abort", kick));
  }

  /** Whether a {@link run} is under way. */
  get running(): boolean {
    return this.#pending !== undefined;
  }

  /** Ends the {@link run} that is under way, with `{ kind: "intr" }`; the next one is not touched. */
  kick(): void {
    if (this.#pending !== undefined) this.#run.kick();
  }

  /** Takes a run's end from the vCPU's thread; nothing is thrown from here. */
  #settle(answer: number): void {
    const pending = this.#pending;
    this.#pending = undefined;
    if (pending === undefined) return;
    try {
      const exit = this.closed ? undefined : this.#exit(answer, pending.replies);
      pending.resolve(exit ?? { kind: "intr" });
    } catch (error) {
      pending.reject(error);
    }
  }

  /** The descriptor, while it is open and the vCPU does not run elsewhere: the kernel would wait. */
  protected override get fd(): NativeFd {
    this.#open();
    return super.fd;
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

  /** Calls KVM_RUN; `undefined` is `EINTR`. */
  #enter(): Exit | undefined {
    this.#exits.expire();
    const replies = traceRun(this.traced, this.#bytes);
    return this.#exit(this.#run.run(), replies);
  }

  /** What KVM_RUN's answer says; `undefined` is `EINTR`. */
  #exit(answer: number, replies: Pending["replies"]): Exit | undefined {
    traceExit(this.traced, this.#words, answer, replies);
    this.#ran = true;
    if (answer === -EINTR) return undefined;
    this.#entered = true;
    if (answer < 0 && !isExitBesideErrno(this.#exits, -answer)) {
      throw this.refusal("KVM_RUN", -answer);
    }
    return decodeExit(this.#exits);
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

  /**
   * Gives the vCPU its CPUID table. Before the first run any number of times; afterwards KVM
   * compares, and takes the same table but no other.
   *
   * @ioctl KVM_SET_CPUID2 (api.rst 4.20; vcpu; KVM_CAP_EXT_CPUID)
   * @throws {@link KvmError} `EINVAL` when the table differs after the first run (the reason names
   *   the bits: KVM_GET_CPUID2 is asked for them), or when 0x80000008.EAX[15:8] is not 0, 48 or 57;
   *   `E2BIG` above 256 entries; `EPERM` for AMX tiles without permission (arch_prctl).
   */
  setCpuid2(entries: Iterable<CpuidEntry2Input>, options: SetCpuid2Options = {}): void {
    const sent: CpuidEntry2Input[] = [];
    for (const entry of entries) sent.push(entry);
    const nent = options.nent ?? sent.length;
    const args = { nent, entries: sent };
    this.setStruct(KVM_SET_CPUID2, Cpuid2, args, { args, pastEnd: true });
  }

  /**
   * Gives the vCPU its CPUID table in the old form, without indices: KVM stores every entry with
   * index, flags and padding 0.
   *
   * @ioctl KVM_SET_CPUID (api.rst 4.20; vcpu)
   * @throws {@link KvmError} as {@link setCpuid2}.
   */
  setCpuid(entries: Iterable<StructInput<CpuidEntry>>): void {
    const list = Array.from(entries);
    this.ioctl(KVM_SET_CPUID, encode(Cpuid, { entries: list }), { args: { nent: list.length } });
  }

  /**
   * Reads the vCPU's CPUID table, as KVM changed it.
   *
   * @param nent - room for how many entries; all of them when left out.
   * @ioctl KVM_GET_CPUID2 (vcpu; KVM_CAP_EXT_CPUID)
   * @throws {@link KvmError} `E2BIG` when `nent` is too small.
   */
  getCpuid2(nent: number = KVM_MAX_CPUID_ENTRIES): readonly CpuidEntry2[] {
    return getCpuid2(this, KVM_GET_CPUID2, nent);
  }

  /**
   * Maps the ring in which KVM enters the pages that this vCPU writes, of the size that
   * KVM_CAP_DIRTY_LOG_RING was told; `vm.resetDirtyRings()` takes back what was harvested.
   *
   * @throws {@link KvmError} `EINVAL` from mmap when the VM has no dirty rings.
   */
  dirtyRing(): DirtyRing {
    const buffer = this.fd.mapDirtyRing();
    if (typeof buffer !== "number") return new DirtyRing(buffer);
    throw new KvmError({ ioctl: "mmap", fd: this.label, errno: -buffer });
  }

  /**
   * Takes the writes out of the ring that `vm.registerCoalescedMmio()` made KVM fill, in their order.
   * All vCPUs of a VM share one ring.
   */
  coalescedMmio(): Generator<CoalescedWrite, void> {
    return coalescedWrites(this.#open());
  }

  /**
   * Reads the whole state of this vCPU, which must not run. {@link Vm.saveState} makes a document of it,
   * together with that of the VM and of other vCPUs.
   *
   * A pending exit is completed first ({@link completeExit}).
   *
   * @throws {@link KvmError} with the errno of the ioctl that KVM refused.
   * @throws {@link StateError} `ERR_UNANSWERED` when the pending exit is followed by another one;
   *   `ERR_CLOSED` when the {@link Kvm} was closed before anything was saved.
   */
  saveState(options: SaveStateOptions = {}): VcpuState {
    const [state] = saveVcpus([this], this.vm.kvm.origin, options);
    if (state === undefined) throw new StateError("ERR_CLOSED", this.label);
    return state;
  }

  /**
   * Puts a saved state into this vCPU: it goes on where the saved one stood. It may be fresh, or have
   * run with the same CPUID table; an exit that is pending is dropped. After an error some parts are
   * restored and others not.
   *
   * @throws {@link KvmError} with the errno of the ioctl that KVM refused, and what it can mean.
   * @throws {@link RestoreError} when the state is of a vCPU with another id, or an MSR does not take its
   *   value.
   */
  restoreState(state: VcpuState): void {
    restoreVcpus([[this, state]], this.vm.kvm.origin);
  }

  /** What this vCPU, its VM and its KVM can be asked about a refusal. */
  protected override evidence(): Evidence {
    const history = (): VcpuHistory => ({
      hasRun: this.#ran,
      hasEntered: this.#entered,
      run: read(Run, this.#open()),
    });
    return { ...this.vm.evidence(), vcpu: evidenceOfVcpu(this, history) };
  }

  #open(): Uint8Array {
    if (this.closed) throw new StateError("ERR_CLOSED", this.label);
    if (this.#pending !== undefined) throw new StateError("ERR_RUNNING", this.label);
    return this.#bytes;
  }
}
