/**
 * Tests of the arguments of methods: the rule for numbers and bigints, the names of wrong members, and options that are
 * read once. The tests need no KVM.
 */
import { subscribe, unsubscribe } from "node:diagnostics_channel";
import { describe, expect, onTestFinished, test } from "vitest";
import { KVM_GET_DEVICE_ATTR, KVM_HAS_DEVICE_ATTR } from "../../../lib/abi/generated/ioctls.ts";
import { formatChange } from "../../../lib/cpuid/diff.ts";
import { fromSupported } from "../../../lib/cpuid/index.ts";
import { explainExit } from "../../../lib/kvm/exits/explain.ts";
import { EventFd } from "../../../lib/kvm/host-file.ts";
import { Kvm } from "../../../lib/kvm/kvm.ts";
import { dirtyPages } from "../../../lib/kvm/memory/dirty-pages.ts";
import { GuestMemory } from "../../../lib/kvm/memory/guest-memory.ts";
import { mapRam } from "../../../lib/machine/ram.ts";
import { stateFromBytes, stateToBytes } from "../../../lib/state/binary.ts";
import { stateToJson } from "../../../lib/state/json.ts";
import { stateFromJson } from "../../../lib/state/json-reader.ts";
import { exportC } from "../../../lib/trace/export-c.ts";
import { type FakeHandles, fakeHandles } from "./fake-fd.ts";

const memory = GuestMemory.allocate(0x2000);

type Call = (handles: FakeHandles) => unknown;

describe("the error about a wrong or missing value names the value:", () => {
  test.each<[message: string, call: Call]>([
    [
      'GuestMemory.allocate(): populate: expected true or false, got "yes"',
      () => GuestMemory.allocate(4096, { populate: "yes" as never }),
    ],
    [
      "GuestMemory.allocate(): shared: expected true or false, got 1",
      () => GuestMemory.allocate(4096, { shared: 1 as never }),
    ],
    [
      "GuestMemory.mapFile(): dump: expected true or false, got 0",
      () => GuestMemory.mapFile("/dev/zero", { dump: 0 as never }),
    ],
    [
      "Kvm.open(): explain: expected true or false, got 1",
      () => Kvm.open("/nowhere", { explain: 1 as never }),
    ],
    [
      'setCpuid2(): explain: expected true or false, got "no"',
      ({ vcpu }) => vcpu.setCpuid2([], { explain: "no" as never }),
    ],
    [
      "vcpu 0: explain: expected true or false, got null",
      ({ vcpu }) => {
        vcpu.explain = null as never;
      },
    ],
    [
      'runSync(): throughSignals: expected true or false, got "x"',
      ({ vcpu }) => vcpu.runSync({ throughSignals: "x" as never }),
    ],
    ["getCpuid2(): nent: expected a count of entries, got -1", ({ vcpu }) => vcpu.getCpuid2(-1)],
    [
      'getCpuid2(): nent: expected a count of entries, got "3"',
      ({ vcpu }) => vcpu.getCpuid2("3" as never),
    ],
    [
      "createVm(): expected a bigint or an integer, got null",
      ({ kvm }) => kvm.createVm(null as never),
    ],
    [
      "setUserMemoryRegion(): memoryOffset: -4096 does not fit u64",
      ({ vm }) =>
        vm.setUserMemoryRegion({ slot: 0, guestPhysAddr: 0, memory, memoryOffset: -4096 }),
    ],
    [
      "getDirtyLog(): slot: expected a bigint or an integer, got null",
      ({ vm }) => vm.getDirtyLog(null as never),
    ],
    ["mapRam(): slot: -1 does not fit u32", ({ vm }) => mapRam(vm, 4096, { slot: -1 })],
    [
      "mapRam(): holeStart: 5 is not a multiple of 4096 from 0 to 4294967296",
      ({ vm }) => mapRam(vm, 4096, { holeStart: 5n }),
    ],
    ["mapRam(): vm: expected a Vm, got null", () => mapRam(null as never, 4096)],
    [
      "ioctl(): expected an ioctl of node-kvm/abi, got null",
      ({ vcpu }) => vcpu.ioctl(null as never),
    ],
    [
      "explainExit(): exit: expected an object, got null",
      ({ vcpu }) => explainExit(null as never, vcpu),
    ],
    [
      "explainExit(): vcpu: expected an object, got 5n",
      () => explainExit({ kind: "hlt" }, 5n as never),
    ],
    ["stateToJson(): expected a saved state, got null", () => stateToJson(null as never)],
    ["stateToBytes(): expected a saved state, got 5n", () => stateToBytes(5n as never)],
    [
      "stateFromJson(): expected a string, got a symbol",
      () => stateFromJson(Symbol("json") as never),
    ],
    [
      "dirtyPages(): bitmap: expected a Uint8Array or another view, got null",
      () => dirtyPages(null as never),
    ],
    [
      "setXsave(): expected a Uint8Array or another view, got null",
      ({ vcpu }) => vcpu.setXsave(null as never),
    ],
    [
      "setNestedState(): expected a Uint8Array or another view, got 5n",
      ({ vcpu }) => vcpu.setNestedState(5n as never),
    ],
    [
      "explainMsrs(): sent: expected an array or another iterable, got null",
      ({ vcpu }) => vcpu.explainMsrs(null as never, 0),
    ],
    [
      "compareMsrs(): [0]: expected an object, got null",
      ({ vcpu }) => vcpu.compareMsrs([null as never]),
    ],
    [
      "vcpu.restoreState(): state: expected an object, got null",
      ({ vcpu }) => vcpu.restoreState(null as never),
    ],
    [
      "getDeviceAttr(): length: expected a bigint or an integer, got a symbol",
      ({ vcpu }) => vcpu.getDeviceAttr({ group: 0, attr: 0 }, Symbol("length") as never),
    ],
    ["cpuid entry: missing member function", () => fromSupported([{} as never])],
    ["setTssAddr(): -1 does not fit u64", ({ vm }) => vm.setTssAddr(-1)],
    ["EventFd.create(): initval: -1 does not fit u32", () => EventFd.create(-1)],
    [
      "guest memory: offset: expected a number, got 0n",
      () => memory.write(0n as never, Uint8Array.of(1)),
    ],
    ["exportC(): missing members steps, about", () => exportC({} as never)],
    ["formatChange(): missing member kind", () => formatChange({} as never)],
    [
      "stateFromBytes(): expected a Uint8Array or another view, got 5",
      () => stateFromBytes(5 as never),
    ],
  ])("%s", (message, call) => {
    expect(() => call(fakeHandles())).toThrow(message);
  });
});

