/**
 * Traits of the KVM behind /dev/kvm, determined by its behaviour. Version numbers do not determine them, because stable
 * kernels and distributions backport fixes. deviations.ts states which claims a trait breaks.
 */

import { guest } from "../guest/index.ts";
import { fromSupported, type Kvm, KvmError, Sandbox, vendorModule } from "../index.ts";

/** Bits of CR4 that KVM accepts only if the vCPU's CPUID table has a feature. */
const CR4_OSXSAVE = 1n << 18n;
const CR4_VMXE = 1n << 13n;
/** In ECX of leaf 1. */
const OSXSAVE = 1 << 27;
/** In ECX of leaf 7. */
const OSPKE = 1 << 4;

/** The name of a known trait. */
export type TraitName =
  | "kvm_pvm"
  | "compares-incoming"
  | "without-xsave2"
  | "leaves-ospke"
  | "leaves-osxsave";

/** A trait of KVM: the name of a known one, or a function that determines from the device whether KVM has it. */
export type Trait = TraitName | ((kvm: Kvm) => boolean);

const PROBES: Readonly<Record<TraitName, (kvm: Kvm) => boolean>> = {
  /** The software vendor module: guest ring 3 runs natively, on the host's own CPUID. */
  kvm_pvm: () => vendorModule() === "kvm_pvm",
  /**
   * Linux 5.16 to 6.13: the first run freezes the table, but KVM_SET_CPUID2 compares the new array without storing it
   * first. The series that changed this also made a vCPU without a table reject CR4.OSXSAVE.
   */
  "compares-incoming": (kvm) =>
    vendorModule() !== "kvm_pvm" && takesCr4WithoutTable(kvm) && isFrozenByRun(kvm),
  /** Before Linux 5.17: guests have no dynamic XSAVE components such as AMX's. Observed on 5.10. */
  "without-xsave2": (kvm) => kvm.checkExtension("KVM_CAP_XSAVE2") === 0,
  /** A CPU without protection keys: KVM then does not set OSPKE, and stores the sent bit. */
  "leaves-ospke": (kvm) => leaves(kvm, 7, OSPKE),
  /** A CPU without XSAVE: KVM then does not set OSXSAVE, and stores the sent bit. */
  "leaves-osxsave": (kvm) => leaves(kvm, 1, OSXSAVE),
};

const seen = new Map<Trait, boolean>();

/** Returns whether this host's KVM has a trait. Each trait is determined once per process. */
export function hasTrait(kvm: Kvm, trait: Trait): boolean {
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

/** Returns whether KVM stores a bit of ECX as it was sent, both set and clear. */
function leaves(kvm: Kvm, leaf: number, bit: number): boolean {
  const table = fromSupported(kvm.getSupportedCpuid());
  return [0, bit].every((wanted) => {
    using vm = kvm.createVm();
    using vcpu = vm.createVcpu(0);
    const change = (ecx: number): number => ((ecx & ~bit) | wanted) >>> 0;
    vcpu.setCpuid2(
      table.map((entry) =>
        entry.function === leaf ? { ...entry, ecx: change(entry.ecx) } : entry,
      ),
    );
    const stored = vcpu.getCpuid2().find((entry) => entry.function === leaf);
    return stored !== undefined && (stored.ecx & bit) === wanted;
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
