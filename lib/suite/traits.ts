/**
 * Probes the traits of this host's KVM. A probe tests the behaviour instead of the version, because stable kernels and
 * distributions backport fixes. `TRAITS` of node-kvm/oracle describes the traits; deviations.ts has the failures that
 * traits cause.
 */
import {
  Cpuid2,
  type CpuidEntry2,
  type CpuidEntry2Input,
  encode,
  KVM_GET_CPUID2,
  KVM_GET_SUPPORTED_HV_CPUID,
  KVM_X86_DISABLE_EXITS_HLT,
  KVM_X86_DISABLE_EXITS_PAUSE,
  KVM_XEN_HVM_CONFIG_INTERCEPT_HCALL,
  MSR_KVM_POLL_CONTROL,
  MSRS,
  msrName,
  offsetOf,
} from "../abi/index.ts";
import { guest, NO_FAULT } from "../guest/index.ts";
import {
  type CpuidTable,
  fromSupported,
  type Kvm,
  KvmError,
  type Vcpu,
  type Vm,
  vendorModule,
} from "../index.ts";
import { Sandbox } from "../machine/index.ts";
import { KVM_OWNED, type Trait as TraitName } from "../oracle/index.ts";
import { hasCpuFlag, ignoredMsrsReason } from "./cpuinfo.ts";
import { enterNestedGuest } from "./nested-state.ts";

/** Bits of CR4 that require a CPUID feature; KVM refuses the bit on a vCPU without the feature. */
const CR4_OSXSAVE = 1n << 18n;
const CR4_VMXE = 1n << 13n;
const EFER_LME = 1n << 8n;
const SYSENTER_ESP = 0x175;
/** "Auth" of "AuthenticAMD" in EBX of leaf 0. */
const VENDOR_AMD = 0x6874_7541;
/** The MSR for the hypercall page. KVM emulates Xen only in a VM with such an MSR. */
const XEN_MSR = 0x4000_0200;
/** MSR_IA32_FEAT_CTL: the lock, and VMX outside of SMX. */
const FEAT_CTL_VMX = 5n;
/** The first base at which KVM searches the leaves of Xen. */
const XEN_BASE = 0x4000_0000;

const APIC_BASE_ENABLE = 1n << 11n;
const APIC_BASE_BSP = 1n << 8n;
const CR0_NW = 1n << 29n;
const CR0_CD = 1n << 30n;
const CPUID_APIC = 1 << 9;

/** The first leaf of KVM in a table, its signature "KVMKVMKVM", and a bit of the leaf that follows. */
const KVM_LEAF = 0x4000_0000;
const KVM_SIGNATURE = { ebx: 0x4b4d_564b, ecx: 0x564b_4d56, edx: 0x4d };
const PV_UNHALT = 1 << 7;

export type { TraitName };

/**
 * A trait of KVM: the name of a known trait, or a function that determines from the device whether KVM has the trait.
 */
export type KvmTrait = TraitName | ((kvm: Kvm) => boolean);

/** Whether KVM has a trait, or the reason why the probe decides nothing on this host. */
export type TraitVerdict = boolean | string;

const NO_HLT = "KVM_CAP_X86_DISABLE_EXITS of this host lacks KVM_X86_DISABLE_EXITS_HLT";