describe("the error about a wrong member has the name of the called method:", () => {
  test.each<[message: string, call: Call]>([
    [
      'enableCap(): KVM_CAP_X86_USER_SPACE_MSR: unknown member "msk"; did you mean "mask"?',
      ({ vm }) => vm.enableCap({ cap: "KVM_CAP_X86_USER_SPACE_MSR", msk: 4 } as never),
    ],
    [
      "enableCap(): KVM_CAP_X86_USER_SPACE_MSR: missing member mask",
      ({ vm }) => vm.enableCap({ cap: "KVM_CAP_X86_USER_SPACE_MSR" } as never),
    ],
    [
      "enableCap(): KVM_CAP_VM_COPY_ENC_CONTEXT_FROM: missing member file",
      ({ vm }) => vm.enableCap({ cap: "KVM_CAP_VM_COPY_ENC_CONTEXT_FROM" } as never),
    ],
    [
      'unknown capability "toString"',
      ({ vm }) => vm.enableCap({ cap: "toString" as never, args: [] }),
    ],
    ['unknown capability "constructor"', ({ kvm }) => kvm.checkExtension("constructor" as never)],
    [
      'unknown capability "KVM_CAP_IRQCHIPS"; did you mean "KVM_CAP_IRQCHIP"?',
      ({ kvm }) => kvm.checkExtension("KVM_CAP_IRQCHIPS" as never),
    ],
    [
      "capability: expected a name or a number, got null",
      ({ kvm }) => kvm.checkExtension(null as never),
    ],
    [
      'setUserMemoryRegion(): unknown member "guestPhysAdr"; did you mean "guestPhysAddr"?',
      ({ vm }) => vm.setUserMemoryRegion({ slot: 0, guestPhysAdr: 0n, memory } as never),
    ],
    [
      "setUserMemoryRegion(): missing member guestPhysAddr",
      ({ vm }) => vm.setUserMemoryRegion({ slot: 0, memory } as never),
    ],
    [
      'setUserMemoryRegion(): unknown member "guestMemfd"; known are slot, guestPhysAddr, flags, memorySize, memory, memoryOffset',
      ({ vm }) => vm.setUserMemoryRegion({ slot: 0, guestPhysAddr: 0n, guestMemfd: 1 } as never),
    ],
    [
      'setUserMemoryRegion(): guestPhysAddr: expected a bigint or an integer, got "0"',
      ({ vm }) => vm.setUserMemoryRegion({ slot: 0, guestPhysAddr: "0" as never, memory }),
    ],
    [
      'setUserMemoryRegion(): slot: expected a bigint or an integer, got "0"',
      ({ vm }) => vm.setUserMemoryRegion({ slot: "0" as never, guestPhysAddr: 0n, memory }),
    ],
    [
      "setRegs(): kvm_regs: missing members rax, rbx, rcx, rdx, rsi, rdi, rsp, rbp, 9 more; updateRegs() changes some fields only",
      ({ vcpu }) => vcpu.setRegs({ rip: 1n } as never),
    ],
    [
      "setSregs(): kvm_sregs.cr0: expected a bigint or a number (u64), got null",
      ({ vcpu }) => vcpu.setSregs({ cr0: null } as never),
    ],
    [
      "setMsrs(): [1]: missing member data",
      ({ vcpu }) => vcpu.setMsrs([{ index: 1, data: 0n }, { index: 2 } as never]),
    ],
    [
      "setCpuid2(): [0]: missing member function",
      ({ vcpu }) => vcpu.setCpuid2([{ eax: 1 } as never]),
    ],
    [
      "setGsiRouting(): entries[0]: missing members type, u",
      ({ vm }) => vm.setGsiRouting([{ gsi: 5 } as never]),
    ],
    [
      "updateDebugregs(): kvm_debugregs: missing member db[1] to [3]",
      ({ vcpu }) => vcpu.updateDebugregs({ db: [1n] }),
    ],
    [
      'signalMsi(): kvm_msi has no field "addresLo"; did you mean "addressLo"?',
      ({ vm }) => vm.signalMsi({ addresLo: 1, data: 1 } as never),
    ],
  ])("%s", (message, call) => {
    const handles = fakeHandles();
    expect(() => call(handles)).toThrow(new TypeError(message));
    expect(handles.requests).toEqual([]);
  });
});

