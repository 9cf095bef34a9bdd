/** Claims about closed handles: every method says ERR_CLOSED, and closing disturbs no other handle. Needs KVM. */
import { describe, expect } from "vitest";
import { KVM_GET_REGS } from "../../../lib/abi/generated/ioctls.ts";
import { StateError } from "../../../lib/errors.ts";
import type { GuestMemory } from "../../../lib/kvm/guest-memory.ts";
import { Kvm } from "../../../lib/kvm/kvm.ts";
import { Vcpu } from "../../../lib/kvm/vcpu.ts";
import { Vm } from "../../../lib/kvm/vm.ts";
import { test } from "./on-device.ts";

describe("a closed handle", () => {
  const ofKvm: Readonly<Record<string, (kvm: Kvm) => unknown>> = {
    getApiVersion: (kvm) => kvm.getApiVersion(),
    checkExtension: (kvm) => kvm.checkExtension(1),
    getVcpuMmapSize: (kvm) => kvm.getVcpuMmapSize(),
    getSupportedCpuid: (kvm) => kvm.getSupportedCpuid(),
    getEmulatedCpuid: (kvm) => kvm.getEmulatedCpuid(),
    getSupportedHvCpuid: (kvm) => kvm.getSupportedHvCpuid(),
    getMsrIndexList: (kvm) => kvm.getMsrIndexList(),
    getMsrFeatureIndexList: (kvm) => kvm.getMsrFeatureIndexList(),
    getMsrs: (kvm) => kvm.getMsrs([1]),
    createVm: (kvm) => kvm.createVm(),
    ioctl: (kvm) => kvm.ioctl(KVM_GET_REGS, new Uint8Array(144)),
  };
  const ofVm: Readonly<Record<string, (vm: Vm, memory: GuestMemory) => unknown>> = {
    checkExtension: (vm) => vm.checkExtension(1),
    enableCap: (vm) => vm.enableCap({ cap: 1 }),
    setUserMemoryRegion: (vm, memory) =>
      vm.setUserMemoryRegion({ slot: 0, guestPhysAddr: 0n, memory }),
    createVcpu: (vm) => vm.createVcpu(),
    createIrqchip: (vm) => vm.createIrqchip(),
    irqLine: (vm) => vm.irqLine(0, 1),
    setTssAddr: (vm) => vm.setTssAddr(0),
    setIdentityMapAddr: (vm) => vm.setIdentityMapAddr(0n),
    ioctl: (vm) => vm.ioctl(KVM_GET_REGS, new Uint8Array(144)),
  };
  const ofVcpu: Readonly<Record<string, (vcpu: Vcpu) => unknown>> = {
    runSync: (vcpu) => vcpu.runSync(),
    completeExit: (vcpu) => vcpu.completeExit(),
    immediateExit: (vcpu) => vcpu.immediateExit,
    "immediateExit =": (vcpu) => {
      vcpu.immediateExit = true;
    },
    setCpuid2: (vcpu) => vcpu.setCpuid2([]),
    setCpuid: (vcpu) => vcpu.setCpuid([]),
    getCpuid2: (vcpu) => vcpu.getCpuid2(),
    getRegs: (vcpu) => vcpu.getRegs(),
    setRegs: (vcpu) => vcpu.setRegs({}),
    getSregs: (vcpu) => vcpu.getSregs(),
    setSregs: (vcpu) => vcpu.setSregs({}),
    getMsrs: (vcpu) => vcpu.getMsrs([1]),
    setMsrs: (vcpu) => vcpu.setMsrs([{ index: 1, data: 1n }]),
    getXcrs: (vcpu) => vcpu.getXcrs(),
    setXcrs: (vcpu) => vcpu.setXcrs({}),
    getVcpuEvents: (vcpu) => vcpu.getVcpuEvents(),
    setVcpuEvents: (vcpu) => vcpu.setVcpuEvents({}),
    getMpState: (vcpu) => vcpu.getMpState(),
    setMpState: (vcpu) => vcpu.setMpState(0),
    enableCap: (vcpu) => vcpu.enableCap({ cap: 1 }),
    ioctl: (vcpu) => vcpu.ioctl(KVM_GET_REGS, new Uint8Array(144)),
  };

  test.for(Object.keys(ofKvm))("is refused by Kvm.%s", (name, { kvm }) => {
    kvm.close();
    expect(() => ofKvm[name]?.(kvm)).toThrow(new StateError("ERR_CLOSED", kvm.label));
  });

  test.for(Object.keys(ofVm))("is refused by Vm.%s", (name, { vm, memory }) => {
    vm.close();
    expect(() => ofVm[name]?.(vm, memory)).toThrow(new StateError("ERR_CLOSED", "vm"));
  });

  test.for(Object.keys(ofVcpu))("is refused by Vcpu.%s", (name, { vcpu }) => {
    vcpu.close();
    expect(() => ofVcpu[name]?.(vcpu)).toThrow(new StateError("ERR_CLOSED", "vcpu 0"));
  });

  test.for([
    ["Kvm", Kvm, ofKvm],
    ["Vm", Vm, ofVm],
    ["Vcpu", Vcpu, ofVcpu],
  ] as const)("of class %s has no method that these lists forget", ([, handle, listed]) => {
    const members = Object.getOwnPropertyNames(handle.prototype);
    expect(members.filter((name) => name !== "constructor" && !(name in listed))).toEqual([]);
  });

  test("may be closed again", ({ kvm, vm, vcpu }) => {
    for (const handle of [vcpu, vm, kvm, vcpu, vm, kvm]) handle.close();
    expect([kvm.closed, vm.closed, vcpu.closed]).toEqual([true, true, true]);
  });

  test("leaves what was made from it at work", ({ kvm }) => {
    using vm = kvm.createVm();
    kvm.close();
    using vcpu = vm.createVcpu(0);
    vm.close();
    expect(vcpu.getRegs().rip).toBe(0xfff0n);
  });
});
