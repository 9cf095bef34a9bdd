/** Refused calls with constructed evidence, and CPUID tables with given features, for the tests of reasons. */
import { constants } from "node:os";
import { IOCTLS } from "../../../lib/abi/generated/ioctls.ts";
import type { FdKind } from "../../../lib/abi/ioctl.ts";
import type { CpuidEntry2, CpuidFieldName } from "../../../lib/cpuid/index.ts";
import {
  type Evidence,
  everyRule,
  explain,
  type Refusal,
  type VmEvidence,
} from "../../../lib/explain/index.ts";
import * as asked from "../oracle/asked.ts";

/** An argument: an integer, the bytes of a struct, or the named fields of a struct. */
type Sent = number | bigint | Uint8Array | Readonly<Record<string, unknown>>;

/** The number of an errno. */
export function errnoOf(name: string): number {
  const numbers: Readonly<Record<string, number>> = { ...constants.errno, EHWPOISON: 133 };
  const errno = numbers[name];
  if (errno === undefined) throw new Error(`no errno ${name}`);
  return errno;
}

/**
 * Returns the reason of a refused call. `call` is `KVM_X ERRNO`, or `KVM_X ERRNO kind` if several kinds of handle have
 * the ioctl. An exception of a rule reaches the test; explain() would catch the exception.
 */
export function why(
  call: string,
  sent: Sent = {},
  evidence: Evidence = {},
  links?: readonly unknown[],
): string | undefined {
  const refusal = refusalOf(call, sent, evidence, links);
  const [, errno] = call.split(" ");
  for (const [ioctl, code, , rule] of everyRule()) {
    if (code === errno && (ioctl === refusal.ioctl || ioctl === "any call")) rule(refusal);
  }
  return explain(refusal);
}

/** Returns the refused call itself. */
export function refusalOf(
  call: string,
  sent: Sent = {},
  evidence: Evidence = {},
  links?: readonly unknown[],
): Refusal {
  const [ioctl = "", errno = "", kind] = call.split(" ");
  const fd = kind ?? IOCTLS.find(({ name }) => name === ioctl)?.fds[0];
  const isNamed = typeof sent === "object" && !(sent instanceof Uint8Array);
  return {
    ioctl,
    errno: errnoOf(errno),
    fd: fd as FdKind | undefined,
    argument: isNamed ? undefined : sent,
    sent: isNamed ? sent : {},
    links,
    evidence,
  };
}

/** Creates evidence of a VM whose capabilities have these values; all other capabilities are unknown. */
export function vmWith(
  capabilities: Readonly<Record<string, number>>,
  more: VmEvidence = {},
): Evidence {
  return { vm: { check: (name) => capabilities[name], ...more } };
}

/** Creates the entries of a table with these features and 40 bits of physical address. */
export function tableWith(...names: readonly CpuidFieldName[]): readonly CpuidEntry2[] {
  return Array.from(asked.tableWith(...names));
}

/** Creates evidence of a vCPU with a table of these features, on a KVM that supports these and other features. */
export function vcpuWith(
  features: readonly CpuidFieldName[],
  supported: readonly CpuidFieldName[] = features,
): Evidence {
  return {
    kvm: { supportedCpuid: () => tableWith(...supported) },
    vcpu: { id: 0, cpuid: () => tableWith(...features) },
  };
}

/** Evidence of a vCPU that has no table yet. */
export function vcpuWithoutTable(supported: readonly CpuidFieldName[]): Evidence {
  return {
    kvm: { supportedCpuid: () => tableWith(...supported) },
    vcpu: { id: 0, cpuid: () => [] },
  };
}
