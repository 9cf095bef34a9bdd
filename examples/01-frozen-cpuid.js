// A vCPU's CPUID table is frozen once the vCPU has run: KVM rejects a changed table, and the error contains the reason.
// Needs: CPU avx2
import { CpuidTable, GuestMemory, Kvm } from "node-kvm";

const kvm = Kvm.open();
const vm = kvm.createVm();
const memory = GuestMemory.allocate(0x1000);
memory.write(0xff0, Uint8Array.of(0xf4)); // hlt, where an x86 CPU starts after reset
vm.setUserMemoryRegion({ slot: 0, guestPhysAddr: 0xfffff000n, memory });
const vcpu = vm.createVcpu(0);
vcpu.setCpuid2(kvm.getSupportedCpuid());
console.log(vcpu.runSync());
const table = CpuidTable.from(vcpu.getCpuid2());
try {
  vcpu.setCpuid2(table.with({ avx2: table.has("avx2") ? 0 : 1 }));
} catch (error) {
  console.log(error.message);
}

// Prints:
// { kind: 'hlt' }
// KVM_SET_CPUID2 (vcpu 0): EINVAL: the table changed after KVM_RUN: 0x7.0:ebx[5] avx2: ran with 1, got 0
