/**
 * Makes common mistakes with KVM, and prints the message of each error as JSON. The program runs on a host or in the
 * lab. wrong-calls.ts lists the expected texts.
 */
import { CpuidTable, EventFd, fromSupported, GuestMemory, Kvm } from "node-kvm";
import * as abi from "node-kvm/abi";
import { guest } from "node-kvm/guest";
import { Sandbox } from "node-kvm/machine";

const kvm = Kvm.open();
const table = fromSupported(kvm.getSupportedCpuid());
const memory = GuestMemory.allocate(0x2_0000);

/** @param {(vm: any) => void} [prepare] */
function make(prepare = () => {}) {
  const vm = kvm.createVm();
  prepare(vm);
  vm.setUserMemoryRegion({ slot: 0, guestPhysAddr: 0x1000n, memory });
  const vcpu = vm.createVcpu(0);
  vcpu.setCpuid2(table);
  return { vm, vcpu };
}

const { vm, vcpu } = make();
const chips = make((made) => made.createIrqchip());
const event = EventFd.create();
const region = { slot: 1, guestPhysAddr: 0x10_0000n, memory };
const sregs = vcpu.getSregs();

/** A guest that has run and waits for the reply to a port read. */
const waiting = () =>
  new Sandbox(kvm, { program: guest("long", (g) => g.inb(0x60).inb(0x61)), cpuid: table });

/** @type {Readonly<Record<string, () => unknown>>} */
const MISTAKES = {
  "open nothing": () => Kvm.open("/nowhere/kvm"),
  "open another device": () => Kvm.open("/dev/null"),
  "overlapping slots": () => vm.setUserMemoryRegion({ ...region, guestPhysAddr: 0x8000n }),
  "a slot that is not page aligned": () =>
    vm.setUserMemoryRegion({ ...region, guestPhysAddr: 0x10_0800n }),
  "half a page of memory": () => vm.setUserMemoryRegion({ ...region, memorySize: 0x800n }),
  "deleting a slot that is not there": () =>
    vm.setUserMemoryRegion({ slot: 7, guestPhysAddr: 0n, memorySize: 0n }),
  "a slot of closed memory": () => {
    const closed = GuestMemory.allocate(0x1000);
    closed.close();
    vm.setUserMemoryRegion({ ...region, memory: closed });
  },
  "a vCPU id used again": () => vm.createVcpu(0),
  "a vCPU id beyond all": () => vm.createVcpu(0x10_0000),
  "too many CPUID entries": () =>
    vcpu.setCpuid2(Array.from({ length: 300 }, (_, i) => ({ function: i }))),
  "another table after a run": () => {
    const { vcpu: ran } = waiting();
    ran.runSync();
    // The table is read from the vCPU, because kvm_pvm changes the table that was set, and may drop entries.
    const has = CpuidTable.from(ran.getCpuid2());
    ran.setCpuid2(has.with({ stepping: 15 - (has.get("stepping") ?? 0) }));
  },
  "LA57 without the feature": () => {
    vcpu.setCpuid2(table.with({ la57: 0 }));
    vcpu.setSregs({ ...sregs, cr4: sregs.cr4 | (1n << 12n) });
  },
  "paging without protection": () => vcpu.setSregs({ ...sregs, cr0: 0x8000_0010n }),
  "long mode half way": () => vcpu.setSregs({ ...sregs, efer: 0x500n }),
  "XCR0 without x87": () => vcpu.setXcrs({ nrXcrs: 1, flags: 0, xcrs: [{ xcr: 0, value: 6n }] }),
  "XCR0 beyond leaf 0xD": () =>
    vcpu.setXcrs({ nrXcrs: 1, flags: 0, xcrs: [{ xcr: 0, value: 1n | (1n << 62n) }] }),
  "irqchip after the vCPU": () => vm.createIrqchip(),
  "an interrupt line without controllers": () => vm.irqLine(4, 1),
  "a timer without controllers": () => vm.createPit2({}),
  "a LAPIC without controllers": () => vcpu.getLapic(),
  "halted without controllers": () => vcpu.setMpState(abi.KVM_MP_STATE_HALTED),
  "an interrupt from outside with controllers": () => chips.vcpu.interrupt(0x31),
  "a dirty log of a slot without logging": () => vm.getDirtyLog(0),
  "an ioeventfd of three bytes": () => vm.ioeventfd({ fd: event, addr: 0xc000_0000n, len: 3 }),
  "the same ioeventfd twice": () => {
    vm.ioeventfd({ fd: event, addr: 0xc000_1000n, len: 4 });
    vm.ioeventfd({ fd: event, addr: 0xc000_1000n, len: 4 });
  },
  "the same irqfd twice": () => {
    chips.vm.irqfd({ fd: event, gsi: 5 });
    chips.vm.irqfd({ fd: event, gsi: 5 });
  },
  "a dirty ring after the vCPU": () =>
    vm.enableCap({ cap: "KVM_CAP_DIRTY_LOG_RING", bytes: 65536 }),
  "an unknown quirk": () => vm.enableCap({ cap: "KVM_CAP_DISABLE_QUIRKS2", quirks: 1n << 40n }),
  "an exception above 31": () =>
    vcpu.updateVcpuEvents({ exception: { injected: 1, nr: 32, hasErrorCode: 0 } }),
  "DR6 above 32 bits": () => vcpu.updateDebugregs({ dr6: 1n << 32n }),
  "kvmclock's ioctl before kvmclock": () => vcpu.kvmclockCtrl(),
  "kvmclock's ioctl on the VM": () => vm.ioctl(abi.KVM_KVMCLOCK_CTRL),
  "an answer that comes too late": () => {
    const { vcpu: late } = waiting();
    const exit = /** @type {any} */ (late.runSync());
    late.runSync();
    exit.reply([1]);
  },
  "an answer given twice": () => {
    const exit = /** @type {any} */ (waiting().vcpu.runSync());
    exit.reply([1]);
    exit.reply([2]);
  },
  "a closed vCPU": () => {
    const closed = kvm.createVm().createVcpu(0);
    closed.close();
    closed.getRegs();
  },
  "an MSR that is not there": () => {
    const sent = [
      { index: 0x174, data: 8n },
      { index: 0xdead_beef, data: 1n },
    ];
    throw new Error(vcpu.explainMsrs(sent, vcpu.setMsrs(sent)));
  },
};

const said = Object.entries(MISTAKES).map(([name, make]) => {
  try {
    make();
    return { name, text: "nothing" };
  } catch (error) {
    return { name, text: error instanceof Error ? error.message : String(error) };
  }
});
process.stdout.write(`${JSON.stringify(said)}\n`);
