/**
 * Tests of links: native code writes addresses and descriptors into an argument, and removes them after the call.
 * JavaScript never gets an address or a descriptor.
 */
import { expect } from "vitest";
import {
  KVM_CAP_DIRTY_LOG_RING,
  KVM_MEM_LOG_DIRTY_PAGES,
  KVM_SEV_LAUNCH_MEASURE,
  KVM_SEV_LAUNCH_START,
  KVM_SEV_NR_MAX,
  KVM_TDX_INIT_VCPU,
  KVM_XEN_ATTR_TYPE_EVTCHN,
  KVM_XEN_ATTR_TYPE_LONG_MODE,
} from "../../../lib/abi/generated/constants.ts";
import {
  IOCTLS,
  KVM_ENABLE_CAP,
  KVM_GET_DIRTY_LOG,
  KVM_GET_REGS,
  KVM_IOEVENTFD,
  KVM_IRQFD,
  KVM_MEMORY_ENCRYPT_OP,
  KVM_MEMORY_ENCRYPT_REG_REGION,
  KVM_SET_CPUID2,
  KVM_SET_SIGNAL_MASK,
  KVM_X86_SET_MSR_FILTER,
  KVM_XEN_HVM_CONFIG,
  KVM_XEN_HVM_SET_ATTR,
} from "../../../lib/abi/generated/ioctls.ts";
import {
  CoalescedMmioRing,
  DirtyLog,
  EnableCap,
  EncRegion,
  Ioeventfd,
  Irqfd,
  MsrFilter,
  SevCmd,
  XenHvmAttr,
} from "../../../lib/abi/generated/structs.ts";
import { encode, offsetOf, read } from "../../../lib/abi/struct.ts";
import { native } from "../../../lib/native.ts";
import { type Bench, call, deviceTest, opened, said } from "./bench.ts";

const linked = IOCTLS.filter(({ links }) => links !== undefined);
const plainStruct = IOCTLS.filter(({ links, kind }) => links === undefined && kind === "plain");

/** Adds a slot of 128 pages with dirty logging; its dirty bitmap has 16 bytes. */
function loggingSlot({ vm, map }: Bench, bench: Bench): void {
  const memory = map.call(bench, 128 * 4096);
  vm.setUserMemoryRegion(0, KVM_MEM_LOG_DIRTY_PAGES, 0n, 128n * 4096n, memory, 0n);
}

deviceTest("too many links, or another value than a list of links, are rejected", ({ vm }) => {
  for (const { request, size, links = [] } of linked) {
    const bytes = new Uint8Array(size);
    const tooMany = new Array<null>(links.length + 1).fill(null);
    expect(() => call(vm, "ioctl", request, bytes, false, tooMany)).toThrow(
      `links: ${links.length + 1} are given, it has ${links.length}`,
    );
    for (const wrong of [1, "x", {}, new Uint8Array(8), new Set()]) {
      expect(() => call(vm, "ioctl", request, bytes, false, wrong)).toThrow("expected an array");
    }
  }
});

deviceTest("a struct without links takes none", ({ vm }) => {
  for (const { name, request, size } of plainStruct) {
    expect(() => call(vm, "ioctl", request, new Uint8Array(size), false, [null])).toThrow(
      `${name} has no links`,
    );
  }
});

deviceTest("the error of a value that is not a link names its position", ({ vm, vcpu }) => {
  const wrong = [0, 1n, "x", true, Symbol(), () => 0, new Proxy({}, {}), {}, [], new Map()];
  for (const { request, size, links = [] } of linked) {
    const always = links.findIndex(({ when }) => when === undefined);
    for (const value of always === -1 ? [] : wrong) {
      const given = Array.from(links, (_, i) => (i === always ? value : null));
      for (const fd of [vm, vcpu]) {
        expect(() => call(fd, "ioctl", request, new Uint8Array(size), false, given)).toThrow(
          `links[${always}]: `,
        );
      }
    }
  }
});

