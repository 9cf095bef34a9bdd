/** What goes wrong: the kernel's refusals and our own. Why it refused is explain/. */
import { getSystemErrorName } from "node:util";
import { inspectErrorAs } from "./inspect.ts";
import { describe, refuseMisfit } from "./options.ts";

const EHWPOISON = 133;

/** Says an errno by its C name: `22` is `"EINVAL"`. An unknown one is `"errno 4095"`. */
export function errnoName(errno: number): string {
  // libuv, which Node asks, has no EHWPOISON and calls 95 by its other name; KVM's documents don't.
  if (errno === EHWPOISON) return "EHWPOISON";
  if (errno === 95) return "EOPNOTSUPP";
  // Above Linux's last, libuv has names of its own: 4095 is its EOF.
  const isKnown = Number.isInteger(errno) && errno > 0 && errno < EHWPOISON;
  const name = isKnown ? getSystemErrorName(-errno) : "Unknown";
  return name.startsWith("Unknown") ? `errno ${errno}` : name;
}

/** What {@link KvmError} is made from. */
export interface KvmErrorInit {
  /** The call: an ioctl's name, or `open`, `mmap`. */
  readonly ioctl: string;
  /** The object it was for: `/dev/kvm`, `vm`, `vcpu 0`. */
  readonly fd: string;
  /** The kernel's errno, positive. */
  readonly errno: number;
  /** What was sent, by KVM's own names. */
  readonly args?: Readonly<Record<string, unknown>>;
  /** Why, in a sentence, when it is known. */
  readonly reason?: string | undefined;
}

/**
 * A call that the kernel refused.
 *
 * The message names the call, the object and the errno, and the reason when it is known:
 * `KVM_SET_CPUID2 (vcpu 0): EINVAL: the table changed after KVM_RUN: 0x7.0:ebx[5] avx2: ran with 1, got 0`.
 */
export class KvmError extends Error {
  override readonly name: string = "KvmError";
  /** The ioctl's name in C, such as `"KVM_SET_CPUID2"`; `"open"` and `"mmap"` for those calls. */
  readonly ioctl: string;
  /** The object that was asked: `"/dev/kvm"`, `"vm"`, `"vcpu 0"`. */
  readonly fd: string;
  /** The kernel's errno, a positive number. */
  readonly errno: number;
  /** The errno's C name: `"EINVAL"`. */
  readonly code: string;
  /** What was sent, under KVM's own names. */
  readonly args: Readonly<Record<string, unknown>>;
  /** Why the kernel refused, in a sentence; `undefined` when we do not know. */
  readonly reason: string | undefined;

  /** Makes the error for a refused call. */
  constructor(init: KvmErrorInit) {
    refuseMisfit("new KvmError()", init, ["ioctl", "fd", "errno"], ["args", "reason"]);
    const code = errnoName(init.errno);
    super(
      `${init.ioctl} (${init.fd}): ${code}${init.reason === undefined ? "" : `: ${init.reason}`}`,
    );
    this.ioctl = init.ioctl;
    this.fd = init.fd;
    this.errno = init.errno;
    this.code = code;
    this.args = init.args ?? {};
    this.reason = init.reason;
  }

  static {
    inspectErrorAs(KvmError, ["reason"]);
  }
}

/** Every code of {@link StateError}, with what it means; `docs/errors.md` lists the same. */
export const STATE_ERRORS = {
  ERR_CLOSED: "the handle was closed",
  ERR_RUNNING: "the vCPU runs on a thread of its own; end that run first (abort it, or `kick()`)",
  ERR_PAUSED: "the VM is paused; `vm.resume()` first",
  ERR_ANSWERED: "this exit was answered before, or its vCPU has run on",
  ERR_UNANSWERED: "this exit came while another was completed, and nobody was there to answer it",
  ERR_PRIVATE:
    "its pages belong to the guest alone: it was made without GUEST_MEMFD_FLAG_INIT_SHARED",
} as const;

/** A code of {@link StateError}. */
export type StateErrorCode = keyof typeof STATE_ERRORS;

/** The library was used wrongly; it is not the kernel that refuses. */
export class StateError extends Error {
  override readonly name: string = "StateError";
  /** Which rule was broken; see {@link STATE_ERRORS}. */
  readonly code: StateErrorCode;

  /** Makes the error; `detail` names the object. */
  constructor(code: StateErrorCode, detail: string) {
    if (!Object.hasOwn(STATE_ERRORS, code)) {
      const known = Object.keys(STATE_ERRORS).join(", ");
      throw new TypeError(`new StateError(): use a code of ${known}; got ${describe(code)}`);
    }
    super(`${detail}: ${STATE_ERRORS[code]}`);
    this.code = code;
  }
}
