/**
 * Sets the hypervisor interfaces of a table: their signatures, their bases at 0x40000000 + n * 0x100, and the
 * hypervisor bit.
 */
import { describe, suggestion, toList } from "../options.ts";
import type { CpuidEntry2Input } from "./entry.ts";
import { packed, withLeaf } from "./leaf.ts";
import { CpuidTable, refuseNonTable } from "./table.ts";

/** The name of a hypervisor interface. */
export type CpuidHypervisor = "kvm" | "hyperv" | "xen";

/** The leaves of a new interface, relative to its base. */
type Block = readonly Omit<CpuidEntry2Input, "index" | "flags">[];

/** Returns a register with the bits of the named fields set. */
const bits = (...set: readonly number[]): number =>
  packed(set.map((bit) => [bit, bit, 1] as const));

/**
 * The leaves of new interfaces. The base is added to EAX of the first leaf, which is the highest leaf of the interface.
 *
 * Sources: for KVM, arch/x86/include/uapi/asm/kvm_para.h, with the features that KVM_GET_SUPPORTED_CPUID of 7.2
 * reports. For Hyper-V, the TLFS, section "Feature discovery", with the features that KVM supports without a further
 * capability (counters, hypercalls, VP index, APIC access) and the version of KVM_GET_SUPPORTED_HV_CPUID. The source
 * for Xen is public/arch-x86/cpuid.h, with the hypercall page at the MSR that KVM's documentation uses.
 */
const BLOCKS: Readonly<Record<CpuidHypervisor, Block>> = {
  kvm: [
    { function: 0, eax: 1, ebx: 0x4b4d564b, ecx: 0x564b4d56, edx: 0x4d },
    { function: 1, eax: bits(0, 1, 3, 4, 5, 6, 7, 9, 10, 11, 12, 13, 14, 24) },
  ],
  hyperv: [
    { function: 0, eax: 5, ebx: 0x7263694d, ecx: 0x666f736f, edx: 0x76482074 },
    { function: 1, eax: 0x31237648 },
    { function: 2, eax: 14393, ebx: 10 << 16 },
    { function: 3, eax: bits(1, 4, 5, 6, 9) },
    // Leaf 4 recommends relaxed timing; with 0xffffffff in EBX the guest never reports long spinning.
    { function: 4, eax: bits(5), ebx: 0xffffffff },
    { function: 5, eax: 64 },
  ],
  xen: [
    { function: 0, eax: 2, ebx: 0x566e6558, ecx: 0x65584d4d, edx: 0x4d4d566e },
    { function: 1, eax: (4 << 16) | 17 },
    { function: 2, eax: 1, ebx: 0x40000000 },
  ],
};

/**
 * Hyper-V uses Xen's default MSR, so Xen uses another MSR in a table with Hyper-V (KVM_XEN_HVM_CONFIG, api.rst 4.98).
 */
const XEN_MSR_BESIDE_HYPERV = 0x40000200;

const HYPERVISORS = ["kvm", "hyperv", "xen"] as const;
const FIRST = 0x40000000;
const STEP = 0x100;
/** The leaves that belong to hypervisors: 0x40000000 to 0x4000ffff. */
const isHypervisorLeaf = (fn: number): boolean => fn >>> 16 === 0x4000;

function toKinds(where: string, given: Iterable<CpuidHypervisor>): readonly CpuidHypervisor[] {
  const kinds = toList(where, given);
  for (const [i, kind] of kinds.entries()) {
    if (!HYPERVISORS.includes(kind)) {
      const hint = typeof kind === "string" ? suggestion(kind, HYPERVISORS) : "";
      throw new TypeError(`${where}: unknown hypervisor ${describe(kind)}${hint}`);
    }
    if (kinds.indexOf(kind) !== i) throw new RangeError(`${where}: ${kind} is there twice`);
    if (kind === "hyperv" && i > 0) {
      throw new RangeError(
        `${where}: hyperv is first, because its guests read only 0x40000000 (TLFS)`,
      );
    }
  }
  return kinds;
}

/**
 * Returns the entries of an interface at its new base: the entries of the table, or the default entries if it has none.
 */
function blockOf(
  table: CpuidTable,
  kind: CpuidHypervisor,
  base: number,
  isBesideHyperv: boolean,
): readonly CpuidEntry2Input[] {
  const old = table.base(kind);
  if (old !== undefined) {
    return [...table]
      .filter((e) => e.function >= old && e.function < old + STEP)
      .map((e) => {
        const fn = e.function - old + base;
        // EAX of KVM's first leaf may be 0, which means base + 1.
        const isMaximum = e.function === old && e.eax >= old && e.eax < old + STEP;
        return { ...e, function: fn, eax: isMaximum ? e.eax - old + base : e.eax };
      });
  }
  return BLOCKS[kind].map((e) => {
    const made = { ...e, function: e.function + base };
    if (e.function === 0) return { ...made, eax: (e.eax ?? 0) + base };
    const isMsr = kind === "xen" && e.function === 2 && isBesideHyperv;
    return isMsr ? { ...made, ebx: XEN_MSR_BESIDE_HYPERV } : made;
  });
}

/**
 * Replaces all hypervisor interfaces of a table with the interfaces in `kinds`. The first interface is at 0x40000000,
 * and each further interface is 0x100 higher, as KVM expects. The values of an existing interface stay unchanged, and
 * its leaves move to the new base. A new interface has the features that KVM supports for this interface; the names of
 * their fields change these features. The hypervisor bit, 0x1:ecx[31], is set if there is an interface and cleared
 * otherwise.
 *
 * @param kinds - the interfaces in their order; "hyperv" must be the first. An empty list removes all leaves from
 *   0x40000000 to 0x4000ffff, which hides the hypervisor.
 * @throws TypeError for an unknown interface; RangeError for an interface that occurs twice, for "hyperv" after another
 *   interface, and for a table without leaf 1.
 */
export function withHypervisors(table: CpuidTable, kinds: Iterable<CpuidHypervisor>): CpuidTable {
  return writeHypervisors("withHypervisors()", table, kinds);
}

/** Does what {@link withHypervisors} does; the messages begin with `where`, the name of the function that was called. */
export function writeHypervisors(
  where: string,
  table: CpuidTable,
  kinds: Iterable<CpuidHypervisor>,
): CpuidTable {
  refuseNonTable(`${where}: table`, table);
  const wanted = toKinds(where, kinds);
  const isBeside = wanted.includes("hyperv");
  const blocks = wanted.flatMap((kind, n) => blockOf(table, kind, FIRST + n * STEP, isBeside));
  const leaf1 = table.find(1, 0);
  if (leaf1 === undefined) throw new RangeError(`${where}: the table has no leaf 0x1`);
  const ecx = packed([[31, 31, wanted.length > 0 ? 1 : 0]], leaf1.ecx);
  return replaceBlocks(withLeaf(table, 1, [{ ecx }]), blocks);
}

/**
 * Replaces all hypervisor leaves. The new leaves are placed where the first old leaf was, or at the end if there was
 * none.
 */
function replaceBlocks(table: CpuidTable, blocks: readonly CpuidEntry2Input[]): CpuidTable {
  const entries = [...table];
  const first = entries.findIndex((e) => isHypervisorLeaf(e.function));
  const at = first < 0 ? entries.length : first;
  const others = (part: readonly CpuidEntry2Input[]): readonly CpuidEntry2Input[] =>
    part.filter((e) => !isHypervisorLeaf(e.function));
  return CpuidTable.from([
    ...others(entries.slice(0, at)),
    ...blocks,
    ...others(entries.slice(at)),
  ]);
}
