/**
 * What stands behind /dev/kvm, told by what it does. Version numbers lie: stable kernels and
 * distributions carry later fixes. Which claims a trait breaks is deviations.ts.
 */
import { fromSupported, type Kvm, KvmError, vendorModule } from "node-kvm";
import { guest } from "node-kvm/guest";
import { Sandbox } from "node-kvm/machine";

/** Bits of CR4 that a CPU feature allows; what is not there stays refused. */
const CR4_OSXSAVE = 1n << 18n;
const CR4_VMXE = 1n << 13n;
/** In ECX of leaf 1. */
const OSXSAVE = 1 << 27;
/** In ECX of leaf 7. */
const OSPKE = 1 << 4;

/** The name of a trait. */
export type Trait =
  | "kvm_pvm"
  | "compares-incoming"
  | "without-xsave2"
  | "leaves-ospke"
  | "leaves-osxsave";

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
  /** A CPU without protection keys: KVM then has no reason to set OSPKE, and stores what was sent. */
  "leaves-ospke": (kvm) => leaves(kvm, 7, OSPKE),
  /** The same without XSAVE, and OSXSAVE. */
  "leaves-osxsave": (kvm) => leaves(kvm, 1, OSXSAVE),
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

/** Whether a bit of ECX that KVM owns elsewhere is stored as it was sent, set or clear. */
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
