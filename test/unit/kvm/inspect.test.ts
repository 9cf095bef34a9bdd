/** Tests of the output of util.inspect for handles, memory and errors. The tests need no KVM. */
import { inspect } from "node:util";
import { afterAll, describe, expect, test } from "vitest";
import { KvmError } from "../../../lib/errors.ts";
import { Device } from "../../../lib/kvm/device.ts";
import { EventFd, SevDevice } from "../../../lib/kvm/host-file.ts";
import { Kvm } from "../../../lib/kvm/kvm.ts";
import { DirtyRing } from "../../../lib/kvm/memory/dirty-pages.ts";
import { GuestMemfd } from "../../../lib/kvm/memory/guest-memfd.ts";
import { GuestMemory } from "../../../lib/kvm/memory/guest-memory.ts";
import { CoalescedRing } from "../../../lib/kvm/run/coalesced-ring.ts";
import { RunPage } from "../../../lib/kvm/run/run-page.ts";
import { Stats } from "../../../lib/kvm/stats.ts";
import { Vcpu } from "../../../lib/kvm/vcpu.ts";
import { Vm } from "../../../lib/kvm/vm.ts";
import { Ram } from "../../../lib/machine/ram.ts";
import { Sandbox } from "../../../lib/machine/sandbox.ts";
import type { NativeFd, NativeHostFile } from "../../../lib/native.ts";
import { RestoreError } from "../../../lib/state/error.ts";
import { VcpuWorker } from "../../../lib/worker/vcpu-worker.ts";
import { fakeHandles } from "./fake-fd.ts";
import { mapped, sourceOf } from "./kvm-run.ts";

const memory = GuestMemory.allocate(0x20_0000);
afterAll(() => memory.close());

const file = { mapRun: () => undefined, read: () => -9, close: () => undefined };
const fd = file as unknown as NativeFd;
const hostFile = { readCounter: () => 0n, close: () => undefined } as unknown as NativeHostFile;

/** Creates a VM with a vCPU and two slots, one of them for SMM, and clears the list of issued ioctls. */
function machine(): ReturnType<typeof fakeHandles> {
  const made = fakeHandles();
  made.vm.ioctl({ name: "KVM_CREATE_VCPU", request: 0xae41, size: 0 } as never, 0);
  made.vm.setUserMemoryRegion({ slot: 0, guestPhysAddr: 0n, memory });
  made.vm.setUserMemoryRegion({ slot: 0x1_0000, guestPhysAddr: 0xa_0000n, memory });
  made.requests.length = 0;
  return made;
}

const { kvm, vm, vcpu, device, requests } = machine();
const page = new RunPage({ enter: () => 0, source: sourceOf(mapped({ exitReason: 5 })) } as never);

const rows: readonly (readonly [text: string, value: object])[] = [
  ["Kvm { path: '/dev/kvm' }", kvm],
  ["Vm { vcpus: 1, slots: 2 }", vm],
  ["Vcpu { id: 0 }", vcpu],
  ["Device { type: 5 }", device],
  ["Stats { label: 'vm stats' }", new Stats(fd, "vm stats")],
  ["GuestMemfd { size: 0x10000, flags: 0x3 }", new GuestMemfd(fd, 0x1_0000n, 3n)],
  ["EventFd {}", Reflect.construct(EventFd, [hostFile, "eventfd"]) as EventFd],
  ["SevDevice { label: '/dev/sev' }", Reflect.construct(SevDevice, [hostFile, "/dev/sev"])],
  ["GuestMemory { byteLength: 0x200000 }", memory],
  ["DirtyRing { size: 256 }", new DirtyRing(new ArrayBuffer(4096))],
  ["CoalescedRing { capacity: 170, pending: 0 }", new CoalescedRing(new Uint8Array(4096))],
  ["RunPage { exitReason: 'KVM_EXIT_HLT' }", page],
  [
    "AddressSpace { id: 0, slots: [ { slot: 0, flags: 0, guestPhysAddr: 0x0, memorySize: 0x200000, " +
      "memory: GuestMemory { byteLength: 0x200000 }, memoryOffset: 0 } ] }",
    vm.memory,
  ],
  [
    "Ram { byteLength: 0x200000, regions: [ { guestPhysAddr: 0x0, byteLength: 0x200000, slot: 16, " +
      "memory: GuestMemory { byteLength: 0x200000 } } ] }",
    new Ram([{ guestPhysAddr: 0n, byteLength: 0x20_0000, slot: 16, memory }]),
  ],
];