describe("a bigint may be passed as a number if the number is exact", () => {
  test("in memory slots and in accesses to guest memory", () => {
    const { vm } = fakeHandles();
    vm.setUserMemoryRegion({ slot: 0, guestPhysAddr: 0x1000, memorySize: 0x1000, memory });
    expect(vm.memory.slots()).toMatchObject([{ guestPhysAddr: 0x1000n, memorySize: 0x1000n }]);
    vm.memory.write(0x1004, Uint8Array.of(1, 2));
    expect(vm.memory.read(0x1004n, 2)).toEqual(Uint8Array.of(1, 2));
    expect(vm.memory.at(0x1004)).toMatchObject({ offset: 4 });
    expect(vm.memory.window(0x1004, 2)).toEqual(Uint8Array.of(1, 2));
  });

  test("in the memoryOffset of a slot", () => {
    const { vm } = fakeHandles();
    memory.write(0x1004, Uint8Array.of(3, 4));
    const offset = { memoryOffset: 0x1000n };
    vm.setUserMemoryRegion({ slot: 0, guestPhysAddr: 0x1000, memory, ...offset });
    expect(vm.memory.slots()).toMatchObject([{ memorySize: 0x1000n, memoryOffset: 0x1000 }]);
    expect(vm.memory.read(0x1004, 2)).toEqual(Uint8Array.of(3, 4));
    vm.memory.write(0x1004, Uint8Array.of(5, 6));
    expect(memory.read(0x1004, 2)).toEqual(Uint8Array.of(5, 6));
    expect(vm.memory.at(0x1004)).toMatchObject({ offset: 0x1004 });
    expect(vm.memory.window(0x1004, 2)).toEqual(Uint8Array.of(5, 6));
  });

  test("in the address and the slot of RAM", () => {
    const { vm } = fakeHandles();
    const bigints = { slot: 5n, holeStart: 4096n };
    mapRam(vm, 8192n, bigints as never).close();
    expect(vm.memory.slots().map(({ slot }) => slot)).toEqual([5, 6]);
  });

  test("in the number of a slot", () => {
    const { vm } = fakeHandles();
    vm.setUserMemoryRegion({ slot: 2n as never, guestPhysAddr: 0, memory });
    expect(vm.memory.slots()).toMatchObject([{ slot: 2 }]);
    expect(vm.getDirtyLog(2n as never)).toHaveLength(8);
  });

  test.each<[name: string, call: (value: number, handles: FakeHandles) => unknown]>([
    ["setIdentityMapAddr()", (value, { vm }) => vm.setIdentityMapAddr(value)],
    ["x86SetupMce()", (value, { vcpu }) => vcpu.x86SetupMce(value)],
    ["setMsrs()", (data, { vcpu }) => vcpu.setMsrs([{ index: 0x10, data }])],
    ["enableCap()", (value, { vm }) => vm.enableCap({ cap: 5, args: [value] })],
    [
      "setUserMemoryRegion()",
      (gpa, { vm }) => vm.setUserMemoryRegion({ slot: 0, guestPhysAddr: gpa, memory }),
    ],
    ["updateRegs()", (rip, { vcpu }) => vcpu.updateRegs({ rip })],
    ["setDeviceAttr()", (attr, { vcpu }) => vcpu.setDeviceAttr({ group: 0, attr })],
    ["setClock()", (clock, { vm }) => vm.setClock({ clock })],
  ])("but %s rejects a number that is not a safe integer", (name, call) => {
    expect(() => call(4096, fakeHandles())).not.toThrow();
    expect(() => call(2 ** 60, fakeHandles())).toThrow(/is above 2\^53 and may have lost bits/);
    expect(() => call(2 ** 60, fakeHandles())).toThrow(name);
    expect(() => call(0.5, fakeHandles())).toThrow("0.5 is not an integer");
  });
});

