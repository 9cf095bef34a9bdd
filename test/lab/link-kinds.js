// Records one case of each kind of descriptor link, such as an irqfd, and writes each recording as a C file.
// usage: node link-kinds.js FOLDER
import { mkdirSync, writeFileSync } from "node:fs";
import { release } from "node:os";
import { EventFd, GuestMemory, Kvm, KvmError, SevDevice } from "node-kvm";
import { exportC, record } from "node-kvm/trace";

const [, , folder] = process.argv;
mkdirSync(folder, { recursive: true });

/** The trace records rejected calls as well as accepted calls. */
function taken(call) {
  try {
    return call();
  } catch (error) {
    if (error instanceof KvmError) return undefined;
    throw error;
  }
}

/** Runs code in real mode, which is a CPU's mode after reset, until the guest halts. */
function runCode(vm, code) {
  const memory = GuestMemory.allocate(0x1000);
  memory.write(0xff0, Uint8Array.from([...code, 0xf4]));
  vm.setUserMemoryRegion({ slot: 0, guestPhysAddr: 0xfffff000n, memory });
  const vcpu = vm.createVcpu(0);
  const { kind } = vcpu.runSync({ throughSignals: true });
  if (kind !== "hlt") throw new Error(`the guest left with ${kind}`);
}

const OUT_5 = [0xb0, 5, 0xe6, 0x80]; // mov al, 5; out 0x80, al
const WRITE_5 = [0xb0, 5, 0xa2, 0, 0x50]; // mov al, 5; mov [0x5000], al
const PIO = 2;
const [DEASSIGN, CCW] = [4, 8];

/** Runs a guest whose write signals an eventfd, and reads the eventfd's counter. */
function ioeventfd(vm, input, code) {
  const fd = EventFd.create();
  if (taken(() => vm.ioeventfd({ fd, ...input }) ?? "taken") === undefined) return;
  runCode(vm, code);
  if (fd.read() !== 1n) throw new Error("the guest's write was not signalled");
  fd.read();
  fd.close();
}

function guestMemfd(vm, flags) {
  const memfd = taken(() => vm.createGuestMemfd({ size: 0x4000n, flags }));
  if (memfd === undefined) return;
  taken(() => memfd.allocate(0n, 0x2000n));
  taken(() => memfd.punchHole(0x1000n, 0x1000n));
  taken(() => memfd.allocate(1n, 0x1000n));
  const mapped = taken(() => memfd.map());
  const memory = mapped ?? GuestMemory.allocate(0x4000);
  if (mapped !== undefined) mapped.write(0, Uint8Array.of(1, 2, 3));
  taken(() =>
    vm.setUserMemoryRegion2({
      slot: 0,
      guestPhysAddr: 0n,
      memory,
      flags: 4,
      guestMemfd: memfd,
      guestMemfdOffset: 0n,
    }),
  );
}

const KINDS = {
  irqfd: (vm) => {
    vm.createIrqchip();
    const fd = EventFd.create();
    vm.irqfd({ fd, gsi: 5 });
    fd.write();
    vm.irqfd({ fd, gsi: 5, flags: 1 });
    fd.close();
  },
  "irqfd-resample": (vm) => {
    vm.createIrqchip();
    vm.irqfd({ fd: EventFd.create(), gsi: 5, resamplefd: EventFd.create() });
  },
  ioeventfd: (vm) => ioeventfd(vm, { addr: 0x5000n, len: 1 }, WRITE_5),
  "ioeventfd-any-length": (vm) => ioeventfd(vm, { addr: 0x5000n, len: 0 }, WRITE_5),
  "ioeventfd-pio": (vm) => ioeventfd(vm, { addr: 0x80n, len: 1, flags: PIO }, OUT_5),
  "ioeventfd-datamatch": (vm) =>
    ioeventfd(vm, { addr: 0x80n, len: 1, flags: PIO, datamatch: 5n }, OUT_5),
  "ioeventfd-deassign": (vm) => {
    const fd = EventFd.create(3);
    vm.ioeventfd({ fd, addr: 0x80n, len: 1, flags: PIO });
    vm.ioeventfd({ fd, addr: 0x80n, len: 1, flags: PIO | DEASSIGN });
    fd.write(4n);
    fd.read();
  },
  "ioeventfd-ccw": (vm) =>
    taken(() => vm.ioeventfd({ fd: EventFd.create(), addr: 0x80n, len: 8, flags: CCW })),
  "hyperv-eventfd": (vm) => taken(() => vm.hypervEventfd({ connId: 1, fd: EventFd.create() })),
  "xen-eventfd": (vm) =>
    taken(() => {
      vm.xenHvmConfig({ flags: 2, msr: 0x4000_0000 });
      const deliver = { eventfd: { port: 0 } };
      const attr = { type: 3, u: { evtchn: { sendPort: 1, type: 2, deliver } } };
      vm.xenHvmSetAttr(attr, { eventfd: EventFd.create() });
    }),
  "guest-memfd": (vm) => guestMemfd(vm, 0n),
  "guest-memfd-mapped": (vm) => guestMemfd(vm, 3n),
  "copy-context": (vm, kvm) =>
    taken(() => vm.enableCap({ cap: "KVM_CAP_VM_COPY_ENC_CONTEXT_FROM", file: kvm.createVm() })),
  "move-context": (vm, kvm) =>
    taken(() => vm.enableCap({ cap: "KVM_CAP_VM_MOVE_ENC_CONTEXT_FROM", file: kvm.createVm() })),
  sev: () => taken(() => SevDevice.open()),
  vfio: (vm) => {
    const device = taken(() => vm.createDevice(4));
    if (device === undefined) return;
    taken(() => device.hasDeviceAttr({ group: 1, attr: 1n }));
    taken(() => device.setDeviceAttr({ group: 1, attr: 1n }, new Uint8Array(4)));
  },
};

const written = [];
for (const [name, act] of Object.entries(KINDS)) {
  const recording = record();
  const kvm = Kvm.open();
  try {
    act(kvm.createVm(), kvm);
  } finally {
    kvm.close();
  }
  const text = exportC(recording.stop({ name, kernel: release() }));
  writeFileSync(`${folder}/${name}.c`, text);
  written.push(name);
}
process.stdout.write(JSON.stringify(written));
