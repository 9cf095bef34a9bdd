/** Tests of a VM's interrupts, eventfds, statistics, filters and files, and of their effects in KVM. Needs KVM. */
import { describe, expect } from "vitest";
import {
  GUEST_MEMFD_FLAG_INIT_SHARED,
  GUEST_MEMFD_FLAG_MMAP,
  KVM_DEV_TYPE_VFIO,
  KVM_IOEVENTFD_FLAG_PIO,
  KVM_IRQCHIP_PIC_MASTER,
  KVM_MEM_GUEST_MEMFD,
  KVM_MEM_LOG_DIRTY_PAGES,
  KVM_MSR_EXIT_REASON_FILTER,
  KVM_MSR_FILTER_READ,
  KVM_VCPU_TSC_CTRL,
  KVM_VCPU_TSC_OFFSET,
} from "../../../lib/abi/generated/constants.ts";
import { KVM_X86_REG_MSR } from "../../../lib/abi/register-id.ts";
import { fromSupported } from "../../../lib/cpuid/index.ts";
import { StateError } from "../../../lib/errors.ts";
import { type Assembler, guest, mem } from "../../../lib/guest/index.ts";
import { EventFd } from "../../../lib/kvm/host-file.ts";
import type { Vm } from "../../../lib/kvm/vm.ts";
import { Sandbox } from "../../../lib/machine/sandbox.ts";
import { isPvm, refusal, test } from "./on-device.ts";

const STAR = 0xc000_0081;
const VECTOR = 0x20;

/** Returns the bit of line 5 in the interrupt request register of the master 8259A. */
const requestOf = (vm: Vm): number => vm.getIrqchip(KVM_IRQCHIP_PIC_MASTER).chip.pic.irr & 0x20;

const outb = (a: Assembler, port: number, value: number): Assembler =>
  a.mov("al", value).out(8, port);

/** A guest that writes to port 0x80 when it is ready for interrupt line 5, and to port 0x81 after the interrupt. */
const ACKNOWLEDGES = guest("real", (g) =>
  g.asm((a) => {
    // The handler directly follows a call instruction, which pushes the handler's address.
    outb(a.cli().call("after"), 0x20, 0x20);
    outb(a, 0x81, 0).iret().label("after").pop("ax");
    a.mov(mem(16, (VECTOR + 5) * 4), "ax").mov("ax", "cs");
    a.mov(mem(16, (VECTOR + 5) * 4 + 2), "ax");
    outb(outb(outb(outb(a, 0x20, 0x11), 0x21, VECTOR), 0x21, 4), 0x21, 1);
    outb(outb(a, 0x21, 0xdf), 0x80, 0);
    a.sti().label("idle").hlt().jmp("idle");
  }),
);

describe("KVM_GET_TSC_KHZ, which returns an int,", () => {
  test("returns a frequency whose highest bit is set", ({ vcpu }) => {
    vcpu.setTscKhz(0x8000_0000);
    expect(vcpu.getTscKhz()).toBe(0x8000_0000);
  });

  test("is not repeated for a frequency with the bits of a negative errno", ({ vcpu }) => {
    vcpu.setTscKhz(0xffff_fffc);
    expect(refusal(() => vcpu.getTscKhz())).toMatchObject({ code: "EINTR" });
  });
});

