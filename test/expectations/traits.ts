/** Probes of a KVM's traits. Their facts are `TRAITS` of node-kvm/oracle; the claims that a trait breaks are deviations.ts. */
import { fromSupported, type Kvm, KvmError, vendorModule } from "node-kvm";
import { guest } from "node-kvm/guest";
import { Sandbox } from "node-kvm/machine";
import { KVM_OWNED, type Trait } from "node-kvm/oracle";

/** Bits of CR4 that require a feature; a CPU without it refuses the bit. */
const CR4_OSXSAVE = 1n << 18n;
const CR4_VMXE = 1n << 13n;

/** The probe of each trait. */
const PROBES: Readonly<Record<Trait, (kvm: Kvm) => boolean>> = {
  kvm_pvm: () => vendorModule() === "kvm_pvm",
  // The series that ended the trait also made a vCPU without a table refuse CR4.OSXSAVE.
  "compares-incoming": (kvm) =>
    vendorModule() !== "kvm_pvm" && takesCr4WithoutTable(kvm) && isFrozenByRun(kvm),
  "without-xsave2": (kvm) => kvm.checkExtension("KVM_CAP_XSAVE2") === 0,
  "leaves-ospke": (kvm) => leaves(kvm, "leaves-ospke"),
  "leaves-osxsave": (kvm) => leaves(kvm, "leaves-osxsave"),
};

const seen = new Map<Trait, boolean>();

/** Whether this host's KVM has a trait; probed once per process. */
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

/** Whether the bit that a KVM without the trait sets itself is stored as it was sent, both set and clear. */
function leaves(kvm: Kvm, trait: Trait): boolean {
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