/** The probe of each trait. */
const PROBES: Readonly<Record<TraitName, (kvm: Kvm) => TraitVerdict>> = {
  kvm_pvm: () => vendorModule() === "kvm_pvm",
  // The patch series that removed this trait also made KVM refuse CR4.OSXSAVE on a vCPU without a CPUID table.
  "compares-incoming": (kvm) =>
    vendorModule() !== "kvm_pvm" && takesCr4WithoutTable(kvm) && isFrozenByRun(kvm),
  "without-xsave2": (kvm) => kvm.checkExtension("KVM_CAP_XSAVE2") === 0,
  "leaves-ospke": (kvm) => leaves(kvm, "leaves-ospke"),
  "leaves-osxsave": (kvm) => leaves(kvm, "leaves-osxsave"),
  // The table of a new vCPU is empty.
  "leaves-get-count": (kvm) => countOfEmptyTable(kvm) !== 0,
  "cr4-before-cpuid": takesCr4WithoutTable,
  // A KVM with this trait sets the bits of x87 and SSE.
  "masks-sgx-attributes": (kvm) => {
    using vm = kvm.createVm();
    using vcpu = vm.createVcpu(0);
    vcpu.setCpuid2([{ function: 0x12, index: 1, flags: 1 }]);
    return vcpu.getCpuid2()[0]?.ecx !== 0;
  },
  "lazy-updates-lost": losesUpdate,
  // KVM_SET_CPUID has the same defect as KVM_SET_CPUID2, whose first table the claims set.
  "stale-base": (kvm) => unhaltOfFirst(kvm, KVM_SIGNATURE) === 1,
  "fixed-base": (kvm) => {
    const unhalt = unhaltOfFirst(kvm, {});
    return unhalt === undefined ? NO_HLT : unhalt === 0;
  },
  "keeps-pv-features": keepsPvFeatures,
  "disables-exits-late": disablesExitsLate,
  "writable-feature-msrs": (kvm) =>
    isWritableAfterRun(kvm, [MSRS.MSR_AMD64_DE_CFG, MSRS.MSR_IA32_ARCH_CAPABILITIES]),
  "writable-platform-info": (kvm) => isWritableAfterRun(kvm, [MSRS.MSR_PLATFORM_INFO]),
  "open-in-nested-guest": (kvm) =>
    vendorModule() === "kvm_amd" && takesFeatureMsrInNestedGuest(kvm),
  "efer-before-cpuid": takesEferOfEmptyTable,
  "rewrites-xen-leaf": rewritesXenLeaf,
  // The release that added the bits also made KVM refuse CR4.OSXSAVE on a vCPU without a CPUID table.
  "without-emulated-bits": (kvm) => vendorModule() !== "kvm_pvm" && takesCr4WithoutTable(kvm),
  "unchecked-wrmsr": (kvm) => vendorModule() === "kvm_amd" && guestKeepsWide(kvm, SYSENTER_ESP),
  // The patch series that removed this trait also made KVM refuse CR4.OSXSAVE on a vCPU without a CPUID table.
  "shows-invtsc": (kvm) =>
    vendorModule() !== "kvm_pvm" && !hasCpuFlag("constant_tsc") && takesCr4WithoutTable(kvm),
  "hides-nested-leaf": hidesNestedLeaf,
  "never-frozen": (kvm) => !isFrozenByRun(kvm),
  "compares-every-index": comparesEveryIndex,
  "accepts-any-cr0": acceptsAnyCr0,
  "sets-bsp-flag": setsBspFlag,
  "clears-misc-enable": (kvm) => msrOfNew(kvm, MSRS.MSR_IA32_MISC_ENABLE) === 0n,
  "hides-base-msrs": (kvm) => msrOfNew(kvm, MSRS.MSR_FS_BASE) === undefined,
  "keeps-wide-tsc-aux": keepsWideTscAux,
  "keeps-wide-sysenter": keepsWideSysenter,
  "fills-xen-leaf": fillsXenLeaf,
  "feat-ctl-needs-table": (kvm) => takesFeatCtl(kvm, 1) && !takesFeatCtl(kvm, 0),
};

const seen = new Map<KvmTrait, boolean>();

let probing = false;

/** Whether a probe is running. Injected faults do not change the calls of a probe. */
export const isProbing = (): boolean => probing;

/** Returns whether this host's KVM has a trait. Each trait is probed once per process. */
export function hasTrait(kvm: Kvm, trait: KvmTrait): boolean {
  const run = typeof trait === "string" ? PROBES[trait] : trait;
  const known = seen.get(trait) ?? probe(kvm, run) === true;
  seen.set(trait, known);
  return known;
}

/** A trait whose probe has three results: the trait holds, is absent, or is undecided. */
export type DecidedTrait =
  | "fixed-base"
  | "keeps-pv-features"
  | "writable-feature-msrs"
  | "writable-platform-info"
  | "efer-before-cpuid"
  | "rewrites-xen-leaf"
  | "hides-nested-leaf";

/**
 * The traits that {@link decideTrait} decides: differences between kernels that the model of node-kvm/oracle lacks. The
 * probe of open-in-nested-guest is missing, because it starts a nested guest, which old kernels do not always clean up.
 */
