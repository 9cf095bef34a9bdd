/** Lint rules about KVM: its own leaves, its lookup, and the bits that it supports, writes or rejects. */
import { UNREPORTED } from "../check.ts";
import {
  CPUID_REGISTERS,
  type CpuidEntry2,
  type CpuidRegister,
  formatLeaf,
  sameEntry,
} from "../entry.ts";
import { baseOf, type CpuidFieldName, fieldsOf, readField, spaceOf, writeField } from "../field.ts";
import { pairFaults } from "./dependencies.ts";
import type { LintFault, LintInput, LintPlace, LintRule } from "./rule.ts";
import { missingFeatures } from "./supported.ts";
import { type LintTable, setBits } from "./table.ts";
import { sizeFaults } from "./xsave.ts";

const hex = (value: number): string => `0x${value.toString(16)}`;

/** The bits of KVM's features and hints. Source: arch/x86/include/uapi/asm/kvm_para.h, identical in 6.1 to 7.2. */
const KVM_FEATURES = 0x0103_feff;
const KVM_HINTS = 1;
const MMU_OP = 1 << 2;
const HV_INTERFACE = 0x3123_7648;

/**
 * Rule K08: a VMM may set these bits although KVM_GET_SUPPORTED_CPUID does not report them, if the VMM implements their
 * function.
 */
const VMM_ADDS: ReadonlySet<CpuidFieldName> = new Set([
  ...(["x2apic", "tsc_deadline_timer", "monitor", "guest_status"] as const),
  ...(["kvm_msi_ext_dest_id", "kvm_hc_map_gpa_range", "kvm_migration_control"] as const),
]);

/** Rule K20: bits that are 1 if the CPU lacks a fault or a behaviour. Source: Documentation/virt/kvm/x86/errata.rst. */
const NEGATED: readonly CpuidFieldName[] = [
  ...(["mcdt_no", "amd_ssb_no", "btc_no", "srso_no", "srso_uk_no", "tsa_sq_no"] as const),
  ...(["tsa_l1_no", "no_nested_data_bp", "no_smm_ctl_msr", "coherency_sfw_no"] as const),
  ...(["no_efer_lmsle"] as const),
];

/** Rule K16: bits that a VMM cannot choose, because they describe the host's FPU. */
const FPU_BITS: readonly CpuidFieldName[] = ["fdp_excptn_only", "zero_fcs_fds"];

/** The registers that legally differ between the CPUs of a machine, as masks. */
const PER_CPU: readonly {
  readonly functions: readonly number[];
  readonly register: CpuidRegister;
  readonly mask: number;
}[] = [
  { functions: [0x1], register: "ebx", mask: 0xff00_0000 },
  { functions: [0x1], register: "ecx", mask: 0x0800_0000 },
  { functions: [0x1], register: "edx", mask: 0x0000_0200 },
  { functions: [0x7], register: "ecx", mask: 0x0000_0010 },
  { functions: [0x6], register: "edx", mask: 0xffff_0000 },
  { functions: [0xd], register: "ebx", mask: 0xffff_ffff },
  { functions: [0xb, 0x1f, 0x8000_0026], register: "edx", mask: 0xffff_ffff },
  { functions: [0x8000_001e], register: "eax", mask: 0xffff_ffff },
  { functions: [0x8000_001e], register: "ebx", mask: 0xffff_ffff },
  { functions: [0x8000_001e], register: "ecx", mask: 0xffff_ffff },
];

/** The leaves that legally differ between the core types of a hybrid CPU. */
const HYBRID: ReadonlySet<number> = new Set([
  ...[0x2, 0x4, 0x14, 0x16, 0x18, 0x1a, 0x1c, 0x23, 0x8000_0006],
]);

function ownMask(fn: number, index: number, register: CpuidRegister): number {
  // Only sub-leaves 0 and 1 of leaf 0xd contain a size that depends on the current XCR0.
  if (fn === 0xd && index > 1) return 0;
  return PER_CPU.reduce(
    (mask, row) =>
      row.register === register && row.functions.includes(fn) ? (mask | row.mask) >>> 0 : mask,
    0,
  );
}

/** The maximum number of fields that a finding names. */
const MOST_NAMES = 12;