describe("before memory for a large attribute is allocated,", () => {
  test("getDeviceAttr() calls hasDeviceAttr() first", () => {
    const { vcpu, requests } = fakeHandles();
    vcpu.getDeviceAttr({ group: 0, attr: 0 });
    expect(requests).toEqual([KVM_GET_DEVICE_ATTR.request]);
    vcpu.getDeviceAttr({ group: 0, attr: 0 }, 1 << 16);
    expect(requests.slice(1)).toEqual([KVM_HAS_DEVICE_ATTR.request, KVM_GET_DEVICE_ATTR.request]);
  });
});

describe("guest memory accepts the bytes of any typed array or buffer:", () => {
  const wide = Uint16Array.of(0x0201, 0x0403, 0x0605);

  test.each<[name: string, view: ArrayBufferView]>([
    ["Uint16Array", wide],
    ["DataView", new DataView(wide.buffer)],
    ["Buffer", Buffer.from([1, 2, 3, 4, 5, 6])],
  ])("%s", (_, view) => {
    const { vm } = fakeHandles();
    vm.setUserMemoryRegion({ slot: 0, guestPhysAddr: 0, memory });
    memory.write(0, new Uint8Array(32));
    memory.write(2, view);
    vm.memory.write(0x10n, view);
    expect(memory.read(0, 9)).toEqual(Uint8Array.of(0, 0, 1, 2, 3, 4, 5, 6, 0));
    expect(memory.read(16, 7)).toEqual(Uint8Array.of(1, 2, 3, 4, 5, 6, 0));
  });

  test("but not the bytes of a view that reaches beyond the end of the memory", () => {
    expect(() => memory.write(0x2000 - 4, wide)).toThrow(RangeError);
  });

  test.each<[unknown]>([["abc"], [[1, 2]], [null], [5], [new ArrayBuffer(2)]])(
    "but not %j",
    (data) => {
      expect(() => memory.write(0, data as never)).toThrow(
        /^write\(\): expected a Uint8Array or another view, got/,
      );
    },
  );
});

