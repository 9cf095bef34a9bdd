/** The side of a vCPU's worker: runs it on this thread until an exit that nobody here handles. The other side is vcpu-worker.ts. */
import { type MessagePort, workerData } from "node:worker_threads";
import type { Exit } from "../kvm/exit.ts";
import type { Vcpu } from "../kvm/vcpu.ts";
import {
  type Answer,
  type Report,
  type RunRequest,
  type Start,
  toErrorData,
  toReport,
} from "./message.ts";

/** A vCPU, and what becomes of its exits in this thread. */
export interface ServedVcpu {
  /** Made in this thread; handles do not cross to another. */
  readonly vcpu: Pick<Vcpu, "runSync" | "kickToken" | "immediateExit">;
  /**
   * Does an exit's work and answers it. Called for each but `intr`, between two KVM_RUNs, so it is
   * synchronous.
   *
   * @returns whether the guest is to run on; the exit crosses to the owner otherwise, to be answered there.
   */
  handle?(exit: Exit): boolean;
}

/**
 * Serves a vCPU to the {@link VcpuWorker} that has started this thread. While the guest runs, nothing else
 * happens in this thread: messages and timers wait for the run's end.
 *
 * @param make - makes the VM, from the data that {@link VcpuWorker.start} was given. What it throws, or
 *   rejects with, is what `start` is rejected with.
 * @throws TypeError in a thread that no VcpuWorker has started.
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
    port.on("message", (request: RunRequest) => tell(port, () => service.run(request)));
    port.on("messageerror", (error) => tellError(port, error));
    tell(port, () => ({ kind: "ready", kickToken: served.vcpu.kickToken }));
  } catch (error) {
    tellError(port, error);
  }
}

/** Tells the owner what came out. */
function tell(port: MessagePort, report: () => Report): void {
  try {
    port.postMessage(report());
  } catch (error) {
    tellError(port, error);
  }
}

/** Tells the owner what went wrong; what {@link toErrorData} gives can always be cloned. */
function tellError(port: MessagePort, error: unknown): void {
  port.postMessage({ kind: "error", error: toErrorData(error) } satisfies Report);
}

/** The runs that the owner asks for. */
class Service {
  readonly #served: ServedVcpu;
  readonly #kicked: Int32Array;
  #exit: Exit | undefined;

  constructor(served: ServedVcpu, kicked: Int32Array) {
    this.#served = served;
    this.#kicked = kicked;
  }

  /** Answers the exit before, and runs until the next that the owner must see. */
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
      // A kick that came too late for the run before is not for this one.
      const isOurs = exit.kind !== "intr" || vcpu.immediateExit || this.#isKicked(number);
      if (isOurs && (exit.kind === "intr" || this.#served.handle?.(exit) !== true)) return exit;
    }
  }

  #isKicked(number: number): boolean {
    return Atomics.load(this.#kicked, 0) === number;
  }
}