export const DECIDED_TRAITS: readonly DecidedTrait[] = [
  "fixed-base",
  "keeps-pv-features",
  "writable-feature-msrs",
  "writable-platform-info",
  "efer-before-cpuid",
  "rewrites-xen-leaf",
  "hides-nested-leaf",
];

/** Decides whether KVM has a trait; returns the reason if a probe decides nothing, or if one of its calls fails. */
export function decideTrait(kvm: Kvm, trait: DecidedTrait): TraitVerdict {
  try {
    return probe(kvm, PROBES[trait]);
  } catch (error) {
    if (error instanceof KvmError) return error.message;
    throw error;
  }
}

function probe(kvm: Kvm, run: (kvm: Kvm) => TraitVerdict): TraitVerdict {
  probing = true;
  try {
    return run(kvm);
  } finally {
    probing = false;
  }
}

function takesCr4WithoutTable(kvm: Kvm): boolean {
  using vm = kvm.createVm();
  using vcpu = vm.createVcpu(0);
  const sregs = vcpu.getSregs();
  return [CR4_OSXSAVE, CR4_VMXE].some((bit) =>
    accepts(() => vcpu.setSregs({ ...sregs, cr4: sregs.cr4 | bit })),
  );
}

/** Returns the count of entries after KVM_GET_CPUID2 has read the table of a new vCPU. */
function countOfEmptyTable(kvm: Kvm): number {
  using vm = kvm.createVm();
  using vcpu = vm.createVcpu(0);
  const bytes = encode(Cpuid2, { entries: [{}, {}] });
  vcpu.ioctl(KVM_GET_CPUID2, bytes);
  return new DataView(bytes.buffer).getUint32(offsetOf(Cpuid2, "nent"), true);
}

/** Returns whether KVM accepts EFER.LME from user space on a vCPU whose table is empty. */
function takesEferOfEmptyTable(kvm: Kvm): TraitVerdict {
  using vm = kvm.createVm();
  using vcpu = vm.createVcpu(0);
  const sregs = vcpu.getSregs();
  const enable = (): void => vcpu.setSregs({ ...sregs, efer: sregs.efer | EFER_LME });
  vcpu.setCpuid2(kvm.getSupportedCpuid());
  if (!accepts(enable)) return "KVM_SET_SREGS refuses EFER.LME also with the supported table";
  vcpu.setSregs(sregs);
  vcpu.setCpuid2([]);
  return accepts(enable);
}

/** Returns whether KVM_GET_SUPPORTED_HV_CPUID has 9 leaves; a KVM without the trait has 10. */
function hidesNestedLeaf(kvm: Kvm): TraitVerdict {
  if (kvm.checkExtension("KVM_CAP_HYPERV_CPUID") === 0) return "KVM_CAP_HYPERV_CPUID is 0";
  using vm = kvm.createVm();
  using vcpu = vm.createVcpu(0);
  const accepted = [9, 10].filter((length) => {
    const bytes = encode(Cpuid2, { entries: Array.from({ length }, () => ({})) });
    return accepts(() => vcpu.ioctl(KVM_GET_SUPPORTED_HV_CPUID, bytes));
  });
  return accepted.length === 0
    ? "KVM_GET_SUPPORTED_HV_CPUID also refuses room for 10 leaves"
    : accepted.includes(9);
}

const WIDE = 0x1234_5678_9000n;

/** Returns whether a guest reads the high half of a value that it has written to an MSR; AMD's CPUs drop it. */
function guestKeepsWide(kvm: Kvm, index: number): boolean {
  const program = guest("long", (g) =>
    g
      .attempt((a) => a.wrmsr(index, WIDE))
      .rdmsr(index)
      .sync()
      .done(),
  );
  using box = new Sandbox(kvm, { program, cpuid: fromSupported(kvm.getSupportedCpuid()) });
  return box.syncs()[0]?.[1] === WIDE;
}

/** Returns whether user space may enable VMX in MSR_IA32_FEAT_CTL of a vCPU whose table has VMX or lacks it. */
function takesFeatCtl(kvm: Kvm, vmx: 0 | 1): boolean {
  const table = fromSupported(kvm.getSupportedCpuid()).with({ vmx });
  const entry = { index: MSRS.MSR_IA32_FEAT_CTL, data: FEAT_CTL_VMX };
  return onVcpu(kvm, table, (vcpu) => vcpu.setMsrs([entry]) === 1);
}