test("a VM is recognised as an open file and not as guest memory, although a VM and guest memory have a member of the same name", () => {
  const { vm, kvm, requests } = fakeHandles();
  const other = kvm;
  vm.enableCap({ cap: "KVM_CAP_VM_COPY_ENC_CONTEXT_FROM", file: vm });
  vm.enableCap({ cap: "KVM_CAP_VM_COPY_ENC_CONTEXT_FROM", file: other });
  expect(requests).toHaveLength(2);
});

describe("options are read once, before the handle's own state is checked:", () => {
  const INTR = { kind: "intr" };

  test("a getter that closes the vCPU makes run() throw ERR_CLOSED", () => {
    const { vcpu } = fakeHandles();
    const options = {
      get signal(): undefined {
        vcpu.close();
        return undefined;
      },
    };
    expect(() => vcpu.run(options)).toThrow(expect.objectContaining({ code: "ERR_CLOSED" }));
  });

  test("a run that a getter of the options starts continues, and the outer run is rejected", async () => {
    const { vcpu } = fakeHandles();
    const inner: Promise<unknown>[] = [];
    const options = {
      get signal(): undefined {
        inner.push(vcpu.run());
        return undefined;
      },
    };
    expect(() => vcpu.run(options)).toThrow(expect.objectContaining({ code: "ERR_RUNNING" }));
    expect(inner).toHaveLength(1);
    vcpu.close();
    expect(await inner[0]).toEqual(INTR);
  });

  test("a signal whose addEventListener() closes the vCPU keeps no listener", () => {
    const { vcpu } = fakeHandles();
    const listeners: string[] = [];
    const signal = {
      aborted: false,
      throwIfAborted: () => undefined,
      addEventListener: () => {
        listeners.push("add");
        vcpu.close();
      },
      removeEventListener: () => listeners.push("remove"),
    };
    expect(() => vcpu.run({ signal: signal as never })).toThrow(
      expect.objectContaining({ code: "ERR_CLOSED" }),
    );
    expect(listeners).toEqual(["add", "remove"]);
    expect(vcpu.running).toBe(false);
  });

  test("run() and exits() call a getter once", async () => {
    const { vcpu } = fakeHandles();
    let reads = 0;
    const options = {
      get signal(): AbortSignal {
        reads += 1;
        return AbortSignal.abort();
      },
    };
    await vcpu.run(options);
    expect(reads).toBe(1);
    for await (const _ of vcpu.exits(options)) expect.unreachable();
    expect(reads).toBe(2);
  });

  test("a getter that closes the eventfd rejects wait()", async () => {
    const event = EventFd.create();
    const options = {
      get signal(): undefined {
        event.close();
        return undefined;
      },
    };
    await expect(event.wait(options)).rejects.toMatchObject({ code: "ERR_CLOSED" });
  });

  test("a signal whose addEventListener() closes the eventfd rejects wait()", async () => {
    const event = EventFd.create();
    const signal = {
      aborted: false,
      throwIfAborted: () => undefined,
      addEventListener: () => event.close(),
      removeEventListener: () => undefined,
    };
    await expect(event.wait({ signal: signal as never })).rejects.toMatchObject({
      code: "ERR_CLOSED",
    });
  });

  test("a signal that is aborted while the counter is read rejects wait()", async () => {
    const event = EventFd.create();
    const controller = new AbortController();
    const abort = (): void => controller.abort();
    subscribe("node-kvm:ioctl", abort);
    onTestFinished(() => void unsubscribe("node-kvm:ioctl", abort));
    await expect(event.wait({ signal: controller.signal })).rejects.toThrow("aborted");
    event.close();
  });

  test("an AbortSignal in place of the options causes a TypeError", () => {
    const { vcpu } = fakeHandles();
    expect(() => vcpu.run(new AbortController().signal as never)).toThrow(
      "run(): expected an object with the options signal, got an object of the class AbortSignal",
    );
  });

  test("a signal option that is not an AbortSignal causes a TypeError", () => {
    const { vcpu } = fakeHandles();
    expect(() => vcpu.run({ signal: {} as never })).toThrow(
      new TypeError("run(): signal: expected an AbortSignal, got an object"),
    );
  });
});

