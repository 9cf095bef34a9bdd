// A guest that never exits runs on another thread until a timeout ends the run.
import { GuestMemory, Kvm } from "node-kvm";

const kvm = Kvm.open();
const vm = kvm.createVm();
const memory = GuestMemory.allocate(0x1000);
memory.write(0xff0, Uint8Array.of(0xeb, 0xfe)); // jmp to itself, where an x86 CPU starts after reset
vm.setUserMemoryRegion({ slot: 0, guestPhysAddr: 0xfffff000n, memory });
const vcpu = vm.createVcpu(0);

let turns = 0;
const timer = setInterval(() => {
  turns += 1;
}, 10);
const exit = await vcpu.run({ signal: AbortSignal.timeout(200) });
clearInterval(timer);

console.log(exit);
console.log(`the event loop ${turns > 0 ? "ran" : "stood still"} beside the guest`);
console.log(`rip is 0x${vcpu.getRegs().rip.toString(16)}`);

// The vCPU is usable after the run has ended: the next run continues where the first run stopped.
const kicked = vcpu.run();
setTimeout(() => vcpu.kick(), 50);
console.log(await kicked);

for (const handle of [vcpu, vm, memory, kvm]) handle.close();

// Prints:
// { kind: 'intr' }
// the event loop ran beside the guest
// rip is 0xfff0
// { kind: 'intr' }
