/**
 * The owner's side of a vCPU in a worker thread; the worker handles most exits itself. serve-vcpu.ts has the worker's
 * side.
 */
import { once } from "node:events";
import { MessageChannel, type MessagePort, Worker, type WorkerOptions } from "node:worker_threads";
import { StateError } from "../errors.ts";
import { inspectAs } from "../inspect.ts";
import type { Exit } from "../kvm/exits/exit.ts";
import { Abortable, type AbortOptions, signalOf } from "../kvm/run/abortable.ts";
import { kickVcpu } from "../kvm/run/kick.ts";
import {
  type Answer,
  type Report,
  type RunRequest,
  type Start,
  toError,
  toExit,
} from "./message.ts";

const LABEL = "vcpu worker";

/** The options of the worker: those of Node.js without `workerData`, because the data is a separate argument. */
export type VcpuWorkerOptions = Omit<WorkerOptions, "workerData">;

/**
 * Runs a vCPU in a worker. The worker's handler runs in the thread that calls KVM_RUN. If the handler handles an exit,
 * no message between threads is necessary. {@link run} returns only exits that the worker's handler does not handle.
 *
 * The worker's file calls {@link serveVcpu}. A worker prevents the process from exiting only while its vCPU runs.
 */
export class VcpuWorker {
  /** The worker thread, through which the caller can send other messages. */
  readonly worker: Worker;
  readonly #port: MessagePort;
  readonly #kicked: Int32Array;
  readonly #kickToken: bigint;
  #number = 0;
  #pending: Abortable<Exit> | undefined;
  #answer: Answer | undefined;
  /** The number of the exit that may be answered. */
  #turn = 0;
  /** The number of the last exit. */
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
   * Starts a thread and waits until its vCPU was created.
   *
   * @param file - the module that the worker executes.
   * @param data - a value that is cloned and passed to the function that creates the VM.
   * @throws the error of the function that creates the VM, or of the thread; a DataCloneError if `data` cannot be
   *   cloned; as a rejection.
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
   * Runs the guest until an exit that the worker does not handle. Answer the exit in this thread before the next run,
   * which sends the answer to the worker. If an answer cannot be cloned (for example, a function), the exit's method
   * throws a DataCloneError. If the exit rejects the answer (for example, too many values), the next run rejects: the
   * guest has not run in this case, and the exit can be answered again.
   *
   * @returns the exit; `{ kind: "intr" }` if the run was interrupted by `signal`, {@link kick} or {@link close}.
   * @throws {@link KvmError} KVM_RUN's, or the error of the worker's handler; as a rejection.
   * @throws {@link StateError} `ERR_RUNNING`, `ERR_CLOSED`.
   */
  run(options: AbortOptions = {}): Promise<Exit> {
    const signal = signalOf("run()", options);
    const isAborted = signal?.aborted === true;
    this.#runnable();
    if (isAborted) return Promise.resolve({ kind: "intr" });
    const ended = new Abortable<Exit>({ signal }, () => this.kick());
    // Run numbers are Int32 and never 0, because 0 in the shared buffer means that no run must be interrupted.
    const number = (this.#number % 0x7fff_ffff) + 1;
    try {
      // The caller's signal may have a getter that has called run() or close().
      this.#runnable();
      const request: RunRequest = { number, answer: this.#answer };
      this.#port.postMessage(request);
    } catch (error) {
      ended.drop();
      throw error;
    }
    this.#number = number;
    this.#turn += 1;
    this.#answer = undefined;
    this.worker.ref();
    this.#port.ref();
    this.#pending = ended;
    return ended.promise;
  }

  /** Whether a {@link run} is in progress. */
  get running(): boolean {
    return this.#pending !== undefined;
  }

  /** Interrupts the current {@link run}, which returns `{ kind: "intr" }`. Later runs are not affected. */
  kick(): void {
    if (this.#pending === undefined) return;
    Atomics.store(this.#kicked, 0, this.#number);
    kickVcpu(this.#kickToken);
  }

  /** Ends the thread and closes all handles that the thread has opened. A current run returns `{ kind: "intr" }`. */
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

  #runnable(): void {
    if (this.#isClosed) throw new StateError("ERR_CLOSED", LABEL);
    if (this.#pending !== undefined) throw new StateError("ERR_RUNNING", LABEL);
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
      // The answer is cloned here, so that an answer that cannot be cloned is rejected immediately.
      // Later changes of the caller's value have no effect on the clone.
      this.#answer = structuredClone(called);
      this.#turn += 1;
    };
    this.#settle()?.resolve(toExit(report, answer));
  }

  #end(error: unknown): void {
    this.#isClosed = true;
    this.#settle()?.reject(error);
  }

  /** Removes the pending run and returns it; the caller settles its promise. */
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
