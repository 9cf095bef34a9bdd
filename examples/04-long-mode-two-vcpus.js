// Two vCPUs in long mode access a device that their page tables map; this program handles the accesses.
import { fromSupported, GuestMemory, Kvm } from "node-kvm";
import * as x86 from "node-kvm/guest";

const [PML4, PDPT, PD, DEVICE_PD, CODE] = [0x1000, 0x2000, 0x3000, 0x4000, 0x8000];
const [DEVICE_GVA, DEVICE_GPA] = [0x4000_0000n, 0xd000_0000n];
const [TABLE, LARGE] = [0b11n, 0b1000_0011n]; // flags of a page table entry: present and writable; and a page of 2 MiB

/** The guest writes RDI to the device, reads a value from the device into RAX, and halts. */
const code = new x86.Assembler(64)
  .mov("rbx", DEVICE_GVA)
  .mov(x86.mem(32, "rbx"), "edi")
  .mov("eax", x86.mem(32, { base: "rbx", displacement: 8 }))
  .hlt()
  .assemble(BigInt(CODE));

const memory = GuestMemory.allocate(0x20_0000);
memory.write(CODE, code);
memory.write(PML4, BigUint64Array.of(BigInt(PDPT) | TABLE));
memory.write(PDPT, BigUint64Array.of(BigInt(PD) | TABLE, BigInt(DEVICE_PD) | TABLE));
memory.write(PD, BigUint64Array.of(0n | LARGE)); // the first GiB maps the memory
memory.write(DEVICE_PD, BigUint64Array.of(DEVICE_GPA | LARGE)); // the second GiB maps the device

const kvm = Kvm.open();
const vm = kvm.createVm();
vm.setUserMemoryRegion({ slot: 0, guestPhysAddr: 0n, memory });
const [cs, data] = [x86.codeSegment(8, 64), x86.dataSegment(16)];
const [cr0, efer] = [x86.CR0_PE | x86.CR0_PG, x86.EFER_LME | x86.EFER_LMA];
const long = { cs, ds: data, ss: data, cr0, cr3: BigInt(PML4), cr4: x86.CR4_PAE, efer };

/** @param {number} id */
async function runCpu(id) {
  const vcpu = vm.createVcpu(id);
  vcpu.setCpuid2(fromSupported(kvm.getSupportedCpuid()));
  vcpu.setSregs({ ...vcpu.getSregs(), ...long });
  vcpu.setRegs({ ...vcpu.getRegs(), rip: BigInt(CODE), rdi: BigInt(100 + id), rflags: 2n });
  const lines = [];
  for await (const exit of vcpu.exits()) {
    if (exit.kind !== "mmio") break;
    const address = `0x${exit.physAddr.toString(16)}`;
    lines.push(exit.isWrite ? `  wrote ${exit.data[0]} to ${address}` : `  read ${address}`);
    if (!exit.isWrite) exit.reply(7 * (id + 1));
  }
  lines.push(`  rax is ${vcpu.getRegs().rax}`);
  vcpu.close();
  return [`vCPU ${id}`, ...lines].join("\n");
}
console.log((await Promise.all([runCpu(0), runCpu(1)])).join("\n"));
for (const handle of [vm, memory, kvm]) handle.close();

// Prints:
// vCPU 0
//   wrote 100 to 0xd0000000
//   read 0xd0000008
//   rax is 7
// vCPU 1
//   wrote 101 to 0xd0000000
//   read 0xd0000008
//   rax is 14