describe("util.inspect prints", () => {
  test.each(rows)("%s", (text, value) => {
    const options = { depth: null, compact: 9, breakLength: Number.POSITIVE_INFINITY };
    expect(inspect(value, options)).toBe(text);
  });

  test("a Sandbox with its handles and the mode of its program", () => {
    const sandbox = Object.assign(Object.create(Sandbox.prototype) as object, {
      vm,
      vcpu,
      memory,
      program: { mode: "long" },
    });
    expect(inspect(sandbox)).toBe(
      "Sandbox {\n  mode: 'long',\n  vm: Vm { vcpus: 1, slots: 2 },\n  vcpu: Vcpu { id: 0 },\n" +
        "  memory: GuestMemory { byteLength: 0x200000 }\n}",
    );
  });

  test("a closed handle as closed", () => {
    const closed = machine();
    closed.vcpu.close();
    closed.vm.close();
    closed.kvm.close();
    expect([closed.kvm, closed.vm, closed.vcpu].map((handle) => inspect(handle))).toEqual([
      "Kvm { path: '/dev/kvm', closed: true }",
      "Vm { vcpus: 1, slots: 2, closed: true }",
      "Vcpu { id: 0, closed: true }",
    ]);
    const gone = GuestMemory.allocate(4096);
    gone.close();
    expect(inspect(gone)).toBe("GuestMemory { byteLength: 0x1000, closed: true }");
  });

  test("a subclass under its own name", () => {
    class Guest extends Device {}
    expect(inspect(new Guest(fd, 5))).toBe("Guest { type: 5 }");
  });

  test("a handle below the requested depth as the name of its class", () => {
    expect(inspect({ vm }, { depth: 0 })).toBe("{ vm: [Vm] }");
    expect(inspect({ list: [vm] }, { depth: 1 })).toBe("{ list: [ [Vm] ] }");
  });

  test("a nested handle with the remaining levels of the depth option", () => {
    expect(inspect({ a: { b: vm.memory } })).toBe(
      "{ a: { b: AddressSpace { id: 0, slots: [Array] } } }",
    );
  });

  test("a handle in the colours that the options select", () => {
    expect(inspect(memory, { colors: true })).toBe(
      "GuestMemory { byteLength: \u001b[33m0x200000\u001b[39m }",
    );
  });

  test("a handle with one member per line if compact is false", () => {
    expect(inspect(vm, { compact: false })).toBe("Vm {\n  vcpus: 1,\n  slots: 2\n}");
  });
});

describe("util.inspect of a handle", () => {
  test("issues no ioctl", () => {
    for (const [, value] of rows) inspect(value, { depth: null, showHidden: true });
    expect(requests).toEqual([]);
  });

  test.each([Kvm, Vm, Vcpu, GuestMemory, DirtyRing, CoalescedRing, EventFd, RunPage, VcpuWorker])(
    "does not throw for an object whose constructor did not finish: %o",
    (made) => {
      const name = made.name;
      expect(inspect(Object.create(made.prototype))).toMatch(new RegExp(`^${name} \\{.*\\}$`));
    },
  );

  test("does not throw when Array.prototype is polluted", () => {
    const { map } = Array.prototype;
    Array.prototype.map = () => {
      throw new Error("map");
    };
    let text = "";
    try {
      text = inspect(vm.memory);
    } finally {
      Array.prototype.map = map;
    }
    expect(text).toBe("AddressSpace {}");
  });

  test("uses a non-enumerable method on the prototypes, and adds no method to Object.prototype", () => {
    const own = Object.getOwnPropertyDescriptor(Vm.prototype, inspect.custom);
    expect(own?.enumerable).toBe(false);
    expect(Object.hasOwn(Object.prototype, inspect.custom)).toBe(false);
  });
});

describe("util.inspect prints a KvmError", () => {
  const init = { call: "KVM_SET_REGS", object: "vcpu 0", errno: 22 };

  test("with its arguments in hexadecimal, and without a separate reason because the message contains it", () => {
    const error = new KvmError({ ...init, args: { rip: 0xfff0n, nent: 16 }, reason: "too large" });
    const text = inspect(error);
    expect(text.startsWith(`${error.stack} {\n`)).toBe(true);
    expect(text.slice(error.stack?.length)).toBe(
      " {\n  call: 'KVM_SET_REGS',\n  object: 'vcpu 0',\n  errno: 22,\n  code: 'EINVAL',\n" +
        "  args: { rip: 0xfff0, nent: 16 }\n}",
    );
  });

  test("with one line for each CPUID entry", () => {
    const error = new KvmError({ ...init, args: { entries: [{ function: 7 }] } });
    expect(inspect(error)).toContain(
      "0x7.0: eax=0x00000000 ebx=0x00000000 ecx=0x00000000 edx=0x00000000",
    );
  });

  test("without its empty members", () => {
    expect(inspect(new KvmError(init))).not.toContain("args");
  });

  test("with its cause, and as the cause of another error", () => {
    const error = new KvmError({ ...init, args: { rip: 0xfff0n } });
    expect(inspect(new Error("above", { cause: error }))).toContain("args: { rip: 0xfff0 }");
    error.cause = new Error("below");
    expect(inspect(error)).toContain("below");
  });

  test("with the values that a restore lost", () => {
    const one = { object: "vcpu 0", part: "msrs", path: "msrs[0x48]", wrote: 16n, reads: 0n };
    const error = new RestoreError("vcpu 0", "msrs", "lost", {
      differences: [{ ...one, isRefused: false }],
    });
    expect(inspect(error)).toContain("wrote: 0x10");
    expect(inspect(error)).not.toContain("findings");
  });

  test("with its stack if Object.prototype is polluted", () => {
    const error = new KvmError(init);
    Reflect.set(Object.prototype, "get", "polluted");
    let text = "";
    try {
      text = inspect(error);
    } finally {
      Reflect.deleteProperty(Object.prototype, "get");
    }
    expect(text).toBe(error.stack);
  });
});