deviceTest("an address or descriptor that JavaScript writes never reaches the kernel", (bench) => {
  loggingSlot(bench, bench);
  const bytes = encode(DirtyLog, { slot: 0, dirtyBitmap: 0xdead_b000n });
  expect(said(bench.vm.ioctl(KVM_GET_DIRTY_LOG.request, bytes))).toBe("-EFAULT");
  expect(read(DirtyLog, bytes).dirtyBitmap).toBe(0xdead_b000n);
  // Descriptors 0, 1 and 2 are open in this process, but the kernel must not get one of them as an eventfd.
  const ours = encode(Irqfd, { fd: 0, gsi: 1 });
  expect(said(bench.vm.ioctl(KVM_IOEVENTFD.request, encode(Ioeventfd, { fd: 0, len: 4 })))).toBe(
    "-EBADF",
  );
  expect(said(bench.vm.ioctl(KVM_IRQFD.request, ours))).toMatch(/^-E(BADF|INVAL)$/);
});

deviceTest("the kernel's answer goes to the bytes, and no address to JavaScript", (bench) => {
  loggingSlot(bench, bench);
  const bytes = encode(DirtyLog, { slot: 0 });
  const bitmap = new Uint8Array(16).fill(0xff);
  expect(bench.vm.ioctl(KVM_GET_DIRTY_LOG.request, bytes, false, [bitmap])).toBe(0);
  expect(bitmap).toEqual(new Uint8Array(16));
  expect(bytes).toEqual(encode(DirtyLog, { slot: 0 }));
});

deviceTest(
  "a buffer that is too small ends at an unmapped page: EFAULT, and no byte after it is written",
  (b) => {
    loggingSlot(b, b);
    for (const length of [0, 1, 8, 15]) {
      const around = new Uint8Array(64).fill(0xee);
      const bitmap = around.subarray(16, 16 + length);
      const bytes = encode(DirtyLog, { slot: 0 });
      expect(said(b.vm.ioctl(KVM_GET_DIRTY_LOG.request, bytes, false, [bitmap]))).toBe("-EFAULT");
      expect(around.subarray(0, 16).every((byte) => byte === 0xee)).toBe(true);
      expect(around.subarray(16 + length).every((byte) => byte === 0xee)).toBe(true);
    }
  },
);

deviceTest("every bitmap of an MSR filter is read from its own link", ({ vm }) => {
  const ranges = Array.from({ length: 16 }, (_, i) => ({ flags: 3, base: 64 * i, nmsrs: 64 }));
  const bytes = encode(MsrFilter, { ranges });
  const links = ranges.map(() => new Uint8Array(8).fill(0xff));
  expect(vm.ioctl(KVM_X86_SET_MSR_FILTER.request, bytes, false, links)).toBe(0);
  const short = links.with(15, new Uint8Array(7));
  expect(said(vm.ioctl(KVM_X86_SET_MSR_FILTER.request, bytes, false, short))).toBe("-EFAULT");
  expect(said(vm.ioctl(KVM_X86_SET_MSR_FILTER.request, bytes, false, []))).toBe("-EFAULT");
});

deviceTest("a link that the struct's content rules out is refused", ({ vm }) => {
  const event = opened(native().eventfd(0, 0));
  const long = encode(XenHvmAttr, { type: KVM_XEN_ATTR_TYPE_LONG_MODE });
  expect(() => vm.ioctl(KVM_XEN_HVM_SET_ATTR.request, long, false, [null, event])).toThrow(
    "links[1]: nothing can be given there now",
  );
  const port = encode(XenHvmAttr, {
    type: KVM_XEN_ATTR_TYPE_EVTCHN,
    u: { evtchn: { deliver: { port: { port: 1 } } } },
  });
  expect(() => vm.ioctl(KVM_XEN_HVM_SET_ATTR.request, port, false, [null, event])).toThrow(
    "nothing can be given there now",
  );
  event.close();
});

