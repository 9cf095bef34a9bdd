/** Files that KVM is handed: eventfds and /dev/sev. What is done with them is irq methods and vm.ts. */
import { KvmError, StateError } from "../errors.ts";
import { type NativeHostFile, native } from "../native.ts";
import { forgetFile, type OpenFile, registerFile } from "./link.ts";

const EAGAIN = 11;

abstract class HostFile implements OpenFile {
  readonly label: string;
  #file: NativeHostFile | undefined;

  /** Takes over a file. */
  protected constructor(file: NativeHostFile, label: string) {
    this.label = label;
    this.#file = file;
    registerFile(this, file);
  }

  /** Whether {@link close} was called. */
  get closed(): boolean {
    return this.#file === undefined;
  }

  /** The file, while it is open. */
  protected get file(): NativeHostFile {
    if (this.#file === undefined) throw new StateError("ERR_CLOSED", this.label);
    return this.#file;
  }

  /** Closes the file; KVM keeps its own hold on it. Closing twice does nothing. */
  close(): void {
    this.#file?.close();
    this.#file = undefined;
    forgetFile(this);
  }

  /** Closes the file at the end of a `using` block. */
  [Symbol.dispose](): void {
    this.close();
  }
}

function opened(answer: NativeHostFile | number, call: string, fd: string): NativeHostFile {
  if (typeof answer !== "number") return answer;
  throw new KvmError({ ioctl: call, fd, errno: -answer });
}

/**
 * A counter that KVM and this process signal each other with: eventfd(2), never blocking. With
 * `vm.irqfd` a write raises an interrupt, with `vm.ioeventfd` a guest's write adds to it.
 */
export class EventFd extends HostFile {
  /**
   * Makes one.
   *
   * @param initval - the counter's first value, 32 bits.
   * @throws {@link KvmError} with eventfd's errno, such as `EMFILE`.
   */
  static create(initval = 0): EventFd {
    return new EventFd(opened(native().eventfd(initval, 0), "eventfd", "eventfd"), "eventfd");
  }

  /** Reads the counter and sets it to 0; `0n` when nothing was signalled since. */
  read(): bigint {
    const answer = this.file.readCounter();
    if (typeof answer === "bigint") return answer;
    if (answer === -EAGAIN) return 0n;
    throw new KvmError({ ioctl: "read", fd: this.label, errno: -answer });
  }

  /**
   * Adds to the counter: signals whoever waits for it.
   *
   * @throws {@link KvmError} `EAGAIN` when the counter would pass 2^64 - 2; `EINVAL` for 2^64 - 1.
   */
  write(value = 1n): void {
    const answer = this.file.writeCounter(value);
    if (answer < 0) throw new KvmError({ ioctl: "write", fd: this.label, errno: -answer });
  }
}

/** AMD's secure processor, which SEV's commands go through: an open `/dev/sev`. */
export class SevDevice extends HostFile {
  /**
   * Opens it.
   *
   * @throws {@link KvmError} with open's errno: `ENOENT` where there is no such processor.
   */
  static open(path = "/dev/sev"): SevDevice {
    return new SevDevice(opened(native().openFile(path), "open", path), path);
  }
}
