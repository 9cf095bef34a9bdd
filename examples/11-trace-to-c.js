// Recorded ioctls are exported as one C file, which issues the same calls and compares the results.
// Needs: cc
import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { GuestMemory, Kvm } from "node-kvm";
import { exportC, record } from "node-kvm/trace";

const recording = record(); // the recording starts before the device is opened
const kvm = Kvm.open();
const vm = kvm.createVm();
const memory = GuestMemory.allocate(0x1000);
memory.write(0xff0, Uint8Array.of(0xf4)); // hlt, where an x86 CPU starts after reset
vm.setUserMemoryRegion({ slot: 0, guestPhysAddr: 0xfffff000n, memory });
const vcpu = vm.createVcpu(0);
vcpu.runSync();
console.log(vm.trace().join("\n"));
for (const handle of [vcpu, vm, memory, kvm]) handle.close();

// The C file needs only a compiler and the kernel's headers. In this example, the C program runs on the same kernel.
const folder = mkdtempSync(join(tmpdir(), "trace-"));
const [file, program] = [join(folder, "halt.c"), join(folder, "halt")];
try {
  writeFileSync(file, exportC(recording.stop({ name: "halt", sentence: "a guest can halt" })));
  execFileSync("cc", ["-o", program, file]);
  console.log(execFileSync(program, { encoding: "utf8" }).trimEnd());
} finally {
  rmSync(folder, { recursive: true });
}

// Prints:
// KVM_CREATE_VM(/dev/kvm, 0) = vm
// KVM_SET_USER_MEMORY_REGION(vm, guest_phys_addr=0xfffff000, memory_size=0x1000) = 0
// KVM_CREATE_VCPU(vm, 0) = vcpu 0
// KVM_RUN(vcpu 0) = 0 KVM_EXIT_HLT
// ok halt # every value is as recorded