deviceTest(
  "guest memory that the kernel keeps using stays mapped when it is closed",
  (bench, skip) => {
    const memory = bench.map(2 * 4096);
    const bytes = new Uint8Array(56);
    const link = { memory, offset: 4096n };
    const answer = said(bench.vm.ioctl(KVM_XEN_HVM_CONFIG.request, bytes, false, [link]));
    if (answer === "-ENOTTY") skip("this kernel was built without CONFIG_KVM_XEN");
    expect(answer).toBe("0");
    memory.close();
    bench.vm.close();
  },
);

deviceTest("memory beyond its end, closed memory, or another class is not a link", (bench) => {
  const memory = bench.map(4096);
  const bytes = encode(EncRegion, { size: 4096n });
  const ask = (link: unknown): unknown =>
    call(bench.vm, "ioctl", KVM_MEMORY_ENCRYPT_REG_REGION.request, bytes, false, [link]);
  expect(() => ask({ memory, offset: 4096n })).toThrow("offset 4096 is beyond the memory's 4096");
  expect(() => ask({ memory, offset: 2n ** 64n })).toThrow("expected { memory, offset }");
  expect(() => ask({ memory, offset: 0 })).toThrow("expected { memory, offset }");
  expect(() => ask({ memory: {}, offset: 0n })).toThrow("expected { memory, offset }");
  expect(() => ask(new Uint8Array(8))).toThrow("expected { memory, offset }");
  memory.close();
  expect(() => ask({ memory, offset: 0n })).toThrow("the memory is closed");
});

deviceTest("a getter may close or detach what it likes", (bench) => {
  loggingSlot(bench, bench);
  const event = opened(native().eventfd(0, 0));
  const links = [event, null];
  Object.defineProperty(links, 1, {
    get: () => {
      event.close();
      return null;
    },
  });
  const bytes = encode(Irqfd, { gsi: 1 });
  expect(said(bench.vm.ioctl(KVM_IRQFD.request, bytes, false, links))).toMatch(/^-E(BADF|INVAL)$/);
  const struct = encode(DirtyLog, { slot: 0 });
  const detaching = [null];
  Object.defineProperty(detaching, 0, {
    get: () => {
      structuredClone(struct.buffer, { transfer: [struct.buffer as ArrayBuffer] });
      return new Uint8Array(16);
    },
  });
  expect(bench.vm.ioctl(KVM_GET_DIRTY_LOG.request, struct, false, detaching)).toBe(0);
  expect(struct).toHaveLength(0);
  const throwing = [null];
  Object.defineProperty(throwing, 0, {
    get: () => {
      throw new Error("planted");
    },
  });
  expect(() =>
    bench.vm.ioctl(KVM_GET_DIRTY_LOG.request, encode(DirtyLog, {}), false, throwing),
  ).toThrow("planted");
});

deviceTest("a getter may issue another ioctl, and the first one's bytes are its own", (bench) => {
  const ranges = Array.from({ length: 2 }, (_, i) => ({ flags: 3, base: 64 * i, nmsrs: 64 }));
  const bytes = encode(MsrFilter, { ranges });
  const links = [new Uint8Array(8).fill(0xff), new Uint8Array(8)];
  Object.defineProperty(links, 1, {
    get: () => {
      // If both ioctls used one buffer, the MSR filter would treat the last bytes of this larger argument as addresses.
      const table = new Uint8Array(8 + 40 * 256).fill(0x11);
      new DataView(table.buffer).setUint32(0, 256, true);
      bench.vcpu.ioctl(KVM_SET_CPUID2.request, table);
      return new Uint8Array(8);
    },
  });
  expect(bench.vm.ioctl(KVM_X86_SET_MSR_FILTER.request, bytes, false, links)).toBe(0);
  expect(bytes).toEqual(encode(MsrFilter, { ranges }));
});

