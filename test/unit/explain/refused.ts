/** Refused calls with constructed evidence, and CPUID tables by feature, for the tests of reasons. */
import { constants } from "node:os";
import { IOCTLS } from "../../../lib/abi/generated/ioctls.ts";
import type { FdKind } from "../../../lib/abi/ioctl.ts";
import { type CpuidEntry2, type CpuidFieldName, CpuidTable } from "../../../lib/cpuid/index.ts";
import {
  type Evidence,
  everyRule,
  explain,
  type Refusal,
  type VmEvidence,
} from "../../../lib/explain/index.ts";

/** An argument: an integer, the struct's bytes, or named fields of a struct. */
type Sent = number | bigint | Uint8Array | Readonly<Record<string, unknown>>;

/** The number of an errno. */
export function errnoOf(name: string): number {
  const numbers: Readonly<Record<string, number>> = { ...constants.errno, EHWPOISON: 133 };
  const errno = numbers[name];
  if (errno === undefined) throw new Error(`no errno ${name}`);
  return errno;
}

/**
 * Returns the reason of a refused `KVM_X ERRNO`, or `KVM_X ERRNO kind` if several kinds of handle have the call.
 * explain() catches the exception of a rule; here it fails the test.
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

/** The refused call itself. */
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

/** Makes a VM whose capabilities have these values; no other capability is known. */
export function vmWith(
  capabilities: Readonly<Record<string, number>>,
  more: VmEvidence = {},
): Evidence {
  return { vm: { check: (name) => capabilities[name], ...more } };
}

/** Indexed leaves have their flag, as KVM wants it. */
const LEAVES: readonly Pick<CpuidEntry2, "function" | "index" | "flags" | "eax">[] = [
  { function: 0x1, index: 0, flags: 0, eax: 0 },
  { function: 0x7, index: 0, flags: 1, eax: 1 },
  { function: 0x7, index: 1, flags: 1, eax: 0 },
  { function: 0xd, index: 0, flags: 1, eax: 0 },
  { function: 0xd, index: 1, flags: 1, eax: 0 },
  { function: 0x8000_0000, index: 0, flags: 0, eax: 0x8000_0021 },
  { function: 0x8000_0001, index: 0, flags: 0, eax: 0 },
  { function: 0x8000_0008, index: 0, flags: 0, eax: 0x3028 },
  { function: 0x8000_0021, index: 0, flags: 0, eax: 0 },
];

/** A table with these features and with 40 bits of physical address. */
export function tableWith(...names: readonly CpuidFieldName[]): readonly CpuidEntry2[] {
  const values = Object.fromEntries(names.map((name) => [name, 1]));
  return Array.from(CpuidTable.from(LEAVES).with(values));
}

/** A vCPU with a table of these features, on a KVM that supports those and others. */
export function vcpuWith(
  features: readonly CpuidFieldName[],
  supported: readonly CpuidFieldName[] = features,
): Evidence {
  return {
    kvm: { supportedCpuid: () => tableWith(...supported) },
    vcpu: { id: 0, cpuid: () => tableWith(...features) },
  };
}

/** A vCPU that has no table yet. */
export function vcpuWithoutTable(supported: readonly CpuidFieldName[]): Evidence {
  return {
    kvm: { supportedCpuid: () => tableWith(...supported) },
    vcpu: { id: 0, cpuid: () => [] },
  };
}
