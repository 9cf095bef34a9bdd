/** A vCPU that lives in a worker thread, which handles most of its exits itself; the owner's side. The other is serve-vcpu.ts. */
import { once } from "node:events";
import { MessageChannel, type MessagePort, Worker, type WorkerOptions } from "node:worker_threads";
import { StateError } from "../errors.ts";
import { inspectAs } from "../inspect.ts";
import { Abortable, type AbortOptions, signalOf } from "../kvm/abortable.ts";
import type { Exit } from "../kvm/exit.ts";
import { kickVcpu } from "../kvm/vcpu-runs.ts";
import {
  type Answer,
  type Report,
  type RunRequest,
  type Start,
  toError,
  toExit,
} from "./message.ts";

const LABEL = "vcpu worker";

/** What a worker may be started with: Node's options, but the data is an argument of its own. */
export type VcpuWorkerOptions = Omit<WorkerOptions, "workerData">;

/**
 * The fast shape: JavaScript runs in the thread that issues KVM_RUN, so an exit that the worker handles
 * crosses no thread. Only exits that nobody there handles come here, one for each {@link run}.
 *
 * The worker's file calls {@link serveVcpu}. A worker that does not run keeps no process alive.
 */
export class VcpuWorker {
  /** The thread, for messages of the program's own. */
  readonly worker: Worker;
  readonly #port: MessagePort;
  readonly #kicked: Int32Array;
  readonly #kickToken: bigint;
  #number = 0;
  #pending: Abortable<Exit> | undefined;
  #answer: Answer | undefined;
  /** Which exit may be answered. */
  #turn = 0;
  /** The turn of the last exit. */
  #exitTurn = 0;
  #isClosed: boolean = false;

  private constructor(worker: Worker, port: MessagePort, kicked: Int32Array, kickToken: bigint) {
    if (typeof port?.postMessage !== "function") {
      throw new TypeError("new VcpuWorker(): use VcpuWorker.start()");
    }
    this.worker = worker;
    this.#port = port;
    this.#kicked = kicked;
    this.#kickToken = kickToken;
    port.on("message", (report: Report) => this.#take(report));
    port.on("messageerror", (error) => this.#settle()?.reject(error));
    worker.on("error", (error) => this.#end(error));
    worker.on("exit", (code) => this.#end(new Error(`${LABEL}: its thread has ended (${code})`)));
    this.#rest();
  }

  /**
   * Starts a thread and waits until its vCPU is made.
   *
   * @param file - the worker's module.
   * @param data - cloned, for the function that makes the VM.
   * @throws what that function, or the thread, has thrown; a DataCloneError when `data` cannot be cloned;
   *   as a rejection.
   */
  static async start(
    file: string | URL,
    data?: unknown,
    options: VcpuWorkerOptions = {},
  ): Promise<VcpuWorker> {
    const { port1, port2 } = new MessageChannel();
    const kicked = new SharedArrayBuffer(4);
    const start: Start = { port: port2, kicked, data };
    const transferList = [port2, ...(options.transferList ?? [])];
    let worker: Worker;
    try {
      worker = new Worker(file, { ...options, workerData: start, transferList });
    } catch (error) {
      port1.close();
      throw error;
    }
    const ended = new AbortController();
    try {
      const { signal } = ended;
      const exit = once(worker, "exit", { signal }).then(([code]) => {
        throw new Error(`${LABEL}: its thread has ended (${code}) without a vCPU`);
      });
      const [report] = (await Promise.race([once(port1, "message", { signal }), exit])) as [Report];
      if (report.kind === "error") throw toError(report.error);
      if (report.kind !== "ready") throw new Error(`${LABEL}: ${report.kind} came first`);
      return new VcpuWorker(worker, port1, new Int32Array(kicked), report.kickToken);
    } catch (error) {
      port1.close();
      await worker.terminate();
      throw error;
    } finally {
      ended.abort();
    }
  }

  /**
   * Runs the guest until an exit that the worker does not handle. That exit is answered here, before the
   * next run, which takes the answer along. An answer that cannot cross (a function, say) is refused with
   * a DataCloneError by the exit's own method. One that the exit refuses (too many values, say) rejects the
   * next run: the guest has not run on then, and the exit can be answered again.
   *
   * @returns the exit; `{ kind: "intr" }` when the run was ended by `signal`, {@link kick} or {@link close}.
   * @throws {@link KvmError} KVM_RUN's, or what the worker's handler has thrown; as a rejection.
   * @throws {@link StateError} `ERR_RUNNING`, `ERR_CLOSED`.
   */
  run(options: AbortOptions = {}): Promise<Exit> {
    const signal = signalOf("run()", options);
    const isAborted = signal?.aborted === true;
    if (this.#isClosed) throw new StateError("ERR_CLOSED", LABEL);
    if (this.#pending !== undefined) throw new StateError("ERR_RUNNING", LABEL);
    if (isAborted) return Promise.resolve({ kind: "intr" });
    // Run numbers are Int32, and never 0, with which nothing is kicked.
    const number = (this.#number % 0x7fff_ffff) + 1;
    const request: RunRequest = { number, answer: this.#answer };
    this.#port.postMessage(request);
    this.#number = number;
    this.#turn += 1;
    this.#answer = undefined;
    this.worker.ref();
    this.#port.ref();
    this.#pending = new Abortable({ signal }, () => this.kick());
    return this.#pending.promise;
  }

  /** Whether a {@link run} is under way. */
  get running(): boolean {
    return this.#pending !== undefined;
  }

  /** Ends the {@link run} that is under way, with `{ kind: "intr" }`; the next one is not touched. */
  kick(): void {
    if (this.#pending === undefined) return;
    Atomics.store(this.#kicked, 0, this.#number);
    kickVcpu(this.#kickToken);
  }

  /** Ends the thread, with all that it has opened. A run that is under way ends with `{ kind: "intr" }`. */
  async close(): Promise<void> {
    this.#isClosed = true;
    this.#settle()?.resolve({ kind: "intr" });
    this.#port.close();
    await this.worker.terminate();
  }

  /** Ends the thread at the end of an `await using` block. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  #take(report: Report): void {
    if (report.kind === "error") {
      if (report.isUnanswered === true) this.#turn = this.#exitTurn;
      this.#settle()?.reject(toError(report.error));
    }
    if (report.kind !== "exit") return;
    const turn = this.#turn;
    this.#exitTurn = turn;
    const answer = (called: Answer): void => {
      if (turn !== this.#turn) throw new StateError("ERR_ANSWERED", LABEL);
      // A copy, as it crosses: what cannot cross is refused here, and what changes later is not seen.
      this.#answer = structuredClone(called);
      this.#turn += 1;
    };
    this.#settle()?.resolve(toExit(report, answer));
  }

  #end(error: unknown): void {
    this.#isClosed = true;
    this.#settle()?.reject(error);
  }

  /** Takes the run that is over; the caller settles it. */
  #settle(): Abortable<Exit> | undefined {
    const pending = this.#pending;
    this.#pending = undefined;
    this.#rest();
    return pending;
  }

  #rest(): void {
    this.worker.unref();
    this.#port.unref();
  }

  static {
    inspectAs(VcpuWorker, (it) => ({
      running: it.running,
      closed: it.#isClosed,
    }));
  }
}
