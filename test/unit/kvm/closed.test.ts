/** Tests of closed handles: every method throws ERR_CLOSED, and closing affects no other handle. Needs KVM. */
import { describe, expect } from "vitest";
import { KVM_GET_REGS } from "../../../lib/abi/generated/ioctls.ts";
import * as structs from "../../../lib/abi/generated/structs.ts";
import { type Layout, read, sizeOf } from "../../../lib/abi/struct.ts";
import { StateError } from "../../../lib/errors.ts";
import { Handle } from "../../../lib/kvm/handle.ts";
import { EventFd } from "../../../lib/kvm/host-file.ts";
import { Kvm } from "../../../lib/kvm/kvm.ts";
import { GuestMemory } from "../../../lib/kvm/memory/guest-memory.ts";
import { Vcpu } from "../../../lib/kvm/vcpu.ts";
import { Vm } from "../../../lib/kvm/vm.ts";
import { test } from "./on-device.ts";

/** The name of a method or an accessor; the setter of an accessor is written as `name =`. */
type Member = readonly [name: string, call: (target: object, args: readonly unknown[]) => unknown];

/** Lists the members of a class and of its base classes, up to Handle. */
function membersOf(prototype: object): readonly Member[] {
  if (prototype === Handle.prototype) return [];
  const own = Object.entries(Object.getOwnPropertyDescriptors(prototype)).flatMap(
    ([name, { value, get, set }]): readonly Member[] => {
      if (name === "constructor") return [];
      const parts = { [name]: value ?? get, [`${name} =`]: set };
      return Object.entries(parts).flatMap(([part, code]) =>
        typeof code === "function"
          ? [
              [
                part,
                (target: object, args: readonly unknown[]) => Reflect.apply(code, target, args),
              ],
            ]
          : [],
      );
    },
  );
  return [...own, ...membersOf(Object.getPrototypeOf(prototype) as object)];
}

/** Members that make no ioctl: they return state of the object, or end a run. */
const SILENT = ["id", "vm", "memory", "trace", "running", "kickToken", "addressSpace", "evidence"]
  .concat(["parent", "accepted"])
  .concat(["explainMsrs", "kick", "pause", "resume", "close"])
  // These members make no ioctl themselves: they call other methods, which throw.
  .concat(["restoreState", "checkState", "dirtyPages", "exits"]);

const attribute = { group: 0, attr: 0n };
const memory = GuestMemory.allocate(0x1000);
const region = { slot: 0, guestPhysAddr: 0n, memory };

/**
 * Arguments for methods that check their arguments before they use the handle; other methods are called without
 * arguments.
 */
