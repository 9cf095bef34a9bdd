// Compares CPUID tables field by field: KVM changes one table when CR4.OSXSAVE is set, the program changes another one.
// Needs: CPU xsave
import { fromSupported, Kvm } from "node-kvm";
import { CpuidTable, diff, formatChange } from "node-kvm/cpuid";
import { CR4_OSXSAVE } from "node-kvm/guest";

const kvm = Kvm.open();
const vm = kvm.createVm();
const vcpu = vm.createVcpu(0);
vcpu.setCpuid2(fromSupported(kvm.getSupportedCpuid()));

const before = CpuidTable.from(vcpu.getCpuid2());
const sregs = vcpu.getSregs();
vcpu.setSregs({ ...sregs, cr4: sregs.cr4 | CR4_OSXSAVE });
const after = CpuidTable.from(vcpu.getCpuid2());
console.log("CR4.OSXSAVE was set:");
for (const change of diff(before, after)) console.log(`  ${formatChange(change)}`);

// A table is immutable: `with` and `without` return new tables.
const stripped = after.with({ sse2: 0 }).without(0x4000_0001);
console.log("SSE2 cleared, leaf 0x40000001 removed:");
for (const change of diff(after, stripped)) {
  if (change.kind === "removed") console.log(`  leaf ${change.where} was removed`);
  if (change.kind === "field")
    console.log(`  ${change.name}: ${change.before} became ${change.after}`);
}

for (const handle of [vcpu, vm, kvm]) handle.close();

// Prints:
// CR4.OSXSAVE was set:
//   0x1.0:ecx[27] osxsave: 0 -> 1
// SSE2 cleared, leaf 0x40000001 removed:
//   leaf 0x40000001.0 was removed
//   sse2: 1 became 0
