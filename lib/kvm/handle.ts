/** What every KVM handle has: one descriptor, the door to its ioctls, and an end. */
import { KVM_ENABLE_CAP } from "../abi/generated/ioctls.ts";
import type { Ioctl } from "../abi/ioctl.ts";
import { KvmError, StateError } from "../errors.ts";
import type { NativeFd } from "../native.ts";
import "../trace/file.ts";
import { toLine } from "../trace/line.ts";
import { traceAnswer, traceCall, traceClose, traced } from "../trace/sink.ts";
import type { Traced } from "../trace/traced.ts";
import { type EnableCapInput, encodeEnableCap } from "./capability.ts";

const EINTR = 4;

/** What an ioctl may be given: an integer, or the bytes of its struct (changed in place). */
export type IoctlArgument = number | bigint | Uint8Array;

/** How to make the reason for a refusal, once it happened. */
export type Explain = (errno: number) => string | undefined;

/** What a refused call is reported with. */
export interface CallContext {
  /** What was sent, for the error, under KVM's own names. */
  readonly args?: Readonly<Record<string, unknown>>;
  /** Finds the reason after the kernel has refused. */
  readonly explain?: Explain;
  /** Lets a count reach past the argument's end, where an unmapped page begins. */
  readonly pastEnd?: boolean;
}

/**
 * An open KVM file descriptor.
 *
 * Each handle owns one descriptor and closes just that one. The kernel keeps a VM alive while its
 * VM, a vCPU or a device is still open, so any order of closing is safe.
 */
export abstract class Handle {
  /** What this handle is called in errors: `"/dev/kvm"`, `"vm"`, `"vcpu 0"`. */
  readonly label: string;
  /** What traces call it. @internal */
  protected readonly traced: Traced;
  #fd: NativeFd | undefined;

  /** Takes over a descriptor. */
  protected constructor(fd: NativeFd, label: string) {
    this.#fd = fd;
    this.label = label;
    this.traced = traced(fd, label);
  }

  /** Whether {@link close} was called. */
  get closed(): boolean {
    return this.#fd === undefined;
  }

  /** The descriptor, while it is open. */
  protected get fd(): NativeFd {
    if (this.#fd === undefined) throw new StateError("ERR_CLOSED", this.label);
    return this.#fd;
  }

  /**
   * Issues one ioctl with an argument of your own making, through the checked door: the bytes must
   * be as many as the struct has (and as its count says), their content is yours. The kernel's
   * answer is written into them.
   *
   * Ioctls whose struct holds an address cannot be sent this way; they have methods.
   *
   * @returns the kernel's result, zero or more.
   * @throws {@link KvmError} with the kernel's errno.
   */
  ioctl(ioctl: Ioctl, argument?: IoctlArgument, context: CallContext = {}): number {
    return this.expectNumber(ioctl, this.#call(ioctl, argument, context));
  }

  /** Issues an ioctl whose result is a new descriptor. */
  protected openFd(ioctl: Ioctl, argument: IoctlArgument, context: CallContext = {}): NativeFd {
    const answer = this.#call(ioctl, argument, context);
    if (typeof answer === "number") throw new TypeError(`${ioctl.name} returns no descriptor`);
    return answer;
  }

  /** Switches on a capability, for the handles that have KVM_ENABLE_CAP. */
  protected callEnableCap(input: EnableCapInput): void {
    const bytes = encodeEnableCap(input);
    const call = traceCall(this.traced, KVM_ENABLE_CAP, bytes);
    const answer = this.fd.enableCap(bytes);
    traceAnswer(call, answer);
    if (answer < 0) throw this.refusal("KVM_ENABLE_CAP", -answer, { args: { ...input } });
  }

  /** The error for a call that the kernel refused. */
  protected refusal(ioctl: string, errno: number, context: CallContext = {}): KvmError {
    return new KvmError({
      ioctl,
      fd: this.label,
      errno,
      reason: context.explain?.(errno),
      ...(context.args === undefined ? {} : { args: context.args }),
    });
  }

  /**
   * Lists the last calls of the VM that this handle belongs to (its vCPUs and devices share it), or
   * of /dev/kvm: a line each, as strace writes them. `console.log(vm.trace().join("\n"))`.
   */
  trace(): readonly string[] {
    return this.traced.ring.steps().map(toLine);
  }

  /**
   * Closes the descriptor. Views that it gave out become empty. Closing twice does nothing.
   */
  close(): void {
    const fd = this.#fd;
    this.#fd = undefined;
    if (fd !== undefined) traceClose(this.traced);
    fd?.close();
  }

  /** Closes the handle at the end of a `using` block. */
  [Symbol.dispose](): void {
    this.close();
  }

  #call(
    ioctl: Ioctl,
    argument: IoctlArgument | undefined,
    context: CallContext,
  ): number | NativeFd {
    const { fd } = this;
    const call = traceCall(this.traced, ioctl, argument);
    let answer = fd.ioctl(ioctl.request, argument, context.pastEnd ?? false);
    // A signal may end any ioctl (KVM_CREATE_VM takes long); only KVM_RUN has a meaning for it.
    while (answer === -EINTR && ioctl.name !== "KVM_RUN") {
      answer = fd.ioctl(ioctl.request, argument, context.pastEnd ?? false);
    }
    traceAnswer(call, answer);
    if (typeof answer === "number" && answer < 0) {
      throw this.refusal(ioctl.name, -answer, context);
    }
    return answer;
  }

  private expectNumber(ioctl: Ioctl, answer: number | NativeFd): number {
    if (typeof answer === "number") return answer;
    answer.close();
    throw new TypeError(`${ioctl.name} opens a descriptor: use the method that returns its handle`);
  }
}
