/** Files that are passed to KVM: eventfds and /dev/sev. The calls that take these files are in calls/eventfds.ts. */
import { constants } from "node:os";
import { StateError } from "../errors.ts";
import { inspectAs } from "../inspect.ts";
import { expectNative, type NativeHostFile, native } from "../native.ts";
import { toPath, toU32, toU64 } from "../options.ts";
import { traceClose, traceCounter, traced, traceEventFd, traceFile } from "../trace/sink.ts";
import type { Traced } from "../trace/traced.ts";
import { type OpenFile, registerFile, unregisterFile } from "./link.ts";
import { refused } from "./refused.ts";
import { type AbortOptions, signalOf } from "./run/abortable.ts";
import { Steps } from "./run/steps.ts";
import { WaitQueue } from "./run/wait-queue.ts";

const { EAGAIN } = constants.errno;

abstract class HostFile implements OpenFile {
  readonly label: string;
  /** The file's identity in traces. @internal */
  protected readonly traced: Traced;
  #file: NativeHostFile | undefined;

  /** Takes a file. */
  protected constructor(file: NativeHostFile, label: string) {
    expectNative(file, "readCounter", new.target, "EventFd.create(), SevDevice.open()");
    this.label = label;
    this.traced = traced(file, label);
    this.#file = file;
    registerFile(this, file);
  }

  /** Whether {@link close} was called. */
  get closed(): boolean {
    return this.#file === undefined;
  }

  /** The file; throws after {@link close}. @internal */
  protected get file(): NativeHostFile {
    if (this.#file === undefined) throw new StateError("ERR_CLOSED", this.label);
    return this.#file;
  }

  /** Closes the file; KVM keeps its own reference. Closing twice is a no-op. */
  close(): void {
    const file = this.#file;
    this.#file = undefined;
    unregisterFile(this);
    if (file !== undefined) traceClose(this.traced);
    file?.close();
  }

  /** Closes the file at the end of a `using` block. */
  [Symbol.dispose](): void {
    this.close();
  }

  static {
    inspectAs(HostFile, (it) => ({ label: it.label, closed: it.closed }));
  }
}

function opened(answer: NativeHostFile | number, call: string, fd: string): NativeHostFile {
  if (typeof answer !== "number") return answer;
  const args = call === "open" ? { path: fd } : {};
  throw refused({ call, label: fd, errno: -answer, args });
}

/**
 * A counter for signals between KVM and this process: a non-blocking eventfd(2). With `vm.irqfd` a write raises an
 * interrupt; with `vm.ioeventfd` a guest's write adds to the counter.
 *
 * KVM consumes the signals of an eventfd that is connected with `vm.irqfd` (since Linux 5.11), so they do not end a
 * {@link wait}.
 */
export class EventFd extends HostFile {
  readonly #waits = new WaitQueue("eventfd", () => this.read());

  /**
   * Creates an eventfd.
   *
   * @param initval - the counter's initial value, 32 bits.
   * @throws {@link KvmError} with eventfd's errno, such as `EMFILE`.
   */
  static create(initval = 0): EventFd {
    const first = toU32("EventFd.create(): initval", initval);
    const answer = native().eventfd(first, 0);
    traceEventFd(first, answer);
    return new EventFd(opened(answer, "eventfd", "eventfd"), "eventfd");
  }

  /** Reads the counter and sets it to 0; returns `0n` if no signal arrived since the last read. */
  read(): bigint {
    const answer = this.file.readCounter();
    const isRead = typeof answer === "bigint";
    traceCounter(this.traced, "read", isRead ? answer : 0n, isRead ? 0 : answer);
    if (isRead) return answer;
    if (answer === -EAGAIN) return 0n;
    throw refused({ call: "read", label: this.label, errno: -answer });
  }

  /**
   * Adds a number to the counter, and thereby wakes waiters.
   *
   * @throws {@link KvmError} `EAGAIN` if the counter would exceed 2^64 - 2; `EINVAL` for 2^64 - 1.
   */
  write(value: bigint | number = 1n): void {
    const count = toU64("write()", value);
    const answer = this.file.writeCounter(count);
    traceCounter(this.traced, "write", count, Math.min(0, answer));
    if (answer < 0) {
      throw refused({ call: "write", label: this.label, errno: -answer, args: { value: count } });
    }
  }

  /**
   * Waits for the next signal, sets the counter to 0, and returns the counter's previous value; returns immediately if
   * the counter is greater than zero. If several waits are pending, the first call gets the whole counter, and later
   * calls wait for the next signals.
   *
   * A wait prevents the process from exiting. A wait uses no thread, because the event loop watches the file. A signal
   * that arrives during {@link Vcpu.runSync} is therefore received after the call has returned.
   *
   * @throws the signal's reason, as a rejection, if the signal is aborted before or during the wait; the counter is
   *   unchanged.
   * @throws {@link StateError} `ERR_CLOSED`, as a rejection, if this is or becomes closed.
   */
  async wait(options: AbortOptions = {}): Promise<bigint> {
    return await this.#wait(signalOf("wait()", options));
  }

  async #wait(signal: AbortSignal | undefined): Promise<bigint> {
    signal?.throwIfAborted();
    if (this.#waits.empty) {
      const count = this.read();
      if (count > 0n) return count;
    }
    return await this.#waits.add(() => this.file, { signal });
  }

  /**
   * Waits for one signal after another, each as {@link wait} does: `for await (const n of event.signals())`. Signals
   * that arrive between two turns of the event loop are added up.
   *
   * The iteration ends when the signal is aborted or the eventfd is closed, even before the first `next()`. `return()`
   * and `throw()` end a pending wait.
   */
  signals(options: AbortOptions = {}): AsyncGenerator<bigint, void> {
    const given = signalOf("signals()", options);
    const stopped = new AbortController();
    const signal = AbortSignal.any(
      given === undefined ? [stopped.signal] : [stopped.signal, given],
    );
    return new Steps<bigint>({
      next: async () => {
        try {
          return await this.#wait(signal);
        } catch (error) {
          if (this.closed || signal.aborted) return undefined;
          throw error;
        }
      },
      stop: () => stopped.abort(),
    });
  }

  /** Closes the file and rejects all waits; KVM keeps its own reference. */
  override close(): void {
    super.close();
    this.#waits.rejectAll(new StateError("ERR_CLOSED", this.label));
  }

  static {
    inspectAs(EventFd, ({ closed }) => ({ closed }));
  }
}

/** An open `/dev/sev`: AMD's secure processor, which executes the commands of SEV. */
export class SevDevice extends HostFile {
  /**
   * Opens the device.
   *
   * @throws {@link KvmError} with open's errno: `ENOENT` if there is no secure processor.
   */
  static open(path = "/dev/sev"): SevDevice {
    const answer = native().openFile(toPath("SevDevice.open()", path));
    traceFile(path, answer);
    return new SevDevice(opened(answer, "open", path), path);
  }
}
