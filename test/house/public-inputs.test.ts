/**
 * Tests that every public method with an object argument rejects an unknown member by name, before it calls the kernel.
 * The test finds the methods in the types of lib/, and fails for a method without a row in this file.
 */
import { describe, expect, test } from "vitest";
import { KVM_EXIT_TDX } from "../../lib/abi/generated/constants.ts";
import * as structs from "../../lib/abi/generated/structs.ts";
import { type Layout, read, sizeOf } from "../../lib/abi/struct.ts";
import { KvmError } from "../../lib/errors.ts";
import { guest, identityMap, mem, protectedHandlers } from "../../lib/guest/index.ts";
import { EventFd } from "../../lib/kvm/host-file.ts";
import { Kvm } from "../../lib/kvm/kvm.ts";
import { GuestMemory } from "../../lib/kvm/memory/guest-memory.ts";
import { mapRam, ramRegions } from "../../lib/machine/ram.ts";
import { Sandbox } from "../../lib/machine/sandbox.ts";
import { VcpuWorker } from "../../lib/worker/vcpu-worker.ts";
import { PublicInputs } from "../helpers/public-inputs.ts";
import { fakeHandles } from "../unit/kvm/fake-fd.ts";
import { decode } from "../unit/kvm/kvm-run.ts";

const found = new PublicInputs([
  "index",
  "guest/index",
  "machine/index",
  "state/index",
  "worker/index",
]).list();