/** Names the fields that have differing bits, as ` (bmi1, avx2)`; bits without a field are called reserved. */
function differingFields(
  entries: readonly CpuidEntry2[],
  { function: fn, index }: CpuidEntry2,
  register: CpuidRegister,
  differing: number,
): string {
  const space = spaceOf(entries, fn);
  const relative = fn - (baseOf(entries, space) ?? 0);
  let unnamed = differing;
  const names: string[] = [];
  for (const { name, low, high } of fieldsOf(space, relative, index, register)) {
    if (readField(differing, low, high) !== 0) names.push(name);
    unnamed = writeField(unnamed, low, high, 0);
  }
  if (unnamed !== 0) names.push("reserved bits");
  const more = names.length - MOST_NAMES;
  return ` (${names.slice(0, MOST_NAMES).join(", ")}${more > 0 ? ` and ${more} more` : ""})`;
}

function differences(table: LintTable, first: LintTable): readonly LintFault[] {
  const faults: LintFault[] = [];
  const isHybrid = first.has("hybrid_cpu");
  for (const [position, e] of table.entries.entries()) {
    const other = first.leaf(e.function, e.index);
    if (other === undefined) {
      faults.push({ place: table.entryPlace(position), words: "CPU 0 does not have this entry" });
      continue;
    }
    if (isHybrid && HYBRID.has(e.function)) continue;
    const isLevelCount = isHybrid && (e.function === 0xb || e.function === 0x1f) && e.index === 0;
    for (const register of CPUID_REGISTERS) {
      if (isLevelCount && register === "ebx") continue;
      const own = ownMask(e.function, e.index, register);
      const differing = ((e[register] ^ other[register]) & ~own) >>> 0;
      if (differing === 0) continue;
      const names = differingFields(table.entries, e, register, differing);
      const words = `is ${hex(e[register])}, but CPU 0 has ${hex(other[register])}${names}`;
      faults.push({ place: table.bitsPlace(position, register), words });
    }
  }
  for (const e of first.entries) {
    if (table.leaf(e.function, e.index) !== undefined) continue;
    const place = table.absentPlace(e.function, e.index);
    faults.push({ place, words: "is absent, but CPU 0 has this entry" });
  }
  return faults;
}

function changedSince(table: LintTable, before: LintTable): readonly LintFault[] {
  const faults: LintFault[] = [];
  for (const [position, e] of table.entries.entries()) {
    const old = before.entries[position];
    if (old !== undefined && sameEntry(old, e)) continue;
    const words =
      old === undefined
        ? "is new, and KVM accepts only the table that the vCPU has run with"
        : `differs from entry ${position} (${formatLeaf(old.function, old.index)}) of the table that the vCPU has run with`;
    faults.push({ place: table.entryPlace(position), words });
  }
  for (const old of before.entries.slice(table.entries.length)) {
    const place = table.absentPlace(old.function, old.index);
    faults.push({ place, words: "is absent, but the vCPU has run with this entry" });
  }
  return faults;
}

function kvmPlace(table: LintTable, register: CpuidRegister): LintPlace | undefined {
  const base = table.base("kvm");
  const position = base === undefined ? -1 : table.find(base + 1);
  return position < 0 ? undefined : table.bitsPlace(position, register);
}

function kvmRegisterFaults(table: LintTable): readonly LintFault[] {
  const base = table.base("kvm");
  const e = base === undefined ? undefined : table.leaf(base + 1);
  if (e === undefined || e.eax === HV_INTERFACE) return [];
  const allowed: Readonly<Record<CpuidRegister, number>> = {
    eax: (KVM_FEATURES & ~MMU_OP) >>> 0,
    ebx: 0,
    ecx: 0,
    edx: KVM_HINTS,
  };
  return CPUID_REGISTERS.flatMap((register): readonly LintFault[] => {
    const extra = (e[register] & ~allowed[register]) >>> 0;
    const place = kvmPlace(table, register);
    if (extra === 0 || place === undefined) return [];
    const words = `has the bits ${hex(extra)}, which KVM does not define`;
    const fix = [
      { kind: "bits" as const, position: place.position, register, mask: extra, value: 0 },
    ];
    return [{ place, words, fix }];
  });
}

