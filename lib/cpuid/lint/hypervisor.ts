/** Lint rules about the interfaces of other hypervisors: Hyper-V and Xen, and several interfaces in one table. */
import { pairFaults } from "./dependencies.ts";
import type { LintFault, LintRule } from "./rule.ts";
import { isFlagged, type LintTable, setBits } from "./table.ts";

const hex = (value: number): string => `0x${value.toString(16)}`;

const FIRST = 0x4000_0000;
const LAST_BASE = 0x4000_ff00;
const HV_INTERFACE = 0x3123_7648;

/** The vendor texts of Hyper-V's first leaf, as EBX, ECX, EDX: "Microsoft Hv" and KVM's "Linux KVM Hv". */
const HV_VENDORS: readonly (readonly number[])[] = [
  [0x7263_694d, 0x666f_736f, 0x7648_2074],
  [0x756e_694c, 0x564b_2078, 0x7648_204d],
];

/** Signatures of hypervisors that have their own range of leaves, as EBX, ECX, EDX. */
const OTHERS: Readonly<Record<string, readonly number[]>> = {
  KVM: [0x4b4d_564b, 0x564b_4d56, 0x4d],
  Xen: [0x566e_6558, 0x6558_4d4d, 0x4d4d_566e],
  VMware: [0x6177_4d56, 0x4d56_6572, 0x6572_6177],
  ACRN: [0x4e52_4341, 0x4e52_4341, 0x4e52_4341],
};

function hasSignature(table: LintTable, fn: number, wanted: readonly number[]): boolean {
  const e = table.leaf(fn);
  return e !== undefined && [e.ebx, e.ecx, e.edx].every((word, i) => word === wanted[i]);
}

/** Whether a range of leaves begins with the signature of a known hypervisor. */
export function isKnownBlock(table: LintTable, base: number): boolean {
  const all = [...HV_VENDORS, ...Object.values(OTHERS)];
  return all.some((wanted) => hasSignature(table, base, wanted));
}

const nameAt = (table: LintTable, fn: number): string | undefined =>
  Object.keys(OTHERS).find((name) => hasSignature(table, fn, OTHERS[name] ?? []));

function hyperVFaults(table: LintTable): readonly LintFault[] {
  if (!HV_VENDORS.some((vendor) => hasSignature(table, FIRST, vendor))) return [];
  const [first, second] = [table.leaf(FIRST), table.leaf(FIRST + 1)];
  const faults: LintFault[] = [];
  if (second?.eax !== HV_INTERFACE) {
    const at = table.find(FIRST + 1);
    const place = at < 0 ? table.absentPlace(FIRST + 1) : table.bitsPlace(at, "eax");
    const fix = at < 0 ? undefined : [setBits(at, "eax", 0, 31, HV_INTERFACE)];
    faults.push({
      place,
      words: 'is not "Hv#1", so the guest does not use Hyper-V\'s interface',
      fix,
    });
  }
  const isOutside = first !== undefined && first.eax > FIRST + 0xff;
  if (first !== undefined && !isOutside && first.eax < FIRST + 5) {
    const words = `is ${hex(first.eax)}, but Hyper-V's interface has leaves up to ${hex(FIRST + 5)}`;
    faults.push({ place: table.bitsPlace(table.find(FIRST), "eax"), words });
  }
  return faults;
}

function sharedBlocks(table: LintTable): readonly LintFault[] {
  const faults: LintFault[] = [];
  const second = table.leaf(FIRST + 1);
  const name = nameAt(table, FIRST);
  if (name !== undefined && second?.eax === HV_INTERFACE) {
    const words = `has Hyper-V's interface, but the block's signature is ${name}'s`;
    faults.push({ place: table.bitsPlace(table.find(FIRST + 1), "eax"), words });
  }
  const seen = new Map<string, number>();
  for (const fn of table.functions) {
    if (fn < FIRST || fn > LAST_BASE || (fn & 0xff) !== 0) continue;
    const own = nameAt(table, fn);
    if (own === undefined) continue;
    const earlier = seen.get(own);
    if (earlier === undefined) seen.set(own, fn);
    else {
      const words = `repeats ${own}'s signature of ${hex(earlier)}, which guests find first`;
      faults.push({ place: table.entryPlace(table.find(fn)), words });
    }
  }
  return faults;
}

function xenFaults(table: LintTable): readonly LintFault[] {
  const base = table.base("xen");
  if (base === undefined) return [];
  const max = table.read("xen_max_leaf");
  const faults: LintFault[] = [];
  if (max >= base && max < base + 2) {
    const words = `is ${hex(max)}, but the hypercall page is in leaf ${hex(base + 2)}`;
    faults.push({
      place: table.place("xen_max_leaf"),
      words,
      fix: table.set("xen_max_leaf", base + 2),
    });
  }
  for (const position of table.positions(base + 3)) {
    const e = table.entries[position];
    if (e === undefined) continue;
    const place = table.entryPlace(position);
    if (e.index > 2) {
      faults.push({ place, words: "is above sub-leaf 2, the last sub-leaf of Xen's time leaf" });
    } else if (!isFlagged(e) && e.index === 0) {
      const words =
        "has no KVM_CPUID_FLAG_SIGNIFCANT_INDEX, so the guest reads it for all three sub-leaves";
      faults.push({ place, words, fix: [{ kind: "flags", position, mask: 1, value: 1 }] });
    }
  }
  return faults;
}

/** The rules about the interfaces of hypervisors except KVM. */
export const HYPERVISOR_RULES: readonly LintRule[] = [
  {
    id: "H01",
    severity: "error",
    title: "Hyper-V's vendor is followed by its interface and leaves up to 0x40000005",
    source: "Hyper-V TLFS, 2.4: leaf 0x40000001 has the signature Hv#1",
    remedy: "Set 0x40000001:eax to 0x31237648 and add Hyper-V's leaves, or remove the vendor",
    check: hyperVFaults,
  },
  {
    id: "H02",
    severity: "warning",
    title: "A Hyper-V feature needs the other Hyper-V feature that it uses",
    source: "Hyper-V TLFS, 2.4, and its chapters on timers, interrupts and nested virtualization",
    remedy: "Set the needed feature, or clear the feature that needs it",
    check: (table) => pairFaults(table, "H02"),
  },
  {
    id: "H03",
    severity: "warning",
    title: "No two interfaces share a block, and no interface occurs twice",
    source: "cpuid_base_hypervisor of Linux: a guest uses the first block with the signature",
    remedy: "Move one interface to the next block of 0x100 leaves",
    check: sharedBlocks,
  },
  {
    id: "H04",
    severity: "warning",
    title: "Xen's maximum includes its hypercall leaf, and its time leaf has sub-leaves 0 to 2",
    source: "arch-x86/cpuid.h of Xen's public headers",
    remedy: "Set EAX of Xen's first leaf to base + 2 or more, and flag the time leaf's entries",
    check: xenFaults,
  },
];
