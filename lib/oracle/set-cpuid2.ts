/**
 * The rules of KVM_SET_CPUID2, before and after the first entry to the guest. runtime-bits.ts has the bits that KVM
 * changes itself.
 */
import { KVM_MAX_CPUID_ENTRIES } from "../abi/limits.ts";
import { type CpuidChange, diff } from "../cpuid/diff.ts";
import type { CpuidEntry2, CpuidEntry2Input } from "../cpuid/entry.ts";
import { CpuidTable } from "../cpuid/table.ts";
import { isOwned } from "./runtime-bits.ts";
import { type Rules, refused } from "./verdict.ts";

/** The widths of virtual addresses that KVM accepts; 0 means that the table does not contain a width. */
export const VIRTUAL_ADDRESS_WIDTHS: readonly number[] = [0, 48, 57];

/** The leaf with the address widths. KVM reads the first entry of this leaf, and ignores the entry's index. */
export const WIDTH_LEAF = 0x8000_0008;

/**
 * XFEATURE_XTILE_DATA: the bit of AMX tile data in leaf 0xD.0:eax. This component requires a permission of the process.
 */
export const XTILE_DATA = 18;

/**
 * A table for KVM_SET_CPUID2 or KVM_SET_CPUID. An undefined member is unknown. A member may be a getter, which gathers
 * its value only if a rule reads it.
 */
export interface SetCpuidAsked {
  /** The count of entries that was passed to the kernel. */
  readonly nent: number | undefined;
  readonly entries: readonly CpuidEntry2Input[] | undefined;
  /**
   * Whether the vCPU has entered the guest. After the first entry, KVM only compares the table with the current one.
   */
  readonly hasEntered: boolean | undefined;
  /** Whether KVM_RUN was called. */
  readonly hasRun: boolean | undefined;
  /** The vCPU's table: the table that was last set or read. The table does not contain later changes by KVM. */
  readonly given: readonly CpuidEntry2Input[] | undefined;
}

/** A finding about a CPUID table. */
export type SetCpuidFinding =
  | { readonly kind: "too-many-entries"; readonly nent: number; readonly most: number }
  | { readonly kind: "missing-entries"; readonly nent: number; readonly sent: number }
  | { readonly kind: "no-amx-permission"; readonly bit: number }
  | {
      readonly kind: "virtual-address-width";
      readonly width: number;
      readonly allowed: readonly number[];
    }
  | {
      readonly kind: "changed-table";
      /** All differences between the vCPU's table and the passed table. */
      readonly changes: readonly CpuidChange[];
      /**
       * The differences, except those in bits that KVM changes itself. If the list is empty, the evidence does not
       * contain the difference that KVM found.
       */
      readonly culprits: readonly CpuidChange[];
    };

/** Returns the width of virtual addresses in an entry of leaf 0x80000008; 0 without the entry. */
export function widthIn(leaf: Pick<CpuidEntry2, "eax"> | undefined): number {
  return ((leaf?.eax ?? 0) >>> 8) & 0xff;
}

function judgeWidth(entries: readonly CpuidEntry2Input[]): SetCpuidFinding | undefined {
  const width = widthIn(CpuidTable.from(entries).find(WIDTH_LEAF));
  return VIRTUAL_ADDRESS_WIDTHS.includes(width)
    ? undefined
    : { kind: "virtual-address-width", width, allowed: VIRTUAL_ADDRESS_WIDTHS };
}

function judgePermission(entries: readonly CpuidEntry2Input[]): SetCpuidFinding | undefined {
  const components = CpuidTable.from(entries).find(0xd, 0)?.eax ?? 0;
  return (components & (1 << XTILE_DATA)) === 0
    ? undefined
    : { kind: "no-amx-permission", bit: XTILE_DATA };
}

function judgeChanges(
  given: readonly CpuidEntry2Input[],
  entries: readonly CpuidEntry2Input[],
): SetCpuidFinding {
  const changes = diff(CpuidTable.from(given), CpuidTable.from(entries));
  const culprits = changes.filter((change) => !isOwned(change));
  return { kind: "changed-table", changes, culprits };
}

/** The rules of KVM_SET_CPUID2 and KVM_SET_CPUID, by the errno. */
export const SET_CPUID_RULES: Readonly<
  Record<"E2BIG" | "EFAULT" | "EPERM" | "EINVAL", Rules<SetCpuidAsked, SetCpuidFinding>>
> = {
  E2BIG: {
    "too many entries": {
      source: "arch/x86/kvm/cpuid.c:kvm_vcpu_ioctl_set_cpuid2",
      isOnlySource: true,
      judge: ({ nent }) =>
        refused(
          nent === undefined
            ? undefined
            : { kind: "too-many-entries", nent, most: KVM_MAX_CPUID_ENTRIES },
        ),
    },
  },
  EFAULT: {
    "count past the entries": {
      source: "arch/x86/kvm/cpuid.c:kvm_vcpu_ioctl_set_cpuid2",
      judge: ({ nent = 0, entries }) =>
        refused(
          entries && nent > entries.length
            ? { kind: "missing-entries", nent, sent: entries.length }
            : undefined,
        ),
    },
  },
  EPERM: {
    "AMX without permission": {
      source: "arch/x86/kernel/fpu/xstate.c:fpu_enable_guest_xfd_features",
      isOnlySource: true,
      judge: ({ entries }) => refused(entries && judgePermission(entries)),
    },
  },
  EINVAL: {
    "address width": {
      source: "arch/x86/kvm/cpuid.c:kvm_check_cpuid",
      judge: (asked) =>
        refused(
          asked.hasEntered === true || !asked.entries ? undefined : judgeWidth(asked.entries),
        ),
    },
    "table of a vCPU that has run": {
      source: "arch/x86/kvm/cpuid.c:kvm_cpuid_check_equal",
      judge: (asked) => {
        const { entries } = asked;
        const given = asked.hasRun === true ? asked.given : undefined;
        return refused(given && entries && judgeChanges(given, entries));
      },
    },
  },
};

/** A finding about the number of entries that a buffer for a CPUID table can hold. */
export interface GetCpuidFinding {
  readonly kind: "too-few-entries";
  readonly nent: number;
}

/** The rule of the ioctls that return a CPUID table: the buffer must have room for all entries (E2BIG). */
export const GET_CPUID_RULES: Rules<Pick<SetCpuidAsked, "nent">, GetCpuidFinding> = {
  "too little room": {
    source: "arch/x86/kvm/cpuid.c:kvm_vcpu_ioctl_get_cpuid2, kvm_dev_ioctl_get_cpuid",
    isOnlySource: true,
    judge: ({ nent }) =>
      refused(nent === undefined ? undefined : { kind: "too-few-entries", nent }),
  },
};
