/**
 * What one boot says on its four serial ports: read as it comes, and kept only as far as somebody
 * needs it, so that no guest can fill the host's memory. What it means is machine.ts.
 */
import { LabError } from "../error.ts";
import { Control, type ControlLimits, type Word } from "./init.ts";
import { KernelLog } from "./kernel-log.ts";
import { PortBuffer, Tail } from "./port-buffer.ts";

/** Takes bytes. When it returns a promise, no more of them are read while that is pending. */
export type TakeBytes = (bytes: Buffer) => unknown;

/** Who hears what the guest says. */
export interface PortListeners {
  readonly onStdout?: TakeBytes;
  readonly onStderr?: TakeBytes;
  /** Takes each whole line of the kernel's log. */
  readonly onKernelLog?: (line: string) => void;
}

/** How many bytes a port may have; the defaults of ttyS0 and ttyS3 are kernel-log.ts's and init.ts's. */
export interface PortLimits {
  readonly log?: number;
  readonly control?: ControlLimits;
  /** Of each output of the command: when it is kept, when it is passed on, and what is kept then. */
  readonly kept: number;
  readonly passed: number;
  readonly tail: number;
}

/** Gives the limits of a boot whose command may print so many bytes; the usual number when left out. */
export function portLimits(mostOutput?: number): PortLimits {
  const tail = 64 * 2 ** 10;
  return { kept: mostOutput ?? 64 * 2 ** 20, passed: mostOutput ?? 2 ** 30, tail };
}

/** One boot's ports. */
export class Ports {
  readonly log: KernelLog;
  readonly stdout: Output;
  readonly stderr: Output;
  /** The files that are whole, by path. */
  readonly files: Map<string, Uint8Array> = new Map<string, Uint8Array>();
  #status: (Word & { readonly kind: "status" }) | undefined;
  #whyNoKvm: string | undefined;
  #isReady = false;
  #isEnded = false;
  readonly #control: Control;

  /** Begins before the first byte; `wanted` are paths in the guest as `guestPath` writes them. */
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
   * Takes what arrived on a port.
   *
   * @returns what the listener returned.
   * @throws {@link LabError} `ERR_LAB_GUEST` when it is too much or malformed; what was understood
   *   before remains.
   */
  hear(port: number, bytes: Buffer): unknown {
    if (port === 1) return this.stdout.push(bytes);
    if (port === 2) return this.stderr.push(bytes);
    if (port === 0) this.log.push(bytes);
    else for (const word of this.#control.push(bytes)) this.#take(word);
    return undefined;
  }

  /** How the command ended, if it did. */
  get status(): (Word & { readonly kind: "status" }) | undefined {
    return this.#status;
  }

  /** Why KVM could not be loaded, in the words of insmod; `undefined` if init did not say so. */
  get whyNoKvm(): string | undefined {
    return this.#whyNoKvm;
  }

  /** Whether the machine waits for its work. */
  get isReady(): boolean {
    return this.#isReady;
  }

  /** Whether init said its last word. */
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

/** One of the command's two outputs: passed on as it comes, or else kept. */
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

  /** How many bytes arrived. */
  get length(): number {
    return this.#length;
  }

  /** All of them; the last of them when they were passed on. A view. */
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
