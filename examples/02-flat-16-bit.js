// A 16-bit guest program, stored here as bytes, adds BL to AL and writes the sum as a digit to a serial port.
import { GuestMemory, Kvm } from "node-kvm";

const ADDRESS = 0x1000;
const code = Uint8Array.from(
  [
    [0xba, 0xf8, 0x03], // mov dx, 0x3f8
    [0x00, 0xd8], // add al, bl
    [0x04, 0x30], // add al, '0'
    [0xee], // out dx, al
    [0xb0, 0x0a], // mov al, '\n'
    [0xee], // out dx, al
    [0xf4], // hlt
  ].flat(),
);

const kvm = Kvm.open();
const vm = kvm.createVm();
const memory = GuestMemory.allocate(0x1000);
memory.write(0, code);
vm.setUserMemoryRegion({ slot: 0, guestPhysAddr: ADDRESS, memory });

const vcpu = vm.createVcpu(0);
const sregs = vcpu.getSregs();
vcpu.setSregs({ ...sregs, cs: { ...sregs.cs, base: 0n, selector: 0 } });
vcpu.setRegs({ ...vcpu.getRegs(), rip: BigInt(ADDRESS), rax: 2n, rbx: 2n, rflags: 2n });

let output = "";
let exit = vcpu.runSync();
while (exit.kind === "io" && exit.direction === "out") {
  output += String.fromCharCode(...exit.data);
  exit = vcpu.runSync();
}
console.log({ output, exit: exit.kind });

for (const handle of [vcpu, vm, memory, kvm]) handle.close();

// Prints:
// { output: '4\n', exit: 'hlt' }
