/**
 * Probes the traits of this host's KVM. A probe tests the behaviour instead of the version, because stable kernels and
 * distributions backport fixes. `TRAITS` of node-kvm/oracle describes the traits; deviations.ts has the failures that
 * traits cause.
 */
import { Cpuid2, encode, KVM_GET_SUPPORTED_HV_CPUID } from "../abi/index.ts";
import { guest } from "../guest/index.ts";
import { fromSupported, type Kvm, KvmError, vendorModule } from "../index.ts";
import { Sandbox } from "../machine/index.ts";
import { KVM_OWNED, type Trait as TraitName } from "../oracle/index.ts";
import { hasCpuFlag } from "./cpuinfo.ts";

/** Bits of CR4 that require a CPUID feature; KVM refuses the bit on a vCPU without the feature. */
const CR4_OSXSAVE = 1n << 18n;
const CR4_VMXE = 1n << 13n;

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
  // The patch series that removed this trait also made KVM refuse CR4.OSXSAVE on a vCPU without a CPUID table.
  "shows-invtsc": (kvm) =>
    vendorModule() !== "kvm_pvm" && !hasCpuFlag("constant_tsc") && takesCr4WithoutTable(kvm),
  // A KVM without this trait has 10 leaves.
  "hides-nested-leaf": (kvm) => {
    if (kvm.checkExtension("KVM_CAP_HYPERV_CPUID") === 0) return false;
    using vm = kvm.createVm();
    using vcpu = vm.createVcpu(0);
    const bytes = encode(Cpuid2, { entries: Array.from({ length: 9 }, () => ({})) });
    return accepts(() => vcpu.ioctl(KVM_GET_SUPPORTED_HV_CPUID, bytes));
  },
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