/** Calls a function with a new vCPU that has a table, in a VM of its own; returns the function's result. */
function onVcpu<T>(
  kvm: Kvm,
  table: readonly CpuidEntry2[] | CpuidTable,
  use: (vcpu: Vcpu) => T,
): T {
  using vm = kvm.createVm();
  using vcpu = vm.createVcpu(0);
  vcpu.setCpuid2(table);
  return use(vcpu);
}

function keepsWideTscAux(kvm: Kvm): TraitVerdict {
  const cpuid = fromSupported(kvm.getSupportedCpuid());
  if (cpuid.get("cpu_vendorid_0") !== VENDOR_AMD) return "the vendor is not AMD";
  if (!cpuid.has("rdtscp")) return "a vCPU has no RDTSCP here";
  return guestKeepsWide(kvm, MSRS.MSR_TSC_AUX);
}

function keepsWideSysenter(kvm: Kvm): TraitVerdict {
  const cpuid = fromSupported(kvm.getSupportedCpuid());
  if (cpuid.get("cpu_vendorid_0") !== VENDOR_AMD) return "the vendor is not AMD";
  return onVcpu(
    kvm,
    cpuid,
    (vcpu) =>
      vcpu.setMsrs([{ index: SYSENTER_ESP, data: WIDE }]) === 1 &&
      currentMsr(vcpu, SYSENTER_ESP) === WIDE,
  );
}

/** Returns the value of an MSR in a new vCPU with the supported table; `undefined` if KVM_GET_MSRS cannot read it. */
function msrOfNew(kvm: Kvm, index: number): bigint | undefined {
  return onVcpu(kvm, kvm.getSupportedCpuid(), (vcpu) => vcpu.getMsrs([index])[0]?.data);
}

/** Returns whether KVM adds the flag of the bootstrap processor to a value of APIC_BASE. */
function setsBspFlag(kvm: Kvm): boolean {
  return onVcpu(kvm, kvm.getSupportedCpuid(), (vcpu) => {
    const sregs = { ...vcpu.getSregs(), apicBase: APIC_BASE_ENABLE };
    return (
      accepts(() => vcpu.setSregs(sregs)) &&
      vcpu.getSregs().apicBase === (APIC_BASE_ENABLE | APIC_BASE_BSP)
    );
  });
}

/** Returns whether KVM_SET_SREGS accepts CR0.NW without CR0.CD. */
function acceptsAnyCr0(kvm: Kvm): boolean {
  return onVcpu(kvm, kvm.getSupportedCpuid(), (vcpu) => {
    const sregs = vcpu.getSregs();
    return accepts(() => vcpu.setSregs({ ...sregs, cr0: (sregs.cr0 & ~CR0_CD) | CR0_NW }));
  });
}

/** Returns whether KVM accepts a wrong width of virtual addresses in an entry with an index that no leaf needs. */
function comparesEveryIndex(kvm: Kvm): boolean {
  using vm = kvm.createVm();
  using vcpu = vm.createVcpu(0);
  return accepts(() =>
    vcpu.setCpuid2([{ function: 0x8000_0008, index: 7, flags: 1, eax: 49 << 8 }]),
  );
}

/** Returns whether a run changes the time leaf in a table that has only Xen leaves. */
function rewritesXenLeaf(kvm: Kvm): TraitVerdict {
  if (kvm.checkExtension("KVM_CAP_XEN_HVM") === 0) return "KVM_CAP_XEN_HVM is 0";
  const program = guest("protected", (g) => g.done());
  using box = new Sandbox(kvm, { program, cpuid: xenLeaves() });
  box.next();
  return box.vcpu.getCpuid2().some((entry) => entry.function === XEN_BASE + 3 && entry.eax !== 0);
}

/** Returns a table that has only the Xen leaves, with 0 as the frequency of the TSC. */
function xenLeaves(): readonly CpuidEntry2Input[] {
  const leaf = XEN_BASE + 3;
  return [
    { function: XEN_BASE, eax: leaf, ebx: 0x566e_6558, ecx: 0x6558_4d4d, edx: 0x4d4d_566e },
    { function: leaf, index: 2, flags: 1 },
  ];
}

