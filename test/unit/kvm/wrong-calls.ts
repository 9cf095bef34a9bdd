/** Runs the program wrong-calls.js, and lists the text that the error of each mistake must contain. */
import { fileURLToPath } from "node:url";

/** The path of the program on this host. */
export const PROGRAM: string = fileURLToPath(new URL("wrong-calls.js", import.meta.url));

/** The message of the error that one mistake causes. */
export interface Said {
  readonly name: string;
  readonly text: string;
}

/** The text that names the cause, for each mistake. */
export const CAUSES: Readonly<Record<string, RegExp>> = {
  "open nothing": /ENOENT: \/nowhere\/kvm does not exist$/,
  "open another device": /ENOTTY: \/dev\/null is not KVM/,
  "overlapping slots": /EEXIST: slot 1 overlaps slot 0 at 0x8000/,
  "a slot that is not page aligned": /guestPhysAddr 0x100800 is not a multiple of 4096/,
  "half a page of memory": /memorySize 0x800 is not a multiple of 4096/,
  "deleting a slot that is not there": /memorySize 0 deletes a slot, but slot 7 does not exist/,
  "a slot of closed memory": /^guest memory: the handle was closed$/,
  "a vCPU id used again": /EEXIST: vCPU 0 was created before/,
  "a vCPU id beyond all": /EINVAL: id 1048576: this KVM has ids 0 to \d+/,
  "too many CPUID entries": /E2BIG: 300 entries, but KVM accepts at most 256/,
  "another table after a run":
    /EINVAL: the table changed after KVM_RUN: 0x1\.0:eax\[3:0\] stepping/,
  // The second text applies to kvm_pvm, where no guest can have the feature, even if the guest's table contains it.
  "LA57 without the feature":
    /CR4 bit 12 LA57: (not in this vCPU's CPUID|this KVM cannot give it to a guest) \(0x7\.0:ecx\[16\] la57\)/,
  "paging without protection": /CR0\.PG is 1, and CR0\.PE is 0/,
  "long mode half way": /EFER\.LMA is 1, and CR0\.PG is 0/,
  "XCR0 without x87": /XCR0 0x6: bit 0 x87 must be 1/,
  "XCR0 beyond leaf 0xD": /bit 62 not in this vCPU's CPUID, which has 0x[0-9a-f]+ in 0xd\.0/,
  "irqchip after the vCPU": /too late: the call must come before the first vCPU, but vCPU 0 exists/,
  "an interrupt line without controllers":
    /ENXIO: the VM has no interrupt controllers in the kernel/,
  "a timer without controllers": /ENOENT: the VM has no interrupt controllers in the kernel/,
  "a LAPIC without controllers":
    /this vCPU has no LAPIC in the kernel: KVM_CREATE_IRQCHIP creates them/,
  "halted without controllers": /mpState 3 HALTED: this vCPU has no LAPIC in the kernel/,
  "an interrupt from outside with controllers": /the VM's PICs are in the kernel: raise a line/,
  "a dirty log of a slot without logging":
    /slot 0 does not log dirty pages: its flags lack KVM_MEM_LOG_DIRTY_PAGES/,
  "an ioeventfd of three bytes": /len 3: KVM takes 0 \(any\), 1, 2, 4 and 8/,
  "the same ioeventfd twice": /EEXIST: address 0xc0001000 already has an eventfd/,
  "the same irqfd twice": /EBUSY: this eventfd already raises an interrupt of this VM/,
  "a dirty ring after the vCPU": /too late: the call must come before the first vCPU/,
  "an unknown quirk": /args\[0\] 0x10000000000: bit 40 may not be set/,
  "an exception above 31": /exception\.nr 32: exceptions are 0 to 31/,
  "DR6 above 32 bits": /dr6 0x100000000: bits 32-63 are reserved/,
  "kvmclock's ioctl before kvmclock": /the guest has not enabled kvmclock/,
  "kvmclock's ioctl on the VM": /KVM_KVMCLOCK_CTRL is an ioctl of a vCPU, not of a VM/,
  "an answer that comes too late": /this exit was answered before, or its vCPU has run since/,
  "an answer given twice": /this exit was answered before, or its vCPU has run since/,
  "a closed vCPU": /^vcpu 0: the handle was closed$/,
  "an MSR that is not there":
    /entries\[1\] MSR 0xdeadbeef = 0x1: either this KVM has no such MSR, or/,
};

/** Lists the mistakes whose error does not name the cause, and mistakes without an expected text. */
export function unexplained(said: readonly Said[]): readonly Said[] {
  return said.filter(({ name, text }) => CAUSES[name]?.test(text) !== true);
}