describe("an eventfd", () => {
  test("adds up written values until it is read", () => {
    using event = EventFd.create(2);
    event.write();
    event.write(4n);
    expect([event.read(), event.read()]).toEqual([7n, 0n]);
  });

  test("is signalled by a guest's write to a port, without an exit", ({ box }) => {
    const { vm, vcpu } = box((g) => g.outb(0x80, 1).outb(0x80, 2).outb(0x81, 3).hlt());
    using event = EventFd.create();
    vm.ioeventfd({ fd: event, addr: 0x80n, len: 1, flags: KVM_IOEVENTFD_FLAG_PIO });
    expect(vcpu.runSync()).toMatchObject({ kind: "io", port: 0x81 });
    expect(event.read()).toBe(2n);
  });

  test("with datamatch is signalled only by the matching value", ({ box }) => {
    const { vm, vcpu } = box((g) => g.outb(0x80, 1).outb(0x80, 2).hlt());
    using event = EventFd.create();
    const flags = KVM_IOEVENTFD_FLAG_PIO;
    vm.ioeventfd({ fd: event, addr: 0x80n, len: 1, datamatch: 1n, flags });
    expect(vcpu.runSync()).toMatchObject({ kind: "io", port: 0x80, values: [2] });
    expect(event.read()).toBe(1n);
  });

  test("wakes its waiter when a guest writes to a port", async ({ box }) => {
    const { vm, vcpu } = box((g) => g.outb(0x80, 1).outb(0x80, 2).outb(0x81, 3).hlt());
    using event = EventFd.create();
    vm.ioeventfd({ fd: event, addr: 0x80n, len: 1, flags: KVM_IOEVENTFD_FLAG_PIO });
    const wait = event.wait();
    expect(vcpu.runSync()).toMatchObject({ kind: "io", port: 0x81 });
    expect(await wait).toBe(2n);
  });

  test("can be signalled again after a guest has filled its counter and wait() has resolved", async ({
    box,
  }) => {
    const { vm, vcpu } = box((g) =>
      g.outb(0x80, 1).outb(0x81, 2).outb(0x80, 3).outb(0x81, 4).hlt(),
    );
    using event = EventFd.create();
    vm.ioeventfd({ fd: event, addr: 0x80n, len: 1, flags: KVM_IOEVENTFD_FLAG_PIO });
    const [full, next] = [event.wait(), event.wait()];
    event.write(2n ** 64n - 2n);
    vcpu.runSync();
    expect(await full).toBe(2n ** 64n - 1n);
    vcpu.runSync();
    expect(await next).toBe(1n);
  });

  test("raises the assigned interrupt, and can be assigned only once", async ({ vm }) => {
    vm.createIrqchip();
    using event = EventFd.create();
    vm.irqfd({ fd: event, gsi: 5 });
    expect(refusal(() => vm.irqfd({ fd: event, gsi: 5 })).code).toBe("EBUSY");
    expect(requestOf(vm)).toBe(0);
    event.write();
    await expect.poll(() => requestOf(vm)).toBe(0x20);
    expect(event.read()).toBe(0n);
  });

  test("resolves wait() when a guest has acknowledged the interrupt", async ({ kvm }) => {
    using box = new Sandbox(kvm, { program: ACKNOWLEDGES, prepare: (vm) => vm.createIrqchip() });
    const { vm, vcpu } = box;
    const sregs = vcpu.getSregs();
    vcpu.setSregs({ ...sregs, idt: { ...sregs.idt, limit: 0xfff } });
    using event = EventFd.create();
    using resamplefd = EventFd.create();
    vm.irqfd({ fd: event, gsi: 5, resamplefd });
    expect(vcpu.runSync()).toMatchObject({ kind: "io", port: 0x80 });
    const came: bigint[] = [];
    const wait = resamplefd.wait().then((count) => came.push(count));
    event.write();
    await expect.poll(() => requestOf(vm)).toBe(0x20);
    expect(came).toEqual([]);
    expect(vcpu.runSync()).toMatchObject({ kind: "io", port: 0x81 });
    await wait;
    expect(came).toEqual([1n]);
  });
});

describe("a KVM device", () => {
  test("of a supported type can be created, and KVM_CREATE_DEVICE_TEST creates no device", ({
    vm,
  }) => {
    expect(vm.createDevice(KVM_DEV_TYPE_VFIO, 1)).toBeUndefined();
    using device = vm.createDevice(KVM_DEV_TYPE_VFIO);
    expect(device.type).toBe(KVM_DEV_TYPE_VFIO);
    expect(refusal(() => device.hasDeviceAttr({ group: 77, attr: 1n })).code).toBe("ENXIO");
    expect(refusal(() => vm.createDevice(0x7777)).code).toBe("ENODEV");
  });
});

