/**
 * Probes the traits of this host's KVM. A probe tests the behaviour instead of the version, because stable kernels and
 * distributions backport fixes. `TRAITS` of node-kvm/oracle describes the traits; deviations.ts has the failures that
 * traits cause.
 */
import { guest } from "../guest/index.ts";
import { fromSupported, type Kvm, KvmError, vendorModule } from "../index.ts";
import { Sandbox } from "../machine/index.ts";
import { KVM_OWNED, type Trait as TraitName } from "../oracle/index.ts";

/** Bits of CR4 that require a CPUID feature; KVM refuses the bit on a vCPU without the feature. */
const CR4_OSXSAVE = 1n << 18n;
const CR4_VMXE = 1n << 13n;
const EFER_LME = 1n << 8n;
const SYSENTER_ESP = 0x175;
/** The first base at which KVM searches the leaves of Xen. */
const XEN_BASE = 0x4000_0000;

export type { TraitName };

/**
 * A trait of KVM: the name of a known trait, or a function that determines from the device whether KVM has the trait.
 */
export type KvmTrait = TraitName | ((kvm: Kvm) => boolean);

/** The probe of each trait. */
const PROBES: Readonly<Record<TraitName, (kvm: Kvm) => boolean>> = {
  kvm_pvm: () => vendorModule() === "kvm_pvm",
  // The patch series that removed this trait also made KVM refuse CR4.OSXSAVE on a vCPU without a CPUID table.
  "compares-incoming": (kvm) =>
    vendorModule() !== "kvm_pvm" && takesCr4WithoutTable(kvm) && isFrozenByRun(kvm),
  "without-xsave2": (kvm) => kvm.checkExtension("KVM_CAP_XSAVE2") === 0,
  "leaves-ospke": (kvm) => leaves(kvm, "leaves-ospke"),
  "leaves-osxsave": (kvm) => leaves(kvm, "leaves-osxsave"),
  "cr4-before-cpuid": takesCr4WithoutTable,
  "efer-before-cpuid": takesEferOfEmptyTable,
  "rewrites-xen-leaf": rewritesXenLeaf,
  // The release that added the bits also made KVM refuse CR4.OSXSAVE on a vCPU without a CPUID table.
  "without-emulated-bits": (kvm) => vendorModule() !== "kvm_pvm" && takesCr4WithoutTable(kvm),
  "unchecked-wrmsr": (kvm) => vendorModule() === "kvm_amd" && keepsWideSysenter(kvm),
};

const seen = new Map<KvmTrait, boolean>();

/** Returns whether this host's KVM has a trait. Each trait is probed once per process. */
export function hasTrait(kvm: Kvm, trait: KvmTrait): boolean {
  const known = seen.get(trait) ?? (typeof trait === "string" ? PROBES[trait] : trait)(kvm);
  seen.set(trait, known);
  return known;
}

function takesCr4WithoutTable(kvm: Kvm): boolean {
  using vm = kvm.createVm();
  using vcpu = vm.createVcpu(0);
  const sregs = vcpu.getSregs();
  return [CR4_OSXSAVE, CR4_VMXE].some((bit) =>
    accepts(() => vcpu.setSregs({ ...sregs, cr4: sregs.cr4 | bit })),
  );
}

/** Returns whether KVM accepts EFER.LME from user space on a vCPU whose table is empty. */
function takesEferOfEmptyTable(kvm: Kvm): boolean {
  using vm = kvm.createVm();
  using vcpu = vm.createVcpu(0);
  vcpu.setCpuid2([]);
  const sregs = vcpu.getSregs();
  return accepts(() => vcpu.setSregs({ ...sregs, efer: sregs.efer | EFER_LME }));
}

/** Returns whether a guest reads the high half of a value that it has written to SYSENTER_ESP; AMD's CPUs drop it. */
function keepsWideSysenter(kvm: Kvm): boolean {
  const value = 0x1234_5678_9000n;
  const program = guest("long", (g) =>
    g.wrmsr(SYSENTER_ESP, value).rdmsr(SYSENTER_ESP).sync().done(),
  );
  using box = new Sandbox(kvm, { program, cpuid: fromSupported(kvm.getSupportedCpuid()) });
  return box.syncs()[0]?.[0] === value;
}

/** Returns whether a run changes the time leaf in a table that has only Xen leaves. */
function rewritesXenLeaf(kvm: Kvm): boolean {
  if (kvm.checkExtension("KVM_CAP_XEN_HVM") === 0) return false;
  const leaf = XEN_BASE + 3;
  const cpuid = [
    { function: XEN_BASE, eax: leaf, ebx: 0x566e_6558, ecx: 0x6558_4d4d, edx: 0x4d4d_566e },
    { function: leaf, index: 2, flags: 1 },
  ];
  using box = new Sandbox(kvm, { program: guest("protected", (g) => g.done()), cpuid });
  box.next();
  return box.vcpu.getCpuid2().some((entry) => entry.function === leaf && entry.eax !== 0);
}

function isFrozenByRun(kvm: Kvm): boolean {
  const cpuid = fromSupported(kvm.getSupportedCpuid());
  using box = new Sandbox(kvm, { program: guest("long", (g) => g.done()), cpuid });
  box.next();
  return !accepts(() => box.vcpu.setCpuid2(cpuid.append({ function: 0x5000_0000 })));
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
