/** The one place that makes a KvmError for a failed call: it gathers the evidence and asks explain/ why. */
import type { FdKind } from "../abi/ioctl.ts";
import { KvmError } from "../errors.ts";
import { type Evidence, explain } from "../explain/index.ts";
import { descriptorCounts } from "./descriptors.ts";

/** A call that failed, and what is known about it. */
export interface RefusedCall {
  /** The ioctl's name in C, or the system call's name. */
  readonly call: string;
  /** The object that was asked, as errors name it. */
  readonly label: string;
  /** The kernel's errno, positive. */
  readonly errno: number;
  /** What kind of handle was asked; none for system calls. */
  readonly kind?: FdKind | undefined;
  /** What was sent, under KVM's names; it becomes {@link KvmError.args}. */
  readonly args?: Readonly<Record<string, unknown>> | undefined;
  /** What explain/ may know beyond the arguments, such as the size of the file. */
  readonly facts?: Readonly<Record<string, unknown>> | undefined;
  /** The integer, or the bytes of the struct. */
  readonly argument?: number | bigint | Uint8Array | undefined;
  /** What fills the struct's addresses and descriptors. */
  readonly links?: readonly unknown[] | undefined;
  /** Whom to ask; nobody when left out. */
  readonly evidence?: (() => Evidence) | undefined;
  /** What the caller knows of the cause, where explain/ finds none; false: no reason is looked for. */
  readonly explain?: false | ((errno: number) => string | undefined) | undefined;
  /** Whether the handle explains its refused calls; {@link isExplained} when left out. */
  readonly isExplained?: boolean | undefined;
}

/** Whether this process explains refused calls: unless `$NODE_KVM_EXPLAIN` is 0. */
export function isExplained(): boolean {
  return process.env["NODE_KVM_EXPLAIN"] !== "0";
}

let isExplaining = false;

/** Makes the error for a failed call, with its reason if that can be found out. */
export function refused(refusal: RefusedCall): KvmError {
  const { call, label, errno, args = {} } = refusal;
  return new KvmError({ ioctl: call, fd: label, errno, args, reason: reasonOf(refusal) });
}

function reasonOf(refusal: RefusedCall): string | undefined {
  const { call, errno, kind, args = {}, facts, argument, links } = refusal;
  // A question that looks for a reason may be refused too; that refusal needs no reason.
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

/** Gathers the evidence; a handle that cannot give any does not hide the refusal. */
function gathered({ evidence }: RefusedCall): Evidence {
  try {
    return { ...evidence?.(), descriptors: descriptorCounts };
  } catch {
    return { descriptors: descriptorCounts };
  }
}