/** Inputs without a row in this test, because programs do not create these objects. */
const EXEMPT: readonly (readonly [inputs: RegExp, reason: string])[] = [
  [/\.ioctl\(ioctl\)$/, "an Ioctl is one of the list of node-kvm/abi"],
  [
    /^(Assembler|Block|SystemBlock)\./,
    "an operand that is an object is made by mem() and at(), whose input is checked",
  ],
  [
    /^(decodeCpuid|decodeUcall|encodeDescriptor|encodeGdt)\(/,
    "values that are read, of which a caller may hold more: CPUID entries, segments, memory",
  ],
  [/^Sandbox\.ucall\(exit\)$|^isUcall\(exit\)$/, "an exit is made by this package"],
  [/^mapRam\(vm\)$/, "a Vm"],
  [/^new RestoreError\(/, "this package makes it"],
  [/^new Ram\(regions\[\]\)$/, "regions are made by mapRam(), and a program may add to them"],
  [/^GuestBuilder\.cpuidAll\(inputs\[\]\)$/, "entries of a CPUID table have more members"],
  [
    /^Vcpu\.(explainMsrs\(sent|compareMsrs\(entries)\[\]\)$/,
    "entries that were read have more members",
  ],
  [/^explainExit\(exit\)$/, "an exit is made by this package"],
  [
    /State\(state\)$|^stateTo/,
    "a saved state may be of a later version; test/unit/state says what becomes of its members",
  ],
  [
    /^CpuidTable\.|^fromSupported\(|^checkCpuid\(/,
    "the inputs of node-kvm/cpuid are the claims of test/unit/cpuid",
  ],
];

type Bad = Readonly<Record<string, unknown>>;
type Call = (bad: never) => unknown;

const zero = <T>(layout: Layout<T>): object =>
  read(layout, new Uint8Array(sizeOf(layout))) as object;

const { vm, vcpu, kvm, device, requests } = fakeHandles();
const event = EventFd.create();
const memory = GuestMemory.allocate(4096);
const program = guest("long", (g) => g.done());
const bitmap = new Uint8Array(8);

/** For each input: a valid object, to which the test adds one unknown member, and the call. */
const ROWS: Readonly<Record<string, readonly [input: object, call: Call]>> = {
  "Device.getDeviceAttr(attribute)": [{ group: 0, attr: 0n }, (x) => device.getDeviceAttr(x)],
  "Device.hasDeviceAttr(attribute)": [{ group: 0, attr: 0n }, (x) => device.hasDeviceAttr(x)],
  "Device.setDeviceAttr(attribute)": [{ group: 0, attr: 0n }, (x) => device.setDeviceAttr(x)],
  "Kvm.open(options)": [{}, (x) => Kvm.open("/dev/null", x)],
  "Kvm.getDeviceAttr(attribute)": [{ group: 0, attr: 0n }, (x) => kvm.getDeviceAttr(x)],
  "Kvm.hasDeviceAttr(attribute)": [{ group: 0, attr: 0n }, (x) => kvm.hasDeviceAttr(x)],
  "Vcpu.getDeviceAttr(attribute)": [{ group: 0, attr: 0n }, (x) => vcpu.getDeviceAttr(x)],
  "Vcpu.hasDeviceAttr(attribute)": [{ group: 0, attr: 0n }, (x) => vcpu.hasDeviceAttr(x)],
  "Vcpu.setDeviceAttr(attribute)": [{ group: 0, attr: 0n }, (x) => vcpu.setDeviceAttr(x)],
  "EventFd.signals(options)": [{}, async (x) => await event.signals(x).next()],
  "EventFd.wait(options)": [{}, (x) => event.wait(x)],
  "GuestMemory.allocate(options)": [{}, (x) => GuestMemory.allocate(4096, x)],
  "GuestMemory.mapFile(options)": [{}, (x) => GuestMemory.mapFile("/etc/passwd", x)],
  "RunPage.setSyncRegs(value)": [{}, (x) => vcpu.lowLevel().setSyncRegs(x)],
  "TdxGetTdvmcallInfoExit.reply(info)": [{ r11: 1 }, (x) => tdxInfo().reply(x)],
  "Device.ioctl(context)": [{}, (x) => device.ioctl(IOCTL, undefined, x)],
  "GuestMemfd.ioctl(context)": [{}, (x) => vm.ioctl(IOCTL, undefined, x)],
  "Handle.ioctl(context)": [{}, (x) => vm.ioctl(IOCTL, undefined, x)],
  "Kvm.ioctl(context)": [{}, (x) => kvm.ioctl(IOCTL, undefined, x)],
  "Stats.ioctl(context)": [{}, (x) => vm.ioctl(IOCTL, undefined, x)],
  "Vcpu.ioctl(context)": [{}, (x) => vcpu.ioctl(IOCTL, undefined, x)],
  "Vm.ioctl(context)": [{}, (x) => vm.ioctl(IOCTL, undefined, x)],
  "Vcpu.enableCap(input)": [
    { cap: "KVM_CAP_X86_USER_SPACE_MSR", mask: 4 },
    (x) => vcpu.enableCap(x),
  ],
  "Vm.enableCap(input)": [{ cap: "KVM_CAP_X86_USER_SPACE_MSR", mask: 4 }, (x) => vm.enableCap(x)],
  "Vcpu.exits(options)": [{}, async (x) => await vcpu.exits(x).next()],
  "Vcpu.run(options)": [{}, (x) => vcpu.run(x)],
  "Vcpu.memoryEncryptOp(command)": [{ id: 0 }, (x) => vcpu.memoryEncryptOp(x)],
  "Vm.memoryEncryptOp(command)": [{ id: 0 }, (x) => vm.memoryEncryptOp(x)],
  "Vcpu.runSync(options)": [{}, (x) => vcpu.runSync(x)],
  "Vcpu.restoreState(options)": [{}, (x) => vcpu.restoreState({ id: 0 }, x)],
  "Vm.restoreState(options)": [{}, (x) => vm.restoreState({ vcpus: [] } as never, [], x)],
  "Vcpu.saveState(options)": [{}, (x) => vcpu.saveState(x)],
  "Vm.saveState(options)": [{}, (x) => vm.saveState([], x)],
  "Vcpu.setCpuid(entries[])": [{ function: 1 }, (x) => vcpu.setCpuid([x])],
  "Vcpu.setCpuid2(entries[])": [{ function: 1 }, (x) => vcpu.setCpuid2([x])],
  "Vcpu.setCpuid2(options)": [{}, (x) => vcpu.setCpuid2([], x)],
  "Vcpu.setExitFilter(rules[])": [{ pio: 1 }, (x) => vcpu.setExitFilter([x])],
  "Vcpu.setMsrs(entries[])": [{ index: 0x10, data: 0n }, (x) => vcpu.setMsrs([x])],
  "Vcpu.preFaultMemory(value)": [{ gpa: 0n, size: 0n }, (x) => vcpu.preFaultMemory(x)],
  "Vcpu.setDebugregs(value)": [zero(structs.Debugregs), (x) => vcpu.setDebugregs(x)],
  "Vcpu.setFpu(value)": [zero(structs.Fpu), (x) => vcpu.setFpu(x)],
  "Vcpu.setGuestDebug(value)": [{ control: 0 }, (x) => vcpu.setGuestDebug(x)],
  "Vcpu.setRegs(value)": [zero(structs.Regs), (x) => vcpu.setRegs(x)],
  "Vcpu.setSregs(value)": [zero(structs.Sregs), (x) => vcpu.setSregs(x)],
  "Vcpu.setSregs2(value)": [zero(structs.Sregs2), (x) => vcpu.setSregs2(x)],
  "Vcpu.setVapicAddr(value)": [{ vapicAddr: 0n }, (x) => vcpu.setVapicAddr(x)],
  "Vcpu.setVcpuEvents(value)": [zero(structs.VcpuEvents), (x) => vcpu.setVcpuEvents(x)],
  "Vcpu.setXcrs(value)": [zero(structs.Xcrs), (x) => vcpu.setXcrs(x)],
  "Vcpu.tprAccessReporting(value)": [{ enabled: 1 }, (x) => vcpu.tprAccessReporting(x)],
  "Vcpu.updateDebugregs(patch)": [{}, (x) => vcpu.updateDebugregs(x)],
  "Vcpu.updateFpu(patch)": [{}, (x) => vcpu.updateFpu(x)],
  "Vcpu.updateRegs(patch)": [{}, (x) => vcpu.updateRegs(x)],
  "Vcpu.updateSregs(patch)": [{}, (x) => vcpu.updateSregs(x)],
  "Vcpu.updateSregs2(patch)": [{}, (x) => vcpu.updateSregs2(x)],
  "Vcpu.updateVcpuEvents(patch)": [{}, (x) => vcpu.updateVcpuEvents(x)],
  "Vcpu.x86SetMce(value)": [{ bank: 0, status: 0n }, (x) => vcpu.x86SetMce(x)],
  "Vcpu.xenVcpuSetAttr(attr)": [{ type: 0 }, (x) => vcpu.xenVcpuSetAttr(x)],
  "Vcpu.xenVcpuSetAttr(vcpuInfo)": [{ memory }, (x) => vcpu.xenVcpuSetAttr({ type: 0 }, x)],
  "VcpuWorker.run(options)": [{}, (x) => worker().run(x)],
  "Vm.clearDirtyLog(range)": [
    { slot: 0, firstPage: 0n, numPages: 64, dirtyBitmap: bitmap },
    (x) => vm.clearDirtyLog(x),
  ],
  "Vm.createGuestMemfd(options)": [{ size: 4096 }, (x) => vm.createGuestMemfd(x)],
  "Vm.createPit2(value)": [{}, (x) => vm.createPit2(x)],
  "Vm.hypervEventfd(input)": [{ connId: 1 }, (x) => vm.hypervEventfd(x)],
  "Vm.ioeventfd(input)": [{ fd: event, addr: 0, len: 1 }, (x) => vm.ioeventfd(x)],
  "Vm.irqfd(input)": [{ fd: event, gsi: 1 }, (x) => vm.irqfd(x)],
  "Vm.memoryEncryptRegRegion(region)": [
    { memory, size: 4096 },
    (x) => vm.memoryEncryptRegRegion(x),
  ],
  "Vm.memoryEncryptUnregRegion(region)": [
    { memory, size: 4096 },
    (x) => vm.memoryEncryptUnregRegion(x),
  ],
  "Vm.registerCoalescedMmio(value)": [{ addr: 0, size: 8 }, (x) => vm.registerCoalescedMmio(x)],
  "Vm.reinjectControl(value)": [{ pitReinject: 1 }, (x) => vm.reinjectControl(x)],
  "Vm.setClock(value)": [{ clock: 0 }, (x) => vm.setClock(x)],
  "Vm.setGsiRouting(entries[])": [{ gsi: 1, type: 1, u: {} }, (x) => vm.setGsiRouting([x])],
  "Vm.setIrqchip(value)": [zero(structs.Irqchip), (x) => vm.setIrqchip(x)],
  "Vm.setMemoryAttributes(value)": [
    { address: 0, size: 4096, attributes: 0 },
    (x) => vm.setMemoryAttributes(x),
  ],
  "Vm.setPit(value)": [zero(structs.PitState), (x) => vm.setPit(x)],
  "Vm.setPit2(value)": [zero(structs.PitState2), (x) => vm.setPit2(x)],
  "Vm.setPmuEventFilter(value)": [{ action: 0, events: [] }, (x) => vm.setPmuEventFilter(x)],
  "Vm.setUserMemoryRegion(region)": [
    { slot: 0, guestPhysAddr: 0n, memory },
    (x) => vm.setUserMemoryRegion(x),
  ],
  "Vm.setUserMemoryRegion2(region)": [
    { slot: 0, guestPhysAddr: 0n, memory },
    (x) => vm.setUserMemoryRegion2(x),
  ],
  "Vm.signalMsi(value)": [{ addressLo: 0xfee0_0000, data: 1 }, (x) => vm.signalMsi(x)],
  "Vm.unregisterCoalescedMmio(value)": [{ addr: 0, size: 8 }, (x) => vm.unregisterCoalescedMmio(x)],
  "Vm.x86SetMsrFilter(filter)": [{}, (x) => vm.x86SetMsrFilter(x)],
  "Vm.xenHvmConfig(blobs)": [{}, (x) => vm.xenHvmConfig({ msr: 1 }, x)],
  "Vm.xenHvmConfig(config)": [{ msr: 1 }, (x) => vm.xenHvmConfig(x)],
  "Vm.xenHvmEvtchnSend(value)": [{ port: 1, vcpu: 0, priority: 0 }, (x) => vm.xenHvmEvtchnSend(x)],
  "Vm.xenHvmSetAttr(attr)": [{ type: 0 }, (x) => vm.xenHvmSetAttr(x)],
  "Vm.xenHvmSetAttr(files)": [{}, (x) => vm.xenHvmSetAttr({ type: 0 }, x)],
  "guest(options)": [{}, (x) => guest("long", (g) => g.done(), x)],
  "identityMap(options)": [{}, (x) => identityMap(x)],
  "protectedHandlers(user)": [{ cs: 1, ss: 1, rflags: 2n }, (x) => protectedHandlers(64, x)],
  "mapRam(options)": [{}, (x) => mapRam(vm, 4096, x)],
  "mem(address)": [{ base: "rax" }, (x) => mem(32, x)],
  "new KvmError(init)": [{ call: "x", object: "vm", errno: 1 }, (x) => new KvmError(x)],
  "new Sandbox(options)": [{ program }, (x) => new Sandbox(kvm, x)],
  "ramRegions(layout)": [{}, (x) => ramRegions(4096, x)],
};

const IOCTL = { request: 0, name: "KVM_NMI", kind: "none" } as never;

function worker(): VcpuWorker {
  return Object.create(VcpuWorker.prototype) as VcpuWorker;
}

function tdxInfo(): { reply(info: object): void } {
  const exit = decode({ exitReason: KVM_EXIT_TDX, tdx: { nr: 0x10000n } });
  return exit as unknown as { reply(info: object): void };
}

const isExempt = (input: string): boolean => EXEMPT.some(([inputs]) => inputs.test(input));

/** Returns the message of the error that a call throws or rejects with. */
async function refusalOf(call: Call, input: Bad): Promise<string> {
  try {
    await call(input as never);
  } catch (error) {
    return `${(error as Error).name}: ${(error as Error).message}`;
  }
  return "nothing was refused";
}

test("every options object of a public method has a row in the test of unknown members", () => {
  expect(found.filter((input) => !(isExempt(input) || Object.hasOwn(ROWS, input)))).toEqual([]);
});

test("every row and every exemption of the test of unknown members belongs to an existing options object", () => {
  expect(Object.keys(ROWS).filter((input) => !found.includes(input))).toEqual([]);
  expect(EXEMPT.filter(([inputs]) => !found.some((input) => inputs.test(input)))).toEqual([]);
});

describe("an unknown member of an options object is rejected by name in the call", () => {
  test.each(Object.entries(ROWS))("%s", async (name, [input, call]) => {
    const method = /(\w+)\(/.exec(name)?.[1];
    const before = requests.length;
    const message = await refusalOf(call, { ...input, typo: 1 });
    expect(message).toMatch(/^TypeError: .*"typo"/);
    expect(message).toContain(`${method}()`);
    expect(requests.length).toBe(before);
  });
});

test("unknown members of nested objects are rejected too", async () => {
  const range = { flags: 1, base: 0, bitmap, typo: 1 };
  expect(await refusalOf((x: never) => vm.x86SetMsrFilter(x), { ranges: [range] })).toBe(
    'TypeError: x86SetMsrFilter(): ranges[0]: unknown member "typo"; known are flags, base, bitmap, nmsrs',
  );
  const sregs = { ...zero(structs.Sregs), cs: { ...zero(structs.Segment), typo: 1 } };
  expect(await refusalOf((x: never) => vcpu.setSregs(x), sregs)).toMatch(
    /^TypeError: setSregs\(\): kvm_sregs\.cs has no field "typo"/,
  );
  expect(
    await refusalOf((x: never) => vm.xenHvmConfig({ msr: 1 }, x), { blob32: { memory, typo: 1 } }),
  ).toMatch(/^TypeError: xenHvmConfig\(\): .*: unknown member "typo"/);
});