/** Returns whether a guest in a VM with Xen hypercalls reads another frequency in the Xen leaf than its table has. */
function fillsXenLeaf(kvm: Kvm): TraitVerdict {
  if ((kvm.checkExtension("KVM_CAP_XEN_HVM") & KVM_XEN_HVM_CONFIG_INTERCEPT_HCALL) === 0) {
    return "KVM_CAP_XEN_HVM lacks KVM_XEN_HVM_CONFIG_INTERCEPT_HCALL";
  }
  const leaf = XEN_BASE + 3;
  const program = guest("protected", (g) => g.cpuid(leaf, 2).sync().done());
  const prepare = (vm: Vm): void =>
    vm.xenHvmConfig({ msr: XEN_MSR, flags: KVM_XEN_HVM_CONFIG_INTERCEPT_HCALL });
  using box = new Sandbox(kvm, { program, cpuid: xenLeaves(), prepare });
  return box.syncs()[0]?.[0] !== 0n;
}

function isFrozenByRun(kvm: Kvm): boolean {
  const cpuid = fromSupported(kvm.getSupportedCpuid());
  using box = new Sandbox(kvm, { program: guest("long", (g) => g.done()), cpuid });
  box.next();
  return !accepts(() => box.vcpu.setCpuid2(cpuid.append({ function: 0x5000_0000 })));
}

/** Returns whether a refused table loses a pending update of the CPUID bit APIC. The claims test other updates. */
function losesUpdate(kvm: Kvm): boolean {
  const cpuid = fromSupported(kvm.getSupportedCpuid());
  using box = new Sandbox(kvm, { program: guest("long", (g) => g.done()), cpuid });
  box.next();
  const { vcpu } = box;
  const changed = cpuid.append({ function: 0x5000_0000 });
  const data = vcpu.getSregs().apicBase & ~APIC_BASE_ENABLE;
  vcpu.setMsrs([{ index: MSRS.MSR_IA32_APICBASE, data }]);
  if (accepts(() => vcpu.setCpuid2(changed))) return false;
  const leaf = vcpu.getCpuid2().find((entry) => entry.function === 1);
  return leaf !== undefined && (leaf.edx & CPUID_APIC) !== 0;
}

/**
 * Returns PV_UNHALT of a vCPU's first table, which KVM_SET_CPUID sets, in a VM whose guests halt without exits;
 * undefined if KVM cannot disable the exits of HLT.
 */
function unhaltOfFirst(kvm: Kvm, signature: Partial<typeof KVM_SIGNATURE>): number | undefined {
  if ((kvm.checkExtension("KVM_CAP_X86_DISABLE_EXITS") & KVM_X86_DISABLE_EXITS_HLT) === 0) {
    return undefined;
  }
  using vm = kvm.createVm();
  vm.enableCap({ cap: "KVM_CAP_X86_DISABLE_EXITS", mask: KVM_X86_DISABLE_EXITS_HLT });
  using vcpu = vm.createVcpu(0);
  vcpu.setCpuid([
    { function: KVM_LEAF, eax: KVM_LEAF + 1, ...signature },
    { function: KVM_LEAF + 1, eax: PV_UNHALT },
  ]);
  return ((vcpu.getCpuid2()[1]?.eax ?? 0) & PV_UNHALT) >>> 7;
}

/** Returns whether a guest can read MSR_KVM_POLL_CONTROL after a second table without the leaf of KVM's features. */
function keepsPvFeatures(kvm: Kvm): TraitVerdict {
  if (kvm.checkExtension("KVM_CAP_ENFORCE_PV_FEATURE_CPUID") === 0) {
    return "KVM_CAP_ENFORCE_PV_FEATURE_CPUID is 0";
  }
  const ignored = ignoredMsrsReason();
  if (ignored !== undefined) return ignored;
  const cpuid = fromSupported(kvm.getSupportedCpuid());
  const readsWith = (second: CpuidTable): boolean => readsPollControl(kvm, cpuid, second);
  if (!readsWith(cpuid)) return "the guest cannot read MSR_KVM_POLL_CONTROL also with KVM's leaves";
  return readsWith(cpuid.without(KVM_LEAF + 1));
}

