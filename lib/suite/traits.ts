/**
 * Probes of a KVM's traits: its behaviour, and never its version, because stable kernels and distributions backport
 * fixes. The facts are `TRAITS` of node-kvm/oracle; deviations.ts states which claims a trait breaks.
 */
import { guest } from "../guest/index.ts";
import { fromSupported, type Kvm, KvmError, vendorModule } from "../index.ts";
import { Sandbox } from "../machine/index.ts";
import { KVM_OWNED, type Trait as TraitName } from "../oracle/index.ts";

/** Bits of CR4 that require a feature; a CPU without it refuses the bit. */
const CR4_OSXSAVE = 1n << 18n;
const CR4_VMXE = 1n << 13n;

export type { TraitName };

/** A trait of KVM: the name of a known one, or a function that determines from the device whether KVM has it. */
export type KvmTrait = TraitName | ((kvm: Kvm) => boolean);

/** The probe of each trait. */
const PROBES: Readonly<Record<TraitName, (kvm: Kvm) => boolean>> = {
  kvm_pvm: () => vendorModule() === "kvm_pvm",
  // The series that ended the trait also made a vCPU without a table refuse CR4.OSXSAVE.
  "compares-incoming": (kvm) =>
    vendorModule() !== "kvm_pvm" && takesCr4WithoutTable(kvm) && isFrozenByRun(kvm),
  "without-xsave2": (kvm) => kvm.checkExtension("KVM_CAP_XSAVE2") === 0,
  "leaves-ospke": (kvm) => leaves(kvm, "leaves-ospke"),
  "leaves-osxsave": (kvm) => leaves(kvm, "leaves-osxsave"),
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

/** Returns whether a bit that KVM without the trait writes itself is stored as it was passed, both set and clear. */
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