const ARGUMENTS: Record<string, () => readonly unknown[]> = {
  checkExtension: () => [1],
  clearDirtyLog: () => [{ slot: 0, firstPage: 0n, numPages: 64, dirtyBitmap: new Uint8Array(8) }],
  compareMsrs: () => [[{ index: 1, data: 1n }]],
  createDevice: () => [0],
  createVcpu: () => [1],
  // This object is an empty list of vCPUs for vm.saveState(), and an object without options for vcpu.saveState().
  saveState: () => [{ [Symbol.iterator]: () => [].values() }],
  setSignalMask: () => [[]],
  createGuestMemfd: () => [{ size: 0x1000n }],
  enableCap: () => [{ cap: 1 }],
  getCpuid2: () => [],
  getDeviceAttr: () => [attribute],
  getDirtyLog: () => [0],
  getIrqchip: () => [0],
  getMsrs: () => [[1]],
  getOneReg: () => [0n],
  hasDeviceAttr: () => [attribute],
  hypervEventfd: () => [{ connId: 1 }],
  interrupt: () => [1],
  ioeventfd: () => [{ fd: EventFd.create(), addr: 0n, len: 1 }],
  irqLine: () => [0, 1],
  irqLineStatus: () => [0, 1],
  irqfd: () => [{ fd: EventFd.create(), gsi: 0 }],
  memoryEncryptOp: () => [{ id: 0 }],
  memoryEncryptRegRegion: () => [{ memory, size: 0x1000n }],
  memoryEncryptUnregRegion: () => [{ memory, size: 0x1000n }],
  setCpuid: () => [[]],
  setCpuid2: () => [[]],
  setDeviceAttr: () => [attribute],
  setGsiRouting: () => [[]],
  setIdentityMapAddr: () => [0n],
  setLapic: () => [new Uint8Array(1024)],
  setMpState: () => [0],
  setMsrs: () => [[{ index: 1, data: 1n }]],
  setNestedState: () => [new Uint8Array(128)],
  setOneReg: () => [0n, 0n],
  setUserMemoryRegion: () => [region],
  setUserMemoryRegion2: () => [region],
  setXsave: () => [new Uint8Array(4096)],
  translate: () => [0n],
  x86SetMsrFilter: () => [{}],
  x86SetupMce: () => [1n],
  setExitFilter: () => [[]],
  xenHvmConfig: () => [{ msr: 1 }],
  xenHvmSetAttr: () => [{ type: 0 }],
  xenVcpuSetAttr: () => [{ type: 0 }],
  xenHvmGetAttr: () => [0],
  xenVcpuGetAttr: () => [0],
};
/** The structs of methods that require a complete struct, or a struct with certain fields. */
const STRUCTS: Readonly<Record<string, Layout<unknown>>> = {
  reinjectControl: structs.ReinjectControl,
  xenHvmEvtchnSend: structs.IrqRoutingXenEvtchn,
  registerCoalescedMmio: structs.CoalescedMmioZone,
  unregisterCoalescedMmio: structs.CoalescedMmioZone,
  signalMsi: structs.Msi,
  setPmuEventFilter: structs.PmuEventFilter,
  setMemoryAttributes: structs.MemoryAttributes,
  setClock: structs.ClockData,
  setPit2: structs.PitState2,
  setPit: structs.PitState,
  setIrqchip: structs.Irqchip,
  setVapicAddr: structs.VapicAddr,
  x86SetMce: structs.X86Mce,
  setVcpuEvents: structs.VcpuEvents,
  setGuestDebug: structs.GuestDebug,
  setDebugregs: structs.Debugregs,
  setRegs: structs.Regs,
  setSregs: structs.Sregs,
  setSregs2: structs.Sregs2,
  setXcrs: structs.Xcrs,
  setFpu: structs.Fpu,
  tprAccessReporting: structs.TprAccessCtl,
  preFaultMemory: structs.PreFaultMemory,
};
for (const [name, layout] of Object.entries(STRUCTS)) {
  ARGUMENTS[name] = () => [read(layout, new Uint8Array(sizeOf(layout)))];
}

const argumentsOf = (name: string): readonly unknown[] => ARGUMENTS[name]?.() ?? [{}];

const names = (handle: { readonly prototype: object }): readonly string[] =>
  membersOf(handle.prototype)
    .map(([name]) => name)
    .filter((name) => !SILENT.includes(name));

describe("a method of a closed handle throws ERR_CLOSED:", () => {
  const refused = (target: Kvm | Vm | Vcpu, name: string): void => {
    const [, call] = membersOf(Object.getPrototypeOf(target) as object).find(
      ([member]) => member === name,
    ) ?? [name, () => undefined];
    target.close();
    expect(() => call(target, argumentsOf(name))).toThrow(
      new StateError("ERR_CLOSED", target.label),
    );
  };

  test.for(names(Kvm))("Kvm.%s", (name, { kvm }) => refused(kvm, name));
  test.for(names(Vm))("Vm.%s", (name, { vm }) => refused(vm, name));
  test.for(names(Vcpu))("Vcpu.%s", (name, { vcpu }) => refused(vcpu, name));

  test("ioctl() of each class", ({ vm }) => {
    vm.close();
    expect(() => vm.ioctl(KVM_GET_REGS, new Uint8Array(144))).toThrow(
      new StateError("ERR_CLOSED", "vm"),
    );
  });

  test("the test calls many methods", () => {
    expect([Kvm, Vm, Vcpu].map((handle) => names(handle).length)).toEqual([
      expect.toSatisfy((count: number) => count >= 12),
      expect.toSatisfy((count: number) => count >= 48),
      expect.toSatisfy((count: number) => count >= 55),
    ]);
  });

  test("even if the closed handle is an argument of another handle's method", ({ vm }) => {
    const event = EventFd.create();
    event.close();
    expect(() => vm.irqfd({ fd: event, gsi: 0 })).toThrow(new StateError("ERR_CLOSED", "eventfd"));
  });

  test("but close() can be called again", ({ kvm, vm, vcpu }) => {
    for (const handle of [vcpu, vm, kvm, vcpu, vm, kvm]) handle.close();
    expect([kvm.closed, vm.closed, vcpu.closed]).toEqual([true, true, true]);
  });

  test("but the handles that the closed handle created stay open", ({ kvm }) => {
    using vm = kvm.createVm();
    kvm.close();
    using vcpu = vm.createVcpu(0);
    vm.close();
    expect(vcpu.getRegs().rip).toBe(0xfff0n);
  });
});