/** Rule K04: features that the VMM implements, each with the fact that reports the implementation. */
const BY_VMM = [
  ["kvm_msi_ext_dest_id", "hasExtendedDestinations", "interrupts do not reach 15-bit APIC ids"],
  ["kvm_hc_map_gpa_range", "handlesMapGpaRange", "the VMM does not answer the hypercall"],
  ["kvm_migration_control", "hasMigrationControl", "the VMM does not implement the MSR"],
] as const;

/** Rule K21: ranges that software probes, each with the mask of a valid maximum. */
const PROBED: readonly (readonly [leaf: number, mask: number])[] = [
  [0x4000_0000, 0xffff_0000],
  [0x8086_0000, 0xffff_0000],
  [0xc000_0000, 0xffff_0000],
];

function probeFaults(table: LintTable): readonly LintFault[] {
  const max = table.maxBasic;
  const last = max === undefined ? undefined : table.leaf(max);
  if (max === undefined || last === undefined || table.isAmd) return [];
  const found = PROBED.find(
    ([leaf, mask]) => (last.eax & mask) >>> 0 === leaf && table.positions(leaf).length === 0,
  );
  if (found === undefined) return [];
  const words = `is ${hex(last.eax)}; KVM returns it for leaf ${hex(found[0])}, where it is a valid maximum`;
  return [{ place: table.bitsPlace(table.find(max), "eax"), words }];
}

function unsupported(table: LintTable, { supported, emulated }: LintInput): readonly LintFault[] {
  if (supported === undefined) return [];
  return table.entries.flatMap((_, position) =>
    missingFeatures(table, position, supported).flatMap((bits): readonly LintFault[] => {
      const { name, register, low, high } = bits;
      const isFree = name !== undefined && (name in UNREPORTED || VMM_ADDS.has(name));
      const isEmulated = name !== undefined && emulated?.has(name) === true;
      if (isFree || isEmulated) return [];
      const place = { ...table.entryPlace(position), bits };
      const fix = low === high ? soleFix(table, position, register, low) : undefined;
      return [{ place, words: "KVM does not support it", fix }];
    }),
  );
}

/** Only bits of KVM's leaves get a fix, because clearing another bit may break rules about features that need it. */
function soleFix(
  table: LintTable,
  position: number,
  register: CpuidRegister,
  low: number,
): LintFault["fix"] {
  const isKvm = table.space(table.entries[position]?.function ?? 0) === "kvm";
  return isKvm ? [setBits(position, register, low, low, 0)] : undefined;
}