describe("a member that is not own and enumerable counts as missing", () => {
  /** A copy whose members are only inherited. */
  const inherited = <T extends object>(value: T): T => Object.create(value) as T;

  test.each<[method: string, call: (handles: FakeHandles) => unknown]>([
    [
      "setRegs(): kvm_regs: missing members rax",
      ({ vcpu }) => vcpu.setRegs(inherited(vcpu.getRegs())),
    ],
    [
      "setSregs(): kvm_sregs: missing members cs.base, cs.limit",
      ({ vcpu }) => {
        const sregs = vcpu.getSregs();
        vcpu.setSregs({ ...sregs, cs: inherited(sregs.cs) });
      },
    ],
    [
      "setDebugregs(): kvm_debugregs: missing members db, dr6, dr7",
      ({ vcpu }) => vcpu.setDebugregs(inherited(vcpu.getDebugregs())),
    ],
    [
      "setClock(): kvm_clock_data: missing member clock",
      ({ vm }) => vm.setClock(inherited({ clock: 5n })),
    ],
    [
      "setCpuid2(): [0]: missing member function",
      ({ vcpu }) => vcpu.setCpuid2([inherited({ function: 0, eax: 1 })]),
    ],
    [
      "setRegs(): kvm_regs: missing member rip",
      ({ vcpu }) => {
        const hidden = { ...vcpu.getRegs() };
        Object.defineProperty(hidden, "rip", { enumerable: false });
        vcpu.setRegs(hidden);
      },
    ],
  ])("%s", (message, call) => {
    const handles = fakeHandles();
    const before = handles.requests.length;
    expect(() => call(handles)).toThrow(TypeError);
    expect(() => call(handles)).toThrow(message);
    // Only the calls that read the state were issued.
    expect(new Set(handles.requests.slice(before)).size).toBeLessThan(2);
  });
});

describe("an omitted argument is refused and not sent as 0:", () => {
  const nothing = undefined as never;

  test.each<[message: string, call: (handles: FakeHandles) => unknown]>([
    ["interrupt(): kvm_interrupt: missing member irq", ({ vcpu }) => vcpu.interrupt(nothing)],
    ["setMpState(): kvm_mp_state: missing member mpState", ({ vcpu }) => vcpu.setMpState(nothing)],
    [
      "translate(): kvm_translation: missing member linearAddress",
      ({ vcpu }) => vcpu.translate(nothing),
    ],
    [
      "setGsiRouting(): kvm_irq_routing: missing member entries",
      ({ vm }) => vm.setGsiRouting(nothing),
    ],
    ["getIrqchip(): kvm_irqchip: missing member chipId", ({ vm }) => vm.getIrqchip(nothing)],
    [
      "setTscKhz(): expected a bigint or an integer, got undefined",
      ({ vcpu }) => vcpu.setTscKhz(nothing),
    ],
    [
      "setTscKhz(): expected a bigint or an integer, got undefined",
      ({ vm }) => vm.setTscKhz(nothing),
    ],
    [
      "setNrMmuPages(): expected a bigint or an integer, got undefined",
      ({ vm }) => vm.setNrMmuPages(nothing),
    ],
    [
      "setTssAddr(): expected a bigint or an integer, got undefined",
      ({ vm }) => vm.setTssAddr(nothing),
    ],
    [
      "setBootCpuId(): expected a bigint or an integer, got undefined",
      ({ vm }) => vm.setBootCpuId(nothing),
    ],
  ])("%s", (message, call) => {
    const handles = fakeHandles();
    expect(() => call(handles)).toThrow(message);
    expect(handles.requests).toEqual([]);
  });
});
