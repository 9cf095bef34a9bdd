/**
 * Calls the method of every (ioctl, fd) pair of KVM on x86 once, and prints the kernel's results as JSON. The program
 * runs on a host or in the lab. every-ioctl.test.ts and the tests in test/lab judge the results.
 */
import { channel } from "node:diagnostics_channel";
import { EventFd, GuestMemory, Kvm, KvmError } from "node-kvm";
import * as abi from "node-kvm/abi";
import { fromSupported } from "node-kvm/cpuid";

const kvm = Kvm.open();
const opened = [kvm];

/** Closes the handle when the program ends. @template {{ close(): void }} T @param {T} handle @returns {T} */
const keep = (handle) => {
  opened.push(handle);
  return handle;
};

/** Creates a VM with 64 KiB of memory at address 0 in slot 0. @param {(vm: any) => void} [prepare] */
function makeVm(prepare = () => {}) {
  const vm = keep(kvm.createVm());
  const memory = keep(GuestMemory.allocate(0x1_0000));
  prepare(vm);
  vm.setUserMemoryRegion({ slot: 0, flags: 1, guestPhysAddr: 0n, memory });
  return { vm, memory };
}

const table = fromSupported(kvm.getSupportedCpuid());

/** Creates a VM and a vCPU with a CPUID table. @param {(vm: any) => void} [prepare] */
function makeVcpu(prepare) {
  const { vm, memory } = makeVm(prepare);
  const vcpu = keep(vm.createVcpu(0));
  vcpu.setCpuid2(table);
  return { vm, memory, vcpu };
}

const plain = makeVcpu();
const chips = makeVcpu((vm) => {
  vm.createIrqchip();
  vm.createPit2({ flags: 0 });
});
const manual = makeVm((vm) =>
  vm.enableCap({ cap: "KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2", flags: 1n }),
);
const event = keep(EventFd.create());
const { vm, vcpu } = plain;
const filter = { flags: abi.KVM_MSR_FILTER_READ, base: 0x174, bitmap: Uint8Array.of(0xff) };
const sevCommand = { id: abi.KVM_SEV_INIT };
const system = { group: abi.KVM_X86_GRP_SYSTEM ?? 0, attr: BigInt(abi.KVM_X86_XCOMP_GUEST_SUPP) };
const tscOffset = { group: abi.KVM_VCPU_TSC_CTRL, attr: BigInt(abi.KVM_VCPU_TSC_OFFSET) };
/** The nested state of a vCPU without a nested guest: KVM_STATE_NESTED_GIF_SET, AMD's format, 128 bytes. */
const notNested = new Uint8Array(Uint32Array.of(0x0001_0100, 128, ...new Array(30).fill(0)).buffer);
const NO_SUCH = { group: 99, attr: 99n };

/** Creates a separate VM for calls that can be made only once, or only before a vCPU exists. */
const young = () => keep(kvm.createVm());

/** Creates a device of the only type that x86 has. */
function vfio() {
  return keep(young().createDevice(abi.KVM_DEV_TYPE_VFIO));
}

/**
 * One call for each pair of an ioctl and a descriptor. The call must reach the kernel, and may fail.
 * @type {Readonly<Record<string, () => unknown>>}
 */