/** The rules about KVM. */
export const KVM_RULES: readonly LintRule[] = [
  {
    id: "K01",
    severity: "error",
    title: "The maximum of KVM's leaves includes the leaf of features, or is 0",
    source: "kvm_cpuid_base and kvm_arch_para_features; 0 is the value of old hosts",
    remedy: "Set EAX of KVM's first leaf to base + 1",
    check: (table) => {
      const base = table.base("kvm");
      const max = table.read("kvm_max_leaf");
      // A maximum of 0 is valid, and rule S05 reports a maximum outside of the range.
      if (base === undefined || max !== base) return [];
      const words = `is ${hex(max)}, so the guest does not read KVM's features in ${hex(base + 1)}`;
      return [
        { place: table.place("kvm_max_leaf"), words, fix: table.set("kvm_max_leaf", base + 1) },
      ];
    },
  },
  {
    id: "K02",
    severity: "warning",
    title: "KVM's leaf of features has only bits that KVM defines",
    source:
      "arch/x86/include/uapi/asm/kvm_para.h: EAX within 0x103fefb, EDX within 1, EBX and ECX 0",
    remedy: "Clear the bits",
    check: kvmRegisterFaults,
  },
  {
    id: "K03",
    severity: "warning",
    title: "A paravirtual feature needs the other paravirtual feature that it uses",
    source: "arch/x86/kernel/kvm.c and kvmclock.c of Linux",
    remedy: "Set the needed feature, or clear the feature that needs it",
    check: (table) => {
      const isClock = table.has("kvm_clocksource") || table.has("kvm_clocksource2");
      const words = "needs kvm_clocksource or kvm_clocksource2";
      const stable: readonly LintFault[] =
        table.has("kvm_clocksource_stable") && !isClock
          ? [
              {
                place: table.place("kvm_clocksource_stable"),
                words,
                fix: table.set("kvm_clocksource_stable", 0),
              },
            ]
          : [];
      // Rule H03 reports Hyper-V's interface at KVM's base.
      if (table.register((table.base("kvm") ?? 0) + 1, 0, "eax") === HV_INTERFACE) return [];
      return [...pairFaults(table, "K03"), ...stable];
    },
  },
  {
    id: "K04",
    severity: "warning",
    title: "A paravirtual feature of the VMM is offered only if the VMM provides it",
    source: "api.rst and Documentation/virt/kvm/x86/cpuid.rst: bits 15, 16 and 17",
    remedy: "Clear the bit, or provide the feature",
    needsOneOf: ["vm.hasExtendedDestinations", "vm.handlesMapGpaRange", "vm.hasMigrationControl"],
    check: (table, { vm }) =>
      BY_VMM.flatMap(([name, fact, words]): readonly LintFault[] =>
        table.has(name) && vm[fact] === false
          ? [{ place: table.place(name), words, fix: table.set(name, 0) }]
          : [],
      ),
  },
  {
    id: "K05",
    severity: "info",
    title: "No hint disables the paravirtual features of Linux guests",
    source:
      "pv_tlb_flush_supported, pv_sched_yield_supported and kvm_spinlock_init in arch/x86/kernel/kvm.c",
    remedy: "Clear the hint or MONITOR if vCPUs share CPUs, or clear the features",
    check: (table) => {
      const isRealtime = table.has("kvm_hint_realtime");
      const reason = isRealtime ? "kvm_hint_realtime" : "monitor";
      if (!isRealtime && !table.has("monitor")) return [];
      const names = ["kvm_pv_tlb_flush", "kvm_pv_sched_yield"] as const;
      const all = isRealtime ? (["kvm_pv_unhalt", ...names] as const) : names;
      return all
        .filter((name) => table.has(name))
        .map((name) => ({
          place: table.place(name),
          words: `a Linux guest does not use it, because ${reason} is set`,
        }));
    },
  },
  {
    id: "K06",
    severity: "warning",
    title: "Paravirtual unhalt is offered only if HLT exits",
    source:
      "kvm_vcpu_after_set_cpuid in arch/x86/kvm/cpuid.c: KVM clears it if HLT exits are disabled",
    remedy: "Clear kvm_pv_unhalt, or do not disable HLT exits",
    needs: ["vm.disabledExits"],
    check: (table, { vm }) =>
      table.has("kvm_pv_unhalt") && vm.disabledExits?.includes("hlt") === true
        ? [
            {
              place: table.place("kvm_pv_unhalt"),
              words: "KVM clears it, because HLT exits are disabled",
              fix: table.set("kvm_pv_unhalt", 0),
            },
          ]
        : [],
  },
  {
    id: "K07",
    severity: "error",
    title: "The virtual address bits are 0, 48 or 57",
    source: "kvm_check_cpuid in arch/x86/kvm/cpuid.c: KVM_SET_CPUID2 returns EINVAL",
    remedy: "Set virt_addr_bits to 57 with la57, or to 48",
    check: (table) => {
      const bits = table.read("virt_addr_bits");
      if ([0, 48, 57].includes(bits)) return [];
      const fix = table.set("virt_addr_bits", table.has("la57") ? 57 : 48);
      const words = `is ${bits}, and KVM_SET_CPUID2 accepts 0, 48 and 57`;
      return [{ place: table.place("virt_addr_bits"), words, fix }];
    },
  },
  {
    id: "K08",
    severity: "warning",
    title: "KVM supports each feature",
    source:
      "api.rst, KVM_GET_SUPPORTED_CPUID; KVM_SET_CPUID2 accepts a feature that KVM or the CPU lacks",
    remedy: "Clear the feature; within() of the builder does",
    needs: ["supported"],
    check: unsupported,
  },
  {
    id: "K09",
    severity: "warning",
    title: "The table has no feature that KVM only emulates",
    source: "api.rst, KVM_GET_EMULATED_CPUID: such an instruction causes an exit each time",
    remedy: "Clear the feature if the guest uses it often",
    needs: ["supported", "emulated"],
    check: (table, { supported, emulated }) => {
      if (supported === undefined || emulated === undefined) return [];
      return table.entries.flatMap((_, position) =>
        missingFeatures(table, position, supported).flatMap((bits): readonly LintFault[] => {
          if (bits.name === undefined || !emulated.has(bits.name)) return [];
          const place = { ...table.entryPlace(position), bits };
          return [{ place, words: "KVM emulates it, so each use is slow" }];
        }),
      );
    },
  },
  {
    id: "K10",
    severity: "warning",
    title: "AMX is offered only with permission for its tile data",
    source: "arch/x86/kvm/cpuid.c: KVM_SET_CPUID2 fails without ARCH_REQ_XCOMP_GUEST_PERM",
    remedy: "Request the permission before the first vCPU is created, or clear AMX",
    needs: ["vm.xcompPermission"],
    check: (table, { vm }) =>
      table.has("xcr0_tiledata") && ((vm.xcompPermission ?? 0n) & (1n << 18n)) === 0n
        ? [
            {
              place: table.place("xcr0_tiledata"),
              words: "is 1, but the process has no permission for component 18",
            },
          ]
        : [],
  },
  {
    id: "K11",
    severity: "info",
    title: "Bits that KVM computes from CR4 have the value after reset",
    source: "kvm_update_cpuid_runtime in arch/x86/kvm/cpuid.c",
    remedy: "Clear osxsave and ospke; the value of the table has no effect",
    check: (table) =>
      (["osxsave", "ospke"] as const)
        .filter((name) => table.has(name))
        .map((name) => ({
          place: table.place(name),
          words: "is 1, but KVM writes it from the guest's CR4",
          fix: table.set(name, 0),
        })),
  },
  {
    id: "K12",
    severity: "warning",
    title: "The size for all of XCR0 is not more than the end of the last component",
    source: "SDM volume 1, 13.2: 0xd.0:ecx; KVM does not recompute it when components are removed",
    remedy: "Set xsave_sz_max to the end of the last component; withXsave() does",
    needs: ["complete"],
    check: (table) => sizeFaults(table, "large"),
  },
  {
    id: "K13",
    severity: "info",
    title: "1 GiB pages are offered if the host has them",
    source:
      "kvm_vcpu_after_set_cpuid in arch/x86/kvm/cpuid.c: with TDP the guest can use them in any case",
    remedy: "Set pdpe1gb, or ignore the finding",
    needs: ["supported"],
    check: (table, { supported }) =>
      table.has("lm") && !table.has("pdpe1gb") && supported?.has("pdpe1gb") === true
        ? [
            {
              place: table.place("pdpe1gb"),
              words: "is 0, but a guest with two-dimensional paging can use such pages",
            },
          ]
        : [],
  },
  {
    id: "K14",
    severity: "warning",
    title: "A guest of AMD or Hygon has no IA32_ARCH_CAPABILITIES",
    source:
      "APM volume 3 reserves bit 29 of 0x7.0:edx; KVM sets it on AMD because it emulates IA32_ARCH_CAPABILITIES, and Firecracker clears it",
    remedy: "Clear arch_capabilities",
    check: (table) =>
      table.isAmd && table.has("arch_capabilities")
        ? [
            {
              place: table.place("arch_capabilities"),
              words: "is 1, but no AMD CPU has the MSR",
              fix: table.set("arch_capabilities", 0),
            },
          ]
        : [],
  },
  {
    id: "K15",
    severity: "warning",
    title: "The invariant TSC is offered only if the VMM fixes the TSC's frequency",
    source:
      "api.rst, KVM_SET_TSC_KHZ; without it the VM cannot migrate to a host with another frequency",
    remedy: "Set the frequency with KVM_SET_TSC_KHZ, or clear constant_tsc",
    needs: ["vm.hasFixedTsc"],
    check: (table, { vm }) =>
      table.has("constant_tsc") && vm.hasFixedTsc === false
        ? [
            {
              place: table.place("constant_tsc"),
              words:
                "is 1, but the frequency of the TSC differs between hosts, so a guest measures time wrongly after it moves",
              fix: table.set("constant_tsc", 0),
            },
          ]
        : [],
  },
  {
    id: "K16",
    severity: "warning",
    title: "The bits about the FPU's pointers equal the host's bits",
    source: "Documentation/virt/kvm/x86/errata.rst: the bits describe the host's FPU",
    remedy: "Copy the bits of the host",
    needs: ["host"],
    check: (table, { host }) => {
      if (host?.leaf(7) === undefined || table.leaf(7) === undefined) return [];
      return FPU_BITS.flatMap((name): readonly LintFault[] => {
        const [own, theirs] = [table.read(name), host.read(name)];
        if (own === theirs) return [];
        const words = `is ${own}, but the host has ${theirs}`;
        return [{ place: table.place(name), words, fix: table.set(name, theirs) }];
      });
    },
  },
  {
    id: "K17",
    severity: "warning",
    title: "The hypervisor bit is set if and only if a hypervisor's leaf exists",
    source: "init_hypervisor_platform of Linux reads the leaves only if the bit is set",
    remedy: "Set guest_status, or remove the hypervisor's leaves",
    check: (table) => {
      if (table.leaf(1) === undefined) return [];
      const first = table.functions.find((fn) => {
        const isBase = fn >= 0x4000_0000 && fn <= 0x4000_ff00 && (fn & 0xff) === 0;
        const at = table.find(fn);
        return isBase && table.hasData(fn) && !table.isRedirected(at);
      });
      const place = table.place("guest_status");
      if (table.has("guest_status") === (first !== undefined)) return [];
      if (first === undefined)
        return [{ place, words: "is 1, but the table has no hypervisor's leaf" }];
      const words = `is 0, so the guest does not find the hypervisor at ${hex(first)}`;
      return [{ place, words, fix: table.set("guest_status", 1) }];
    },
  },
  {
    id: "K18",
    severity: "error",
    title: "All vCPUs have the same table, except for ids and per-CPU values",
    source: "SDM volume 2A, CPUID; Linux compares CPUs and disables features that differ",
    remedy: "Make each vCPU's table from one common table, and change only the APIC id",
    needs: ["several"],
    check: (table, { tables }) => {
      const [first] = tables;
      return first === undefined || first === table ? [] : differences(table, first);
    },
  },
  {
    id: "K19",
    severity: "error",
    title: "The table of a vCPU that has run does not change",
    source: "kvm_cpuid_check_equal in arch/x86/kvm/cpuid.c: KVM_SET_CPUID2 returns EINVAL",
    remedy: "Set the table before the first KVM_RUN, or create the vCPU again",
    needs: ["before"],
    check: (table, { before }) => (before === undefined ? [] : changedSince(table, before)),
  },
  {
    id: "K20",
    severity: "info",
    title: "Bits that report a missing function or fault equal the host's bits",
    source:
      "Documentation/virt/kvm/x86/errata.rst; APM volume 3, CPUID leaves 0x80000008 and 0x80000021",
    remedy: "Check whether the guest must see the host's value",
    needsOneOf: ["host", "supported"],
    check: (table, { host, supported }) => {
      const other = host ?? supported;
      if (other === undefined) return [];
      return NEGATED.flatMap((name): readonly LintFault[] => {
        const place = table.place(name);
        const hasLeaf = place.position >= 0 && other.place(name).position >= 0;
        const [own, theirs] = [table.read(name), other.read(name)];
        if (!hasLeaf || own === theirs) return [];
        const words =
          own === 0
            ? "is 0, so the guest works around a behaviour that the host does not have"
            : "is 1, so the guest does not work around a behaviour that the host has";
        return [{ place, words }];
      });
    },
  },
  {
    id: "K21",
    severity: "warning",
    title: "The highest basic leaf is not a valid maximum of a range that guests probe",
    source:
      "get_out_of_range_cpuid_entry in arch/x86/kvm/cpuid.c: reads out of range return this leaf",
    remedy: "Add a leaf of zeros as the highest basic leaf",
    check: probeFaults,
  },
  {
    id: "K22",
    severity: "warning",
    title: "MONITOR is offered only if MWAIT does not exit, or is a no-op",
    source: "api.rst, KVM_CAP_X86_DISABLE_EXITS and KVM_X86_QUIRK_MWAIT_NEVER_UD_FAULTS",
    remedy: "Clear monitor, or disable MWAIT exits",
    needs: ["vm.disabledExits"],
    check: (table, { vm }) =>
      table.has("monitor") &&
      vm.disabledExits?.includes("mwait") === false &&
      vm.hasMwaitQuirk !== true
        ? [
            {
              place: table.place("monitor"),
              words: "is 1, but MWAIT causes an invalid opcode",
              fix: table.set("monitor", 0),
            },
          ]
        : [],
  },
];
