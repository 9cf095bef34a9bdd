/**
 * Builds one vCPU's table from the entries that KVM supports, and lists the bits that KVM overwrites. Fields are
 * table.ts.
 */
import { refuseUnknown, toList } from "../options.ts";
import { apicIdBits, apicIdPlace, checkApicId } from "./apic-id.ts";
import type { CpuidChange } from "./diff.ts";
import type { CpuidEntry2Input, CpuidRegister } from "./entry.ts";
import { type CpuidSpace, hasSubleaves, writeField } from "./field.ts";
import { CpuidTable } from "./table.ts";

/** The options of {@link fromSupported}. */
export interface FromSupportedOptions {
  /** The vCPU's APIC id, which is its KVM_CREATE_VCPU number; 0 by default. */
  readonly apicId?: number;
}

/**
 * Makes one vCPU's table from the entries of KVM_GET_SUPPORTED_CPUID. These have the APIC id of the CPU that made the
 * ioctl, so two calls may differ. This sets `apicId` in 0x1:ebx[31:24] (its low eight bits), in edx of every 0xb, 0x1f
 * and 0x80000026, and in eax of 0x8000001e, where they exist. Everything else is unchanged, including order and flags.
 *
 * @throws TypeError for an unknown option; RangeError for an `apicId` that is not a u32.
 */
export function fromSupported(
  entries: Iterable<CpuidEntry2Input>,
  options: FromSupportedOptions = {},
): CpuidTable {
  refuseUnknown("fromSupported()", options, ["apicId"]);
  const { apicId = 0 } = options;
  checkApicId("apicId", apicId);
  return CpuidTable.from(toList("fromSupported()", entries)).map((e) => {
    const place = apicIdPlace(e);
    if (place === undefined) return e;
    const { register, low, high } = place;
    return { ...e, [register]: writeField(e[register], low, high, apicIdBits(place, apicId)) };
  });
}

/**
 * Describes bits that KVM writes into a stored table itself, so that a vCPU's table may differ from the one that was
 * set.
 */
export interface KvmOwned {
  /** The space of `function`. */
  readonly space: CpuidSpace;
  /** The leaf, relative to the base of `space`. */
  readonly function: number;
  /** The sub-leaf. */
  readonly index: number;
  readonly register: CpuidRegister;
  readonly low: number;
  readonly high: number;
  /** The value that KVM writes. */
  readonly becomes: string;
  /** The condition, and the kernels. */
  readonly condition: string;
}

const SGX_CONDITION = "kernel 6.1 only, if leaf 0x12.1 exists";
const XEN_CONDITION =
  "a Xen signature whose limit reaches base + 3; written at entry to the guest on 6.12 and 6.14, " +
  "only into the guest's CPUID result from 6.17";

/**
 * Lists the bits that KVM rewrites in a stored table, with the condition (arch/x86/kvm/cpuid.c, 6.1 to 7.2; observed).
 * All other bits are stored unchanged. A suite that knows its VM filters this list by its conditions.
 */
export const KVM_OWNED: readonly KvmOwned[] = [
  {
    space: "native",
    function: 0x1,
    index: 0,
    register: "ecx",
    low: 27,
    high: 27,
    becomes: "CR4.OSXSAVE",
    condition: "leaf 1 exists; before 6.14 only if the host has XSAVE",
  },
  {
    space: "native",
    function: 0x1,
    index: 0,
    register: "edx",
    low: 9,
    high: 9,
    becomes: "APIC_BASE.EN",
    condition: "leaf 1 exists",
  },
  {
    space: "native",
    function: 0x1,
    index: 0,
    register: "ecx",
    low: 3,
    high: 3,
    becomes: "MISC_ENABLE[18]",
    condition: "only with the quirk MISC_ENABLE_NO_MWAIT disabled on the VM",
  },
  {
    space: "native",
    function: 0x7,
    index: 0,
    register: "ecx",
    low: 4,
    high: 4,
    becomes: "CR4.PKE",
    condition: "leaf 0x7.0 exists; before 6.14 only if the host has PKU",
  },
  {
    space: "native",
    function: 0xd,
    index: 0,
    register: "ebx",
    low: 0,
    high: 31,
    becomes: "the XSAVE size for XCR0",
    condition: "leaf 0xd.0 exists",
  },
  {
    space: "native",
    function: 0xd,
    index: 1,
    register: "ebx",
    low: 0,
    high: 31,
    becomes: "the compacted XSAVE size for XCR0, on 7.2 also for IA32_XSS",
    condition: "0xd.1:eax has xsavec or xsaves in the guest's table",
  },
  {
    space: "kvm",
    function: 0x1,
    index: 0,
    register: "eax",
    low: 7,
    high: 7,
    becomes: "0",
    condition: "a KVM signature exists and HLT exits are disabled on the VM (kvm_pv_unhalt)",
  },
  {
    space: "native",
    function: 0x12,
    index: 1,
    register: "ecx",
    low: 0,
    high: 31,
    becomes: "itself, masked with the guest's supported XCR0, with bits 0 and 1 set",
    condition: SGX_CONDITION,
  },
  {
    space: "native",
    function: 0x12,
    index: 1,
    register: "edx",
    low: 0,
    high: 31,
    becomes: "itself, masked with the guest's supported XCR0",
    condition: SGX_CONDITION,
  },
  {
    space: "xen",
    function: 0x3,
    index: 1,
    register: "ecx",
    low: 0,
    high: 31,
    becomes: "the multiplier from TSC to nanoseconds",
    condition: XEN_CONDITION,
  },
  {
    space: "xen",
    function: 0x3,
    index: 1,
    register: "edx",
    low: 0,
    high: 31,
    becomes: "the shift from TSC to nanoseconds",
    condition: XEN_CONDITION,
  },
  {
    space: "xen",
    function: 0x3,
    index: 2,
    register: "eax",
    low: 0,
    high: 31,
    becomes: "the TSC frequency in kHz",
    condition: XEN_CONDITION,
  },
];

/**
 * Whether KVM may make a change by itself: a field change whose bits are all in one item of `owned`. Pass a filtered
 * list to exclude changes that are impossible on a VM, such as MWAIT without the quirk.
 */
export function isOwned(change: CpuidChange, owned: Iterable<KvmOwned> = KVM_OWNED): boolean {
  if (change.kind !== "field") return false;
  const relative = change.space === "native" ? change.function : change.function & 0xff;
  return [...owned].some(
    (item) =>
      item.space === change.space &&
      item.function === relative &&
      (item.index === change.index || !hasSubleaves(item.space, item.function)) &&
      item.register === change.register &&
      item.low <= change.low &&
      change.high <= item.high,
  );
}
