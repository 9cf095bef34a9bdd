/**
 * The worker's side of a vCPU: the worker runs the vCPU on its thread until an exit that the worker's handler does not
 * handle. vcpu-worker.ts has the owner's side.
 */
import { type MessagePort, workerData } from "node:worker_threads";
import type { Exit } from "../kvm/exits/exit.ts";
import type { Vcpu } from "../kvm/vcpu.ts";
import {
  type Answer,
  type Report,
  type RunRequest,
  type Start,
  toErrorData,
  toReport,
} from "./message.ts";

/** A vCPU, and the function that handles the vCPU's exits in this thread. */
export interface ServedVcpu {
  /** The vCPU, which must be created in this thread, because handles cannot be passed to another thread. */
  readonly vcpu: Pick<Vcpu, "runSync" | "kickToken" | "immediateExit">;
  /**
   * Handles and answers an exit. The function is called for each exit except `intr`. The function must be synchronous,
   * because it is called between two KVM_RUNs.
   *
   * @returns true if the guest continues; false if the exit is passed to the owner, which answers it.
   */
  handle?(exit: Exit): boolean;
}

/**
 * Serves a vCPU to the {@link VcpuWorker} that has started this thread. While the guest runs, this thread handles no
 * messages and no timers.
 *
 * @param make - a function that creates the VM and the vCPU from the data of {@link VcpuWorker.start}. If the function
 *   throws or rejects, `start` rejects with the same error.
 * @throws TypeError if this thread was not started by a VcpuWorker.
 */
export async function serveVcpu<T>(
  make: (data: T) => ServedVcpu | Promise<ServedVcpu>,
): Promise<void> {
  const start = workerData as Partial<Start> | null | undefined;
  if (start?.port === undefined || start.kicked === undefined) {
    throw new TypeError("serveVcpu: this thread was not started by VcpuWorker.start()");
  }
  const { port, kicked } = start;
  try {
    const served = await make(start.data as T);
    const service = new Service(served, new Int32Array(kicked));
    port.on("message", (request: RunRequest) => post(port, () => service.run(request)));
    port.on("messageerror", (error) => postError(port, error));
    post(port, () => ({ kind: "ready", kickToken: served.vcpu.kickToken }));
  } catch (error) {
    postError(port, error);
  }
}

/** Posts a result to the owner. */
function post(port: MessagePort, report: () => Report): void {
  try {
    port.postMessage(report());
  } catch (error) {
    postError(port, error);
  }
}

/** Posts an error to the owner; the data of {@link toErrorData} can always be cloned. */
function postError(port: MessagePort, error: unknown): void {
  port.postMessage({ kind: "error", error: toErrorData(error) } satisfies Report);
}

/** Handles the owner's requests for runs. */
class Service {
  readonly #served: ServedVcpu;
  readonly #kicked: Int32Array;
  #exit: Exit | undefined;

  constructor(served: ServedVcpu, kicked: Int32Array) {
    this.#served = served;
    this.#kicked = kicked;
  }

  /** Answers the previous exit, and runs the vCPU until the next exit for the owner. */
  run({ number, answer }: RunRequest): Report {
    if (answer !== undefined) {
      try {
        this.#answer(answer);
      } catch (error) {
        return { kind: "error", error: toErrorData(error), isUnanswered: true };
      }
    }
    this.#exit = this.#run(number);
    return toReport(this.#exit);
  }

  #answer({ method, args }: Answer): void {
    const found = Object.entries(this.#exit ?? {}).find(([name]) => name === method)?.[1];
    found?.(...args);
  }

  #run(number: number): Exit {
    const { vcpu } = this.#served;
    for (;;) {
      if (this.#isKicked(number)) return { kind: "intr" };
      const exit = vcpu.runSync();
      // A kick that arrives after the end of the previous run must not end this run.
      const isOurs = exit.kind !== "intr" || vcpu.immediateExit || this.#isKicked(number);
      if (isOurs && (exit.kind === "intr" || this.#served.handle?.(exit) !== true)) return exit;
    }
  }

  #isKicked(number: number): boolean {
    return Atomics.load(this.#kicked, 0) === number;
  }
}
