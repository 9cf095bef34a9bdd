/**
 * What stands behind /dev/kvm, told by what it does. Version numbers lie: stable kernels and
 * distributions carry later fixes. Which claims a trait breaks is deviations.ts.
 */
import { fromSupported, type Kvm, KvmError, Sandbox, vendorModule } from "node-kvm";
import { guest } from "node-kvm/guest";

const CR4_OSXSAVE = 1n << 18n;

/** The name of a trait. */
export type Trait = "kvm_pvm" | "compares-incoming" | "without-xsave2";

/** How each trait is seen. */
const PROBES: Readonly<Record<Trait, (kvm: Kvm) => boolean>> = {
  /** The software vendor module: guest ring 3 runs natively, on the host's own CPUID. */
  kvm_pvm: () => vendorModule() === "kvm_pvm",
  /**
   * Linux 5.16 to 6.13: the table is frozen by the first run, but KVM_SET_CPUID2 does not yet put
   * the new array in the old one's place before it compares (that came with the series that also
   * made a vCPU without a table refuse CR4.OSXSAVE).
   */
  "compares-incoming": (kvm) =>
    vendorModule() !== "kvm_pvm" && takesCr4WithoutTable(kvm) && isFrozenByRun(kvm),
  /** Before Linux 5.17: guests get no dynamic XSAVE components, such as AMX's. Seen: 5.10. */
  "without-xsave2": (kvm) => kvm.checkExtension("KVM_CAP_XSAVE2") === 0,
};

const seen = new Map<Trait, boolean>();

/** Whether this host's KVM has a trait; looked at once a process. */
export function hasTrait(kvm: Kvm, trait: Trait): boolean {
  const known = seen.get(trait) ?? PROBES[trait](kvm);
  seen.set(trait, known);
  return known;
}

function takesCr4WithoutTable(kvm: Kvm): boolean {
  using vm = kvm.createVm();
  using vcpu = vm.createVcpu(0);
  const sregs = vcpu.getSregs();
  return accepts(() => vcpu.setSregs({ ...sregs, cr4: sregs.cr4 | CR4_OSXSAVE }));
}

function isFrozenByRun(kvm: Kvm): boolean {
  const cpuid = fromSupported(kvm.getSupportedCpuid());
  using box = new Sandbox(kvm, { program: guest("long", (g) => g.done()), cpuid });
  box.next();
  return !accepts(() => box.vcpu.setCpuid2(cpuid.append({ function: 0x5000_0000 })));
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
