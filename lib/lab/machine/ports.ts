/**
 * Reads the output of one boot on the machine's four serial ports. Only a limited number of bytes is stored, because a
 * guest could otherwise exhaust the host's memory. machine.ts interprets the output.
 */
import { LabError } from "../error.ts";
import { Control, type ControlLimits, type Word } from "./init.ts";
import { KernelLog } from "./kernel-log.ts";
import { PortBuffer, Tail } from "./port-buffer.ts";

/** Takes bytes. While a promise that the function returned is pending, no more bytes are read. */
export type TakeBytes = (bytes: Buffer) => unknown;

/** Functions that are called with the guest's output. */
export interface PortListeners {
  readonly onStdout?: TakeBytes;
  readonly onStderr?: TakeBytes;
  /** A function that is called with each complete line of the kernel's log. */
  readonly onKernelLog?: (line: string) => void;
}

/** The limits in bytes; kernel-log.ts and init.ts contain the defaults for ttyS0 and ttyS3. */
export interface PortLimits {
  readonly log?: number;
  readonly control?: ControlLimits;
  /**
   * The limits for each output of the command: one limit if the output is stored, and another limit if the output is
   * passed on. Of an output that is passed on, only a number of last bytes is stored.
   */
  readonly kept: number;
  readonly passed: number;
  readonly tail: number;
}

/** Returns the limits of a boot whose command may print `mostOutput` bytes; by default the usual limits. */
export function portLimits(mostOutput?: number): PortLimits {
  const tail = 64 * 2 ** 10;
  return { kept: mostOutput ?? 64 * 2 ** 20, passed: mostOutput ?? 2 ** 30, tail };
}

/** The ports of one boot. */
export class Ports {
  readonly log: KernelLog;
  readonly stdout: Output;
  readonly stderr: Output;
  /** The complete files that the guest has sent, by path. */
  readonly files: Map<string, Uint8Array> = new Map<string, Uint8Array>();
  #status: (Word & { readonly kind: "status" }) | undefined;
  #whyNoKvm: string | undefined;
  #isReady = false;
  #isEnded = false;
  readonly #control: Control;

  /** Creates the ports before the first byte; `wanted` are paths in the guest, normalised by `guestPath`. */
  constructor(
    wanted: readonly string[],
    { onStdout, onStderr, onKernelLog }: PortListeners = {},
    limits: PortLimits = portLimits(),
  ) {
    this.log = new KernelLog(onKernelLog, limits.log);
    this.#control = new Control(wanted, limits.control);
    this.stdout = new Output("stdout on ttyS1", onStdout, limits);
    this.stderr = new Output("stderr on ttyS2", onStderr, limits);
  }

  /**
   * Processes bytes of a port.
   *
   * @returns the result of the listener.
   * @throws {@link LabError} `ERR_LAB_GUEST` if they exceed a limit or are malformed; earlier results remain.
   */
  hear(port: number, bytes: Buffer): unknown {
    if (port === 1) return this.stdout.push(bytes);
    if (port === 2) return this.stderr.push(bytes);
    if (port === 0) this.log.push(bytes);
    else for (const word of this.#control.push(bytes)) this.#take(word);
    return undefined;
  }

  /** The command's status; `undefined` before the command has ended. */
  get status(): (Word & { readonly kind: "status" }) | undefined {
    return this.#status;
  }

  /** The message of insmod if KVM could not be loaded; `undefined` otherwise. */
  get whyNoKvm(): string | undefined {
    return this.#whyNoKvm;
  }

  /** Whether the machine waits for its work. */
  get isReady(): boolean {
    return this.#isReady;
  }

  /** Whether init has sent its last message. */
  get isEnded(): boolean {
    return this.#isEnded;
  }

  #take(word: Word): void {
    switch (word.kind) {
      case "status":
        this.#status = word;
        return;
      case "no-kvm":
        this.#whyNoKvm = word.why;
        return;
      case "file":
        this.files.set(word.path, word.bytes);
        return;
      case "ready":
        this.#isReady = true;
        return;
      case "end":
        this.#isEnded = true;
        return;
      case "up":
      case "beat":
      case "run":
      case "missing":
        return;
      default:
        word satisfies never;
    }
  }
}

/** One of the command's two outputs, which is either passed on or stored. */
class Output {
  #length = 0;
  readonly #name: string;
  readonly #most: number;
  readonly #onBytes: TakeBytes | undefined;
  readonly #kept: PortBuffer | Tail;

  constructor(name: string, onBytes: TakeBytes | undefined, limits: PortLimits) {
    this.#name = name;
    this.#onBytes = onBytes;
    this.#most = onBytes === undefined ? limits.kept : limits.passed;
    this.#kept = onBytes === undefined ? new PortBuffer(limits.kept) : new Tail(limits.tail);
  }

  /** The number of bytes that arrived. */
  get length(): number {
    return this.#length;
  }

  /** All bytes of the output, or the last bytes if the output was passed on. A view. */
  get bytes(): Buffer {
    const { buffer, byteOffset, length } = this.#kept.bytes;
    return Buffer.from(buffer, byteOffset, length);
  }

  push(bytes: Buffer): unknown {
    const taken = bytes.subarray(0, this.#most - this.#length);
    this.#length += taken.length;
    this.#kept.append(taken);
    const pending = this.#onBytes?.(taken);
    if (taken.length === bytes.length) return pending;
    const sentence = `the guest wrote more than ${this.#most} bytes to the command's ${this.#name}`;
    throw new LabError("ERR_LAB_GUEST", sentence);
  }
}