describe("the statistics of KVM", () => {
  test("of a vCPU count the vCPU's exits, and can be read after the vCPU was closed", ({ box }) => {
    const { vcpu } = box((g) => g.outb(0x80, 1).outb(0x80, 2).hlt());
    using stats = vcpu.getStatsFd();
    const exits = (): bigint => stats.read().get("exits")?.[0] ?? -1n;
    const before = exits();
    vcpu.runSync();
    vcpu.runSync();
    expect(exits()).toBeGreaterThan(before);
    vcpu.close();
    expect(exits()).toBeGreaterThan(before);
  });

  test("have the id of their object, and a description of each value", ({ vm }) => {
    using stats = vm.getStatsFd();
    expect(stats.id).toMatch(/^kvm-\d+$/);
    const names = stats.descriptors().map(({ name }) => name);
    expect(names).toContain("remote_tlb_flush");
    expect(Array.from(stats.read().keys())).toEqual(names);
    expect(stats.descriptors().every(({ kind, unit }) => ![kind, unit].includes("unknown"))).toBe(
      true,
    );
  });
});

describe("the registers of KVM_GET_ONE_REG", () => {
  test("are listed, read and written if KVM supports them", ({ kvm, vcpu, skip }) => {
    skip(kvm.checkExtension("KVM_CAP_ONE_REG") === 0, "no KVM_CAP_ONE_REG here");
    vcpu.setOneReg(KVM_X86_REG_MSR(STAR), 0x0023_0010_0000_0000n);
    expect(vcpu.getOneReg(KVM_X86_REG_MSR(STAR))).toBe(0x0023_0010_0000_0000n);
    expect(vcpu.getMsrs([STAR])[0]?.data).toBe(0x0023_0010_0000_0000n);
    expect(refusal(() => vcpu.getOneReg(0n)).code).toBe("EINVAL");
    expect(() => vcpu.setOneReg(KVM_X86_REG_MSR(STAR), 2n ** 64n)).toThrow(RangeError);
  });
});

describe("an MSR filter", () => {
  test("turns the reads that it denies into exits", ({ box }) => {
    const { vm, vcpu } = box((g) => g.rdmsr(STAR).sync().done());
    vm.enableCap({ cap: "KVM_CAP_X86_USER_SPACE_MSR", mask: KVM_MSR_EXIT_REASON_FILTER });
    vm.x86SetMsrFilter({
      ranges: [{ flags: KVM_MSR_FILTER_READ, base: STAR, bitmap: Uint8Array.of(0) }],
    });
    expect(vcpu.runSync()).toMatchObject({
      kind: "x86_rdmsr",
      index: STAR,
      reason: KVM_MSR_EXIT_REASON_FILTER,
    });
  });
});

describe("a dirty log", () => {
  test("contains a written page in the first read, and not in the next read", ({ box }) => {
    const { vm, vcpu, memory } = box((g) => g.write(0x9_3000, 0x5a, 8).done());
    const slot = { slot: 0, guestPhysAddr: 0n, memory };
    vm.setUserMemoryRegion({ ...slot, flags: KVM_MEM_LOG_DIRTY_PAGES });
    vcpu.runSync();
    const bit = (bitmap: Uint8Array): number => ((bitmap[0x93 >> 3] ?? 0) >> (0x93 & 7)) & 1;
    expect(bit(vm.getDirtyLog(0))).toBe(1);
    expect(bit(vm.getDirtyLog(0))).toBe(0);
    expect(refusal(() => vm.getDirtyLog(1)).code).toBe("ENOENT");
  });
});

describe("a dirty ring", () => {
  test("lists the pages that the guest wrote to, and is empty after resetDirtyRings()", ({
    kvm,
    skip,
  }) => {
    skip(kvm.checkExtension("KVM_CAP_DIRTY_LOG_RING") === 0, "no KVM_CAP_DIRTY_LOG_RING here");
    using box = new Sandbox(kvm, {
      cpuid: fromSupported(kvm.getSupportedCpuid()),
      program: guest("long", (g) => g.write(0x9_3000, 0x5a, 8).write(0x9_5000, 1, 8).done()),
      prepare: (vm) => vm.enableCap({ cap: "KVM_CAP_DIRTY_LOG_RING", bytes: 65536 }),
    });
    const { vm, vcpu, memory } = box;
    const flags = KVM_MEM_LOG_DIRTY_PAGES;
    vm.setUserMemoryRegion({ slot: 0, guestPhysAddr: 0n, memory, flags });
    const ring = vcpu.dirtyRing();
    expect(ring.size).toBe(4096);
    box.next();
    const pages = Array.from(ring.harvest(), ({ offset }) => offset);
    expect(pages).toEqual(expect.arrayContaining([0x93n, 0x95n]));
    expect(vm.resetDirtyRings()).toBe(pages.length);
    expect(Array.from(ring.harvest())).toEqual([]);
  });
});

