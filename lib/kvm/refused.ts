/** Creates the KvmError of every failed call: gathers evidence, and gets the reason from explain/. */
import type { FdKind } from "../abi/ioctl.ts";
import { KvmError } from "../errors.ts";
import { type Evidence, explain } from "../explain/index.ts";
import { descriptorCounts } from "./descriptors.ts";

/** A failed call, with the data for its error. */
export interface RefusedCall {
  /** The ioctl's name in C, or the system call's name. */
  readonly call: string;
  /** The name of the call's object in errors. */
  readonly label: string;
  /** The kernel's errno as a positive number. */
  readonly errno: number;
  /** The kind of the descriptor; undefined for a system call that is not an ioctl. */
  readonly kind?: FdKind | undefined;
  /** The arguments, under KVM's names; they become {@link KvmError.args}. */
  readonly args?: Readonly<Record<string, unknown>> | undefined;
  /** Additional facts for explain/ that are not arguments, such as the size of a file. */
  readonly facts?: Readonly<Record<string, unknown>> | undefined;
  /** The argument of the ioctl: the integer, or the bytes of the struct. */
  readonly argument?: number | bigint | Uint8Array | undefined;
  /** The values for the struct's addresses and descriptors. */
  readonly links?: readonly unknown[] | undefined;
  /** Gathers the evidence; if omitted, no ioctl is issued. */
  readonly evidence?: (() => Evidence) | undefined;
  /** The reason that the error states if explain/ finds none; false turns reasons off. */
  readonly explain?: false | ((errno: number) => string | undefined) | undefined;
  /** Whether the handle explains its failed calls; {@link isExplained} if omitted. */
  readonly isExplained?: boolean | undefined;
}

/** Whether this process explains failed calls: true unless `$NODE_KVM_EXPLAIN` is 0. */
export function isExplained(): boolean {
  return process.env["NODE_KVM_EXPLAIN"] !== "0";
}

let isExplaining = false;

/** Creates the error of a failed call, with its reason if explain/ finds one. */
export function refused(refusal: RefusedCall): KvmError {
  const { call, label, errno, args = {} } = refusal;
  return new KvmError({ call, object: label, errno, args, reason: reasonOf(refusal) });
}

function reasonOf(refusal: RefusedCall): string | undefined {
  const { call, errno, kind, args = {}, facts, argument, links } = refusal;
  // An ioctl that gathers evidence may also fail. The error of such an ioctl needs no reason.
  if (isExplaining || refusal.explain === false) return undefined;
  isExplaining = true;
  try {
    const evidence = gathered(refusal);
    const sent = facts === undefined ? args : { ...args, ...facts };
    const reason =
      (refusal.isExplained ?? isExplained())
        ? explain({ ioctl: call, fd: kind, errno, argument, sent, links, evidence })
        : undefined;
    return reason ?? refusal.explain?.(errno);
  } finally {
    isExplaining = false;
  }
}

/** Gathers the evidence. If gathering fails, the original error is still reported. */
function gathered({ evidence }: RefusedCall): Evidence {
  try {
    return { ...evidence?.(), descriptors: descriptorCounts };
  } catch {
    return { descriptors: descriptorCounts };
  }
}
