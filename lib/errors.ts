/** The error classes and their codes. explain/ finds the reasons for errors of the kernel. */
import { constants } from "node:os";
import { getSystemErrorName } from "node:util";
import { inspectErrorAs } from "./inspect.ts";
import { describe, refuseMisfit } from "./options.ts";

/** The last errno of Linux; Node's own table does not have it. */
export const EHWPOISON = 133;

/** Returns the C name of an errno: `22` is `"EINVAL"`. An unknown errno is `"errno 4095"`. */
export function errnoName(errno: number): string {
  // libuv, which Node uses, does not know EHWPOISON and has another name for EOPNOTSUPP than KVM's documents.
  if (errno === EHWPOISON) return "EHWPOISON";
  if (errno === constants.errno.EOPNOTSUPP) return "EOPNOTSUPP";
  // Above Linux's highest errno, libuv has its own names, which are not Linux's: 4095 is libuv's EOF.
  const isKnown = Number.isInteger(errno) && errno > 0 && errno < EHWPOISON;
  const name = isKnown ? getSystemErrorName(-errno) : "Unknown";
  return name.startsWith("Unknown") ? `errno ${describe(errno)}` : name;
}

/** The data from which a {@link KvmError} is created. */
export interface KvmErrorInput {
  /** The call's name in C: the name of an ioctl (`KVM_SET_CPUID2`) or of a system call (`open`, `mmap`, `tgkill`). */
  readonly call: string;
  /** The object of the call: `/dev/kvm`, `vm`, `vcpu 0`. */
  readonly object: string;
  /** The kernel's errno, positive. */
  readonly errno: number;
  /** The arguments, under KVM's names. */
  readonly args?: Readonly<Record<string, unknown>>;
  /** The cause in a sentence, if it is known. */
  readonly reason?: string | undefined;
}

/**
 * Reports a call that the kernel failed.
 *
 * The message has the call, the object, the errno and, if it is known, the reason: `KVM_SET_CPUID2 (vcpu 0): EINVAL:
 * the table changed after KVM_RUN: 0x7.0:ebx[5] avx2: ran with 1, got 0`.
 */
export class KvmError extends Error {
  override readonly name: string = "KvmError";
  /**
   * The call's name in C: the name of an ioctl (`"KVM_SET_CPUID2"`) or of a system call (`"open"`, `"mmap"`,
   * `"tgkill"`).
   */
  readonly call: string;
  /** The object of the call: `"/dev/kvm"`, `"vm"`, `"vcpu 0"`. */
  readonly object: string;
  /** The kernel's errno, a positive number. */
  readonly errno: number;
  /** The errno's C name: `"EINVAL"`. */
  readonly code: string;
  /** The arguments, under KVM's names. */
  readonly args: Readonly<Record<string, unknown>>;
  /** The cause of the failure in a sentence; `undefined` if it is not known. */
  readonly reason: string | undefined;

  /** Creates the error of a failed call. */
  constructor(init: KvmErrorInput) {
    refuseMisfit("new KvmError()", init, ["call", "object", "errno"], ["args", "reason"]);
    const code = errnoName(init.errno);
    super(
      `${init.call} (${init.object}): ${code}${init.reason === undefined ? "" : `: ${init.reason}`}`,
    );
    this.call = init.call;
    this.object = init.object;
    this.errno = init.errno;
    this.code = code;
    this.args = init.args ?? {};
    this.reason = init.reason;
  }

  static {
    inspectErrorAs(KvmError, ["reason"]);
  }
}

/** The codes of {@link StateError} and their meanings; `docs/errors.md` has the same text. */
export const STATE_ERRORS = {
  ERR_CLOSED: "the handle was closed",
  ERR_RUNNING:
    "a run of this vCPU is in progress on its own thread; interrupt it first (abort it, or `kick()`)",
  ERR_PAUSED: "the VM is paused; `vm.resume()` first",
  ERR_ANSWERED: "this exit was answered before, or its vCPU has run since",
  ERR_UNANSWERED: "completing an exit caused this one, and no function was passed to answer it",
  ERR_PRIVATE:
    "its pages are private to the guest: it was created without GUEST_MEMFD_FLAG_INIT_SHARED",
} as const;

/** A code of {@link StateError}. */
export type StateErrorCode = keyof typeof STATE_ERRORS;

/** Reports a wrong use of this package that the package itself has detected, without a call of the kernel. */
export class StateError extends Error {
  override readonly name: string = "StateError";
  /** The broken rule; see {@link STATE_ERRORS}. */
  readonly code: StateErrorCode;

  /** Creates the error; `detail` names the object. */
  constructor(code: StateErrorCode, detail: string) {
    if (!Object.hasOwn(STATE_ERRORS, code)) {
      const known = Object.keys(STATE_ERRORS).join(", ");
      throw new TypeError(`new StateError(): use a code of ${known}; got ${describe(code)}`);
    }
    super(`${detail}: ${STATE_ERRORS[code]}`);
    this.code = code;
  }
}

/** Reports that the addon cannot be loaded; the message has the cause and the remedy. */
export class AddonError extends Error {
  override readonly name: string = "AddonError";
}
