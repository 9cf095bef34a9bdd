// Uses KVM's dirty log to find the pages that a guest writes, and reads the contents of these pages.
import { fromSupported, Kvm } from "node-kvm";
import { KVM_MEM_LOG_DIRTY_PAGES } from "node-kvm/abi";
import { guest } from "node-kvm/guest";
import { Sandbox } from "node-kvm/machine";

/** The guest writes to three pages, writes to a port, and then writes to a fourth page. */
const program = guest("long", (g) =>
  g
    .write(0x10_0000, 0x11, 8)
    .write(0x10_3ff8, 0x22n, 64)
    .write(0x1f_f000, 0x33, 32)
    .outb(0x80, 1)
    .write(0x12_0000, 0x44, 8)
    .outb(0x80, 2),
);

const kvm = Kvm.open();
const box = new Sandbox(kvm, { program, cpuid: fromSupported(kvm.getSupportedCpuid()) });
const { vm, vcpu, memory } = box;
// The same slot is set again with another flag: the memory stays unchanged, and KVM starts the dirty log.
vm.setUserMemoryRegion({ slot: 0, flags: KVM_MEM_LOG_DIRTY_PAGES, guestPhysAddr: 0n, memory });

for (let round = 1; round <= 2; round += 1) {
  vcpu.runSync();
  // The pages below 1 MiB contain the program, its stack and its tables.
  const pages = Array.from(vm.dirtyPages(0)).filter((page) => page >= 0x100);
  console.log(`round ${round}:`, pages.map((page) => `0x${(page * 4096).toString(16)}`).join(" "));
}
console.log("at 0x103ff8:", memory.read(0x10_3ff8, 8)[0]);

box.close();
kvm.close();

// Prints:
// round 1: 0x100000 0x103000 0x1ff000
// round 2: 0x120000
// at 0x103ff8: 34