const CALLS = {
  "KVM_GET_API_VERSION sys": () => kvm.getApiVersion(),
  "KVM_CREATE_VM sys": () => keep(kvm.createVm()),
  "KVM_CHECK_EXTENSION sys": () => kvm.checkExtension("KVM_CAP_IRQCHIP"),
  "KVM_GET_VCPU_MMAP_SIZE sys": () => kvm.getVcpuMmapSize(),
  "KVM_GET_MSR_INDEX_LIST sys": () => kvm.getMsrIndexList(),
  "KVM_GET_SUPPORTED_CPUID sys": () => kvm.getSupportedCpuid(),
  "KVM_GET_EMULATED_CPUID sys": () => kvm.getEmulatedCpuid(),
  "KVM_X86_GET_MCE_CAP_SUPPORTED sys": () => kvm.x86GetMceCapSupported(),
  "KVM_GET_MSR_FEATURE_INDEX_LIST sys": () => kvm.getMsrFeatureIndexList(),
  "KVM_GET_MSRS sys": () => kvm.getMsrs(kvm.getMsrFeatureIndexList()),
  "KVM_GET_SUPPORTED_HV_CPUID sys": () => kvm.getSupportedHvCpuid(),
  "KVM_GET_DEVICE_ATTR sys": () => kvm.getDeviceAttr(system),
  "KVM_HAS_DEVICE_ATTR sys": () => kvm.hasDeviceAttr(system),

  "KVM_CREATE_VCPU vm": () => keep(young().createVcpu(3)),
  "KVM_ENABLE_CAP vm": () =>
    young().enableCap({ cap: "KVM_CAP_X86_USER_SPACE_MSR", mask: abi.KVM_MSR_EXIT_REASON_UNKNOWN }),
  "KVM_SET_USER_MEMORY_REGION2 vm": () =>
    young().setUserMemoryRegion2({ slot: 2, guestPhysAddr: 0x10_0000n, memory: plain.memory }),
  "KVM_SET_USER_MEMORY_REGION vm": () =>
    young().setUserMemoryRegion({ slot: 2, guestPhysAddr: 0x10_0000n, memory: plain.memory }),
  "KVM_GET_DIRTY_LOG vm": () => vm.getDirtyLog(0),
  "KVM_CLEAR_DIRTY_LOG vm": () =>
    manual.vm.clearDirtyLog({
      slot: 0,
      firstPage: 0n,
      numPages: 16,
      dirtyBitmap: new Uint8Array(8),
    }),
  "KVM_REGISTER_COALESCED_MMIO vm": () =>
    vm.registerCoalescedMmio({ addr: 0xc000_0000n, size: 4096 }),
  "KVM_UNREGISTER_COALESCED_MMIO vm": () =>
    vm.unregisterCoalescedMmio({ addr: 0xc000_0000n, size: 4096 }),
  "KVM_IRQFD vm": () => chips.vm.irqfd({ fd: event, gsi: 5 }),
  "KVM_IOEVENTFD vm": () => vm.ioeventfd({ fd: event, addr: 0xc000_1000n, len: 4 }),
  "KVM_SIGNAL_MSI vm": () =>
    chips.vm.signalMsi({ addressLo: 0xfee0_0000, addressHi: 0, data: 0x31 }),
  "KVM_IRQ_LINE_STATUS vm": () => chips.vm.irqLineStatus(4, 1),
  "KVM_IRQ_LINE vm": () => chips.vm.irqLine(4, 0),
  "KVM_SET_GSI_ROUTING vm": () =>
    chips.vm.setGsiRouting([
      { gsi: 5, type: abi.KVM_IRQ_ROUTING_IRQCHIP, u: { irqchip: { irqchip: 2, pin: 5 } } },
    ]),
  "KVM_SET_MEMORY_ATTRIBUTES vm": () =>
    vm.setMemoryAttributes({ address: 0n, size: 0x1000n, attributes: 0n }),
  "KVM_CREATE_DEVICE vm": () => young().createDevice(abi.KVM_DEV_TYPE_VFIO, 1),
  "KVM_CHECK_EXTENSION vm": () => vm.checkExtension("KVM_CAP_IRQCHIP"),
  "KVM_RESET_DIRTY_RINGS vm": () => {
    const ring = young();
    ring.enableCap({ cap: "KVM_CAP_DIRTY_LOG_RING", bytes: 65536 });
    return ring.resetDirtyRings();
  },
  "KVM_GET_STATS_FD vm": () => keep(vm.getStatsFd()).read(),
  "KVM_CREATE_GUEST_MEMFD vm": () => keep(vm.createGuestMemfd({ size: 0x1000n })),
  "KVM_SET_TSS_ADDR vm": () => young().setTssAddr(0xfffb_d000),
  "KVM_SET_IDENTITY_MAP_ADDR vm": () => young().setIdentityMapAddr(0xfffb_c000n),
  "KVM_SET_NR_MMU_PAGES vm": () => vm.setNrMmuPages(1024),
  "KVM_CREATE_IRQCHIP vm": () => young().createIrqchip(),
  "KVM_CREATE_PIT vm": () => {
    const old = young();
    old.createIrqchip();
    old.createPit();
  },
  "KVM_CREATE_PIT2 vm": () => {
    const old = young();
    old.createIrqchip();
    old.createPit2({ flags: 1 });
  },
  "KVM_GET_IRQCHIP vm": () => chips.vm.getIrqchip(abi.KVM_IRQCHIP_IOAPIC),
  "KVM_SET_IRQCHIP vm": () => chips.vm.setIrqchip(chips.vm.getIrqchip(abi.KVM_IRQCHIP_PIC_SLAVE)),
  "KVM_GET_PIT vm": () => chips.vm.getPit(),
  "KVM_SET_PIT vm": () => chips.vm.setPit(chips.vm.getPit()),
  "KVM_GET_PIT2 vm": () => chips.vm.getPit2(),
  "KVM_SET_PIT2 vm": () => chips.vm.setPit2(chips.vm.getPit2()),
  "KVM_REINJECT_CONTROL vm": () => chips.vm.reinjectControl({ pitReinject: 0 }),
  "KVM_SET_BOOT_CPU_ID vm": () => young().setBootCpuId(1),
  "KVM_XEN_HVM_CONFIG vm": () => young().xenHvmConfig({ flags: 0, msr: 0x4000_0200 }),
  "KVM_XEN_HVM_GET_ATTR vm": () => vm.xenHvmGetAttr(abi.KVM_XEN_ATTR_TYPE_LONG_MODE),
  "KVM_XEN_HVM_SET_ATTR vm": () =>
    vm.xenHvmSetAttr({ type: abi.KVM_XEN_ATTR_TYPE_UPCALL_VECTOR, u: { vector: 0x50 } }),
  "KVM_XEN_HVM_EVTCHN_SEND vm": () => vm.xenHvmEvtchnSend({ port: 1, vcpu: 0, priority: 0 }),
  "KVM_SET_CLOCK vm": () => vm.setClock({ clock: 1_000_000_000n }),
  "KVM_GET_CLOCK vm": () => vm.getClock(),
  "KVM_SET_TSC_KHZ vm": () => young().setTscKhz(kvm.createVm().getTscKhz()),
  "KVM_GET_TSC_KHZ vm": () => vm.getTscKhz(),
  "KVM_MEMORY_ENCRYPT_OP vm": () => vm.memoryEncryptOp(sevCommand),
  "KVM_MEMORY_ENCRYPT_REG_REGION vm": () =>
    vm.memoryEncryptRegRegion({ memory: plain.memory, size: 0x1000n }),
  "KVM_MEMORY_ENCRYPT_UNREG_REGION vm": () =>
    vm.memoryEncryptUnregRegion({ memory: plain.memory, size: 0x1000n }),
  "KVM_HYPERV_EVENTFD vm": () => vm.hypervEventfd({ connId: 1, fd: event }),
  "KVM_SET_PMU_EVENT_FILTER vm": () =>
    young().setPmuEventFilter({ action: abi.KVM_PMU_EVENT_ALLOW, events: [0xc0n] }),
  "KVM_X86_SET_MSR_FILTER vm": () => young().x86SetMsrFilter({ ranges: [filter] }),

  "KVM_RUN vcpu": () => {
    vcpu.immediateExit = true;
    const exit = vcpu.runSync();
    vcpu.immediateExit = false;
    return exit;
  },
  "KVM_GET_REGS vcpu": () => vcpu.getRegs(),
  "KVM_SET_REGS vcpu": () => vcpu.setRegs(vcpu.getRegs()),
  "KVM_GET_SREGS vcpu": () => vcpu.getSregs(),
  "KVM_SET_SREGS vcpu": () => vcpu.setSregs(vcpu.getSregs()),
  "KVM_GET_MP_STATE vcpu": () => vcpu.getMpState(),
  "KVM_SET_MP_STATE vcpu": () => vcpu.setMpState(abi.KVM_MP_STATE_RUNNABLE),
  "KVM_TRANSLATE vcpu": () => vcpu.translate(0x1000n),
  "KVM_SET_GUEST_DEBUG vcpu": () => vcpu.setGuestDebug({ control: 0 }),
  "KVM_SET_SIGNAL_MASK vcpu": () => vcpu.setSignalMask(),
  "KVM_GET_FPU vcpu": () => vcpu.getFpu(),
  "KVM_SET_FPU vcpu": () => vcpu.setFpu(vcpu.getFpu()),
  "KVM_GET_STATS_FD vcpu": () => keep(vcpu.getStatsFd()).read(),
  "KVM_PRE_FAULT_MEMORY vcpu": () => vcpu.preFaultMemory({ gpa: 0n, size: 0x1000n }),
  "KVM_GET_LAPIC vcpu": () => chips.vcpu.getLapic(),
  "KVM_SET_LAPIC vcpu": () => chips.vcpu.setLapic(chips.vcpu.getLapic()),
  "KVM_INTERRUPT vcpu": () => vcpu.interrupt(0x31),
  "KVM_NMI vcpu": () => chips.vcpu.nmi(),
  "KVM_SMI vcpu": () => chips.vcpu.smi(),
  "KVM_SET_CPUID vcpu": () => keep(young().createVcpu(0)).setCpuid([{ function: 1 }]),
  "KVM_SET_CPUID2 vcpu": () => vcpu.setCpuid2(table),
  "KVM_GET_CPUID2 vcpu": () => vcpu.getCpuid2(),
  "KVM_GET_MSRS vcpu": () => vcpu.getMsrs([0x174]),
  "KVM_SET_MSRS vcpu": () => vcpu.setMsrs([{ index: 0x174, data: 8n }]),
  "KVM_GET_ONE_REG vcpu": () => vcpu.getOneReg(abi.KVM_X86_REG_MSR(0x174)),
  "KVM_SET_ONE_REG vcpu": () => vcpu.setOneReg(abi.KVM_X86_REG_MSR(0x174), 8n),
  "KVM_GET_REG_LIST vcpu": () => vcpu.getRegList(),
  "KVM_TPR_ACCESS_REPORTING vcpu": () => chips.vcpu.tprAccessReporting({ enabled: 0 }),
  "KVM_SET_VAPIC_ADDR vcpu": () => chips.vcpu.setVapicAddr({ vapicAddr: 0x2000n }),
  "KVM_X86_SETUP_MCE vcpu": () => vcpu.x86SetupMce(4n),
  "KVM_X86_SET_MCE vcpu": () => vcpu.x86SetMce({ status: 1n << 63n, bank: 1 }),
  "KVM_GET_VCPU_EVENTS vcpu": () => vcpu.getVcpuEvents(),
  "KVM_SET_VCPU_EVENTS vcpu": () => vcpu.setVcpuEvents({ ...vcpu.getVcpuEvents(), flags: 0 }),
  "KVM_GET_DEBUGREGS vcpu": () => vcpu.getDebugregs(),
  "KVM_SET_DEBUGREGS vcpu": () => vcpu.setDebugregs(vcpu.getDebugregs()),
  "KVM_GET_XSAVE vcpu": () => vcpu.getXsave(),
  "KVM_SET_XSAVE vcpu": () => vcpu.setXsave(vcpu.getXsave2()),
  "KVM_GET_XSAVE2 vcpu": () => vcpu.getXsave2(),
  "KVM_GET_XCRS vcpu": () => vcpu.getXcrs(),
  "KVM_SET_XCRS vcpu": () => vcpu.setXcrs(vcpu.getXcrs()),
  "KVM_SET_TSC_KHZ vcpu": () => vcpu.setTscKhz(vcpu.getTscKhz()),
  "KVM_GET_TSC_KHZ vcpu": () => vcpu.getTscKhz(),
  "KVM_KVMCLOCK_CTRL vcpu": () => vcpu.kvmclockCtrl(),
  "KVM_ENABLE_CAP vcpu": () =>
    vcpu.enableCap({ cap: "KVM_CAP_ENFORCE_PV_FEATURE_CPUID", enable: 0 }),
  "KVM_GET_NESTED_STATE vcpu": () => vcpu.getNestedState(),
  "KVM_SET_NESTED_STATE vcpu": () => vcpu.setNestedState(notNested),
  "KVM_GET_SUPPORTED_HV_CPUID vcpu": () => chips.vcpu.getSupportedHvCpuid(),
  "KVM_XEN_VCPU_GET_ATTR vcpu": () => vcpu.xenVcpuGetAttr(abi.KVM_XEN_VCPU_ATTR_TYPE_VCPU_INFO),
  "KVM_XEN_VCPU_SET_ATTR vcpu": () =>
    vcpu.xenVcpuSetAttr({ type: abi.KVM_XEN_VCPU_ATTR_TYPE_VCPU_INFO, u: { gpa: 0x3000n } }),
  "KVM_GET_SREGS2 vcpu": () => vcpu.getSregs2(),
  "KVM_SET_SREGS2 vcpu": () => vcpu.setSregs2(vcpu.getSregs2()),
  "KVM_HAS_DEVICE_ATTR vcpu": () => vcpu.hasDeviceAttr(tscOffset),
  "KVM_GET_DEVICE_ATTR vcpu": () => vcpu.getDeviceAttr(tscOffset),
  "KVM_SET_DEVICE_ATTR vcpu": () => vcpu.setDeviceAttr(tscOffset, vcpu.getDeviceAttr(tscOffset)),
  "KVM_MEMORY_ENCRYPT_OP vcpu": () => vcpu.memoryEncryptOp({ id: abi.KVM_TDX_INIT_VCPU, data: 0n }),

  "KVM_SET_DEVICE_ATTR dev": () => vfio().setDeviceAttr(NO_SUCH, new Uint8Array(4)),
  "KVM_GET_DEVICE_ATTR dev": () => vfio().getDeviceAttr(NO_SUCH),
  "KVM_HAS_DEVICE_ATTR dev": () => vfio().hasDeviceAttr(NO_SUCH),
};

/** The ioctls that were issued during a call: the name of the ioctl and the kind of descriptor. @type {string[]} */
let asked = [];
channel("node-kvm:ioctl").subscribe((record) => {
  const { kind, name = "KVM_RUN", fd } = /** @type {any} */ (record);
  if (kind === "ioctl" || kind === "run") asked.push(`${name} ${fd.kind}`);
});

/** @param {() => unknown} call */
function outcome(call) {
  try {
    call();
    return "ok";
  } catch (error) {
    if (error instanceof KvmError) return error.code;
    return `${error}`;
  }
}

const answers = Object.entries(CALLS).map(([row, call]) => {
  asked = [];
  const answer = outcome(call);
  return { row, answer, reached: asked.includes(row) };
});
for (const handle of opened.reverse()) handle.close();
process.stdout.write(`${JSON.stringify(answers)}\n`);