deviceTest("a command's addresses are links of its own", ({ vm }) => {
  const ask = (id: number, data: unknown): unknown =>
    call(vm, "ioctl", KVM_MEMORY_ENCRYPT_OP.request, encode(SevCmd, { id }), false, [data, null]);
  const measure = { bytes: new Uint8Array(16), links: [new Uint8Array(64)] };
  expect(said(ask(KVM_SEV_LAUNCH_MEASURE, measure))).toMatch(/^-E(NOTTY|INVAL)$/);
  expect(() => ask(KVM_SEV_LAUNCH_MEASURE, { ...measure, bytes: new Uint8Array(15) })).toThrow(
    `command ${KVM_SEV_LAUNCH_MEASURE} takes 16 bytes, got 15`,
  );
  expect(() => ask(KVM_SEV_LAUNCH_START, { bytes: new Uint8Array(40), links: [1] })).toThrow(
    "links[0]: links[0]: expected a Uint8Array or { memory, offset }",
  );
  expect(() => ask(KVM_SEV_NR_MAX, measure)).toThrow(`command ${KVM_SEV_NR_MAX} is not one of`);
  expect(() => ask(0xffff_ffff, null)).toThrow("is not one of Linux 7.2");
});

deviceTest("TDX's one command whose data is a value takes no struct", ({ vcpu }) => {
  const bytes = encode(SevCmd, { id: KVM_TDX_INIT_VCPU, data: 0x1234n });
  expect(said(vcpu.ioctl(KVM_MEMORY_ENCRYPT_OP.request, bytes))).toMatch(/^-E(NOTTY|INVAL)$/);
  const data = { bytes: new Uint8Array(8), links: [] };
  expect(() => vcpu.ioctl(KVM_MEMORY_ENCRYPT_OP.request, bytes, false, [data])).toThrow(
    "it takes a value",
  );
});

deviceTest("KVM_SET_SIGNAL_MASK alone may come without its argument", ({ vcpu }) => {
  expect(vcpu.ioctl(KVM_SET_SIGNAL_MASK.request)).toBe(0);
  expect(() => vcpu.ioctl(KVM_GET_REGS.request)).toThrow("takes a Uint8Array");
});

deviceTest("a dirty ring is as large as KVM was told, and no larger", ({ kvm, vm, vcpu }) => {
  expect(said(kvm.mapDirtyRing())).toBe("-ENODEV");
  expect(said(vm.mapDirtyRing())).toBe("-ENODEV");
  expect(said(vcpu.mapDirtyRing())).toBe("-EINVAL");
  const late = encode(EnableCap, { cap: KVM_CAP_DIRTY_LOG_RING, args: [65536n] });
  expect(said(vm.ioctl(KVM_ENABLE_CAP.request, late))).toBe("-EINVAL");
  expect(said(vcpu.mapDirtyRing())).toBe("-EINVAL");
});

deviceTest("an eventfd counts, and only a 64-bit bigint is added", () => {
  const event = opened(native().eventfd(3, 0));
  expect(event.readCounter()).toBe(3n);
  expect(said(event.readCounter())).toBe("-EAGAIN");
  expect(event.writeCounter(5n)).toBe(0);
  expect(event.readCounter()).toBe(5n);
  expect(said(event.writeCounter(2n ** 64n - 1n))).toBe("-EINVAL");
  for (const wrong of [1, "1", -1n, 2n ** 64n, null, undefined]) {
    expect(() => call(event, "writeCounter", wrong)).toThrow("expected a 64-bit bigint");
  }
  event.close();
  event.close();
  expect(said(event.readCounter())).toBe("-EBADF");
  expect(said(event.writeCounter(1n))).toBe("-EBADF");
});

deviceTest("a coalesced ring lies inside what is mapped of a vCPU", (bench) => {
  expect(offsetOf(CoalescedMmioRing, "coalescedMmio")).toBe(8);
  expect(bench.run().bytes.byteLength).toBeGreaterThanOrEqual(3 * 4096);
});