describe("writes to a coalesced zone", () => {
  test("cause no exits, and are drained in order", ({ box }) => {
    const { vm, vcpu } = box((g) =>
      g
        .write(0xc000_0000, 0x5a, 8)
        .write(0xc000_0010, 0x1234, 16)
        .outb(0x80, 7)
        .outb(0x81, 8)
        .done(),
    );
    vm.registerCoalescedMmio({ addr: 0xc000_0000n, size: 4096 });
    vm.registerCoalescedMmio({ addr: 0x80n, size: 1, pio: 1 });
    expect(vcpu.runSync()).toMatchObject({ kind: "io", port: 0x81 });
    expect(Array.from(vcpu.coalescedRing())).toEqual([
      { physAddr: 0xc000_0000n, isPio: false, data: Uint8Array.of(0x5a) },
      { physAddr: 0xc000_0010n, isPio: false, data: Uint8Array.of(0x34, 0x12) },
      { physAddr: 0x80n, isPio: true, data: Uint8Array.of(7) },
    ]);
    expect(Array.from(vcpu.coalescedRing())).toEqual([]);
  });
});

describe("a guest_memfd", () => {
  test("is used as guest memory if it may be mapped", ({ vm, skip }) => {
    const has = vm.checkExtension("KVM_CAP_GUEST_MEMFD_FLAGS");
    const flags = BigInt(GUEST_MEMFD_FLAG_MMAP | GUEST_MEMFD_FLAG_INIT_SHARED);
    skip((BigInt(has) & flags) !== flags, "guest_memfds cannot be mapped here");
    using file = vm.createGuestMemfd({ size: 0x4000n, flags });
    using memory = file.map();
    memory.write(0x1000, Uint8Array.of(1, 2, 3));
    expect(memory.read(0x1000, 3)).toEqual(Uint8Array.of(1, 2, 3));
    file.punchHole(0x1000n, 0x1000n);
    expect(memory.read(0x1000, 3)).toEqual(new Uint8Array(3));
    file.allocate(0n, 0x4000n);
    expect(refusal(() => file.punchHole(1n, 1n)).code).toBe("EINVAL");
  });

  test("is not mapped if its pages are private to the guest", ({ vm, skip }) => {
    const has = vm.checkExtension("KVM_CAP_GUEST_MEMFD_FLAGS");
    skip((has & GUEST_MEMFD_FLAG_MMAP) === 0, "guest_memfds cannot be mapped here");
    using file = vm.createGuestMemfd({ size: 0x4000n, flags: BigInt(GUEST_MEMFD_FLAG_MMAP) });
    expect(() => file.map()).toThrow(new StateError("ERR_PRIVATE", "guest_memfd"));
  });

  test("shows the same bytes in each of its mappings", ({ vm, skip }) => {
    const has = vm.checkExtension("KVM_CAP_GUEST_MEMFD_FLAGS");
    const flags = BigInt(GUEST_MEMFD_FLAG_MMAP | GUEST_MEMFD_FLAG_INIT_SHARED);
    skip((BigInt(has) & flags) !== flags, "guest_memfds cannot be mapped here");
    using file = vm.createGuestMemfd({ size: 0x4000n, flags });
    using one = file.map();
    using other = file.map();
    one.write(0x2000, Uint8Array.of(7));
    expect(other.read(0x2000, 1)).toEqual(Uint8Array.of(7));
    expect([one.isDamaged, other.isDamaged]).toEqual([false, false]);
  });

  test("stays the memory of a slot when its handle is closed", ({ vm, memory, skip }) => {
    skip(isPvm, "kvm_pvm emulates ring 0 from the slot's memory in this process");
    const has = vm.checkExtension("KVM_CAP_GUEST_MEMFD_FLAGS");
    const flags = BigInt(GUEST_MEMFD_FLAG_MMAP | GUEST_MEMFD_FLAG_INIT_SHARED);
    skip((BigInt(has) & flags) !== flags, "guest_memfds cannot be mapped here");
    const guestMemfd = vm.createGuestMemfd({ size: 0x4000n, flags });
    const shown = guestMemfd.map();
    shown.write(0x3ff0, Uint8Array.of(0xf4)); // hlt at the address where an x86 CPU starts after reset
    shown.close();
    const where = { slot: 0, guestPhysAddr: 0xffff_c000n };
    vm.setUserMemoryRegion2({ ...where, flags: KVM_MEM_GUEST_MEMFD, memory, guestMemfd });
    guestMemfd.close();
    using vcpu = vm.createVcpu(0);
    expect(vcpu.runSync()).toEqual({ kind: "hlt" });
  });

  test("throws ERR_PRIVATE or ENODEV if it may not be mapped", ({ vm, skip }) => {
    skip(vm.checkExtension("KVM_CAP_GUEST_MEMFD") === 0, "no KVM_CAP_GUEST_MEMFD here");
    using file = vm.createGuestMemfd({ size: 0x1000n });
    expect(refusal(() => file.map()).code).toBe("ENODEV");
    file.close();
    expect(() => file.map()).toThrow(new StateError("ERR_CLOSED", "guest_memfd"));
  });
});