/** Returns whether a guest with enforced features can read MSR_KVM_POLL_CONTROL after two tables. */
function readsPollControl(kvm: Kvm, cpuid: CpuidTable, second: CpuidTable): boolean {
  const program = guest("long", (g) =>
    g
      .attempt((t) => t.asm((a) => a.mov("ecx", MSR_KVM_POLL_CONTROL).rdmsr()))
      .sync()
      .done(),
  );
  using box = new Sandbox(kvm, { program, cpuid });
  box.vcpu.enableCap({ cap: "KVM_CAP_ENFORCE_PV_FEATURE_CPUID", enable: 1 });
  box.vcpu.setCpuid2(second);
  const ucall = box.next();
  return ucall.kind === "sync" && ucall.values[0] === NO_FAULT;
}

/** Returns whether KVM disables the exits of PAUSE after the first vCPU was created. The claim disables those of HLT. */
function disablesExitsLate(kvm: Kvm): boolean {
  if ((kvm.checkExtension("KVM_CAP_X86_DISABLE_EXITS") & KVM_X86_DISABLE_EXITS_PAUSE) === 0) {
    return false;
  }
  using vm = kvm.createVm();
  using vcpu = vm.createVcpu(0);
  const mask = KVM_X86_DISABLE_EXITS_PAUSE;
  return vcpu.id === 0 && accepts(() => vm.enableCap({ cap: "KVM_CAP_X86_DISABLE_EXITS", mask }));
}

const currentMsr = (vcpu: Vcpu, index: number): bigint => vcpu.getMsrs([index])[0]?.data ?? 0n;

/** Changes a feature MSR between 0 and the value that KVM supports; returns whether KVM wrote it. */
function changesFeatureMsr(kvm: Kvm, vcpu: Vcpu, index: number): boolean {
  const now = currentMsr(vcpu, index);
  const data = now === 0n ? (kvm.getMsrs([index])[0]?.data ?? 0n) : 0n;
  return data !== now && vcpu.setMsrs([{ index, data }]) === 1;
}

/** Returns whether KVM writes, after a run, one of these MSRs that it also writes before the run. */
function isWritableAfterRun(kvm: Kvm, msrs: readonly number[]): TraitVerdict {
  const cpuid = fromSupported(kvm.getSupportedCpuid());
  using box = new Sandbox(kvm, { program: guest("long", (g) => g.done()), cpuid });
  const { vcpu } = box;
  const writable = msrs.filter((index) => {
    const data = currentMsr(vcpu, index);
    return changesFeatureMsr(kvm, vcpu, index) && vcpu.setMsrs([{ index, data }]) === 1;
  });
  if (writable.length === 0) {
    return `KVM accepts no other value of ${msrs.map(msrName).join(" and ")} before a run`;
  }
  box.next();
  return writable.some((msr) => changesFeatureMsr(kvm, vcpu, msr));
}

function takesFeatureMsrInNestedGuest(kvm: Kvm): boolean {
  const cpuid = fromSupported(kvm.getSupportedCpuid());
  if (!cpuid.has("svm")) return false;
  using box = new Sandbox(kvm, { program: guest("long", (g) => g.done()), cpuid });
  enterNestedGuest(box.vcpu);
  return changesFeatureMsr(kvm, box.vcpu, MSRS.MSR_AMD64_DE_CFG);
}

/** Returns whether KVM stores a bit unchanged, both 0 and 1. A KVM without the trait sets the bit itself. */
function leaves(kvm: Kvm, trait: TraitName): boolean {
  const row = KVM_OWNED.find(({ unless }) => unless === trait);
  if (row === undefined) return false;
  const { function: leaf, register } = row;
  const bit = (1 << row.low) >>> 0;
  const table = fromSupported(kvm.getSupportedCpuid());
  return [0, bit].every((wanted) => {
    using vm = kvm.createVm();
    using vcpu = vm.createVcpu(0);
    vcpu.setCpuid2(
      table.map((entry) =>
        entry.function === leaf
          ? { ...entry, [register]: ((entry[register] & ~bit) | wanted) >>> 0 }
          : entry,
      ),
    );
    const stored = vcpu.getCpuid2().find((entry) => entry.function === leaf);
    return stored !== undefined && (stored[register] & bit) >>> 0 === wanted;
  });
}

function accepts(call: () => void): boolean {
  try {
    call();
    return true;
  } catch (error) {
    if (error instanceof KvmError) return false;
    throw error;
  }
}