describe("an attribute of a vCPU", () => {
  test("is read, written and tested for existence", ({ kvm, vcpu, skip }) => {
    skip(kvm.checkExtension("KVM_CAP_VCPU_ATTRIBUTES") === 0, "no KVM_CAP_VCPU_ATTRIBUTES here");
    const offset = { group: KVM_VCPU_TSC_CTRL, attr: BigInt(KVM_VCPU_TSC_OFFSET) };
    vcpu.hasDeviceAttr(offset);
    vcpu.setDeviceAttr(offset, new Uint8Array(BigUint64Array.of(0x1234_5678_9abcn).buffer));
    // kvm_pvm accepts an offset but does not store it, because its guests read the host's TSC in ring 3.
    const kept = isPvm ? 0n : 0x1234_5678_9abcn;
    expect(new BigUint64Array(vcpu.getDeviceAttr(offset).buffer)[0]).toBe(kept);
    expect(refusal(() => vcpu.getDeviceAttr(offset, 7)).code).toBe("EFAULT");
  });
});

describe("vCPU state of variable size", () => {
  test("is read completely and can be written again", ({ vcpu }) => {
    const xsave = vcpu.getXsave2();
    expect(xsave.length).toBeGreaterThanOrEqual(4096);
    vcpu.setXsave(xsave);
    expect(vcpu.getXsave2()).toEqual(xsave);
  });

  test("is refused with EFAULT or EINVAL if its size field is larger than the passed bytes", ({
    vcpu,
    vm,
    skip,
  }) => {
    skip(vm.checkExtension("KVM_CAP_NESTED_STATE") === 0, "no KVM_CAP_NESTED_STATE here");
    const state = vcpu.getNestedState();
    vcpu.setNestedState(state);
    const lying = new Uint8Array(128);
    new DataView(lying.buffer).setUint32(4, 8192, true);
    expect(refusal(() => vcpu.setNestedState(lying)).code).toMatch(/^E(FAULT|INVAL)$/);
  });
});

describe("enableCap()", () => {
  test("accepts the arguments of a capability by name", ({ vm }) => {
    const most = vm.checkExtension("KVM_CAP_MAX_VCPU_ID");
    vm.enableCap({ cap: "KVM_CAP_MAX_VCPU_ID", maxVcpuId: 8 });
    expect(refusal(() => vm.createVcpu(8)).code).toBe("EINVAL");
    expect(most).toBeGreaterThan(8);
  });
});

describe("the signal mask of KVM_RUN", () => {
  test("can be set, and removed again", ({ vcpu }) => {
    vcpu.setSignalMask([10, 64]);
    vcpu.setSignalMask();
    expect(() => vcpu.setSignalMask([65])).toThrow("there is no signal 65");
  });
});
