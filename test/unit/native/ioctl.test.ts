/**
 * Tests of the generic ioctl: the kind of argument that each request accepts. The tests in test/kvm judge KVM's
 * results.
 */
import { expect } from "vitest";
import {
  IOCTLS,
  KVM_CHECK_EXTENSION,
  KVM_CREATE_VM,
  KVM_ENABLE_CAP,
  KVM_GET_API_VERSION,
  KVM_GET_CPUID2,
  KVM_GET_MSR_INDEX_LIST,
  KVM_GET_REGS,
  KVM_GET_SUPPORTED_CPUID,
  KVM_SET_CPUID2,
  KVM_SET_MSRS,
  KVM_SET_REGS,
  KVM_SET_USER_MEMORY_REGION,
  KVM_SET_USER_MEMORY_REGION2,
} from "../../../lib/abi/generated/ioctls.ts";
import type { Ioctl, IoctlKind } from "../../../lib/abi/ioctl.ts";
import { asBytes, call, deviceTest, said } from "./bench.ts";

const ofKind = (...kinds: readonly IoctlKind[]): readonly Ioctl[] =>
  IOCTLS.filter(({ kind }) => kinds.includes(kind));

/** Returns a CPUID table with `count` in its header, and with space for `room` entries. */
const table = (count: number, room: number): Uint8Array => {
  const bytes = new Uint8Array(8 + 40 * room);
  bytes.set(asBytes(count));
  return bytes;
};

deviceTest("a request that is no 32-bit number is refused", ({ kvm }) => {
  const { request } = KVM_GET_API_VERSION;
  const wrong = [undefined, null, "44544", 0.5, -1, 2 ** 32, NaN, Infinity, 1n, {}, Symbol()];
  for (const value of [...wrong, BigInt(request), new Number(request)]) {
    expect(() => call(kvm, "ioctl", value)).toThrow("request: expected a 32-bit number");
  }
});

deviceTest("a request that KVM does not have is refused", ({ kvm }) => {
  // The requests are TCGETS, FIONREAD, BLKROSET, and KVM's request numbers with wrong sizes.
  for (const request of [0, 0x5401, 0x541b, 0x125d, 0xaeff, 0x4091ae82, 0xffff_ffff]) {
    expect(() => call(kvm, "ioctl", request)).toThrow("request: not a KVM ioctl of Linux 7.2");
  }
});

deviceTest("an integer argument is unsigned and of 64 bits", ({ kvm }) => {
  const { request } = KVM_CHECK_EXTENSION;
  for (const value of [-1, 0.5, NaN, 2 ** 32, -1n, 2n ** 64n, null, "7", {}, new Uint8Array(8)]) {
    expect(() => call(kvm, "ioctl", request, value)).toThrow(
      new TypeError("KVM_CHECK_EXTENSION takes an unsigned integer"),
    );
  }
  expect(kvm.ioctl(request, 2n ** 64n - 1n)).toBe(0);
});

deviceTest("a memory slot is not set with plain bytes", ({ vm }) => {
  for (const { name, request, size } of [KVM_SET_USER_MEMORY_REGION, KVM_SET_USER_MEMORY_REGION2]) {
    expect(() => vm.ioctl(request, new Uint8Array(2 * size), true)).toThrow(
      new TypeError(`${name} has a function of its own`),
    );
  }
});

deviceTest("bytes that are too few for their struct are refused", ({ vm }) => {
  for (const { name, request, size } of ofKind("plain", "tailed")) {
    expect(() => vm.ioctl(request, new Uint8Array(size - 1))).toThrow(
      new RangeError(`${name} takes ${size} bytes, got ${size - 1}`),
    );
    expect(() => vm.ioctl(request, new Uint8Array(0), true)).toThrow(RangeError);
  }
});

deviceTest("only a Uint8Array is taken for bytes", ({ vm }) => {
  const others = [
    undefined,
    null,
    0,
    1n,
    "x".repeat(4096),
    Array(4096).fill(0),
    new ArrayBuffer(4096),
    new DataView(new ArrayBuffer(4096)),
    new Int8Array(4096),
    new Uint8ClampedArray(4096),
    new Uint16Array(4096),
    new BigUint64Array(4096),
    Object.create(new Uint8Array(4096)),
    new Proxy(new Uint8Array(4096), {}),
  ];
  for (const { name, request, nullable = false } of ofKind("plain", "tailed")) {
    for (const other of others.slice(nullable ? 1 : 0)) {
      expect(() => call(vm, "ioctl", request, other)).toThrow(
        new TypeError(`${name} takes a Uint8Array (not shared)`),
      );
    }
  }
});

deviceTest("memory that threads share is not taken", ({ vcpu }) => {
  const shared = new Uint8Array(new SharedArrayBuffer(4096));
  expect(() => vcpu.ioctl(KVM_GET_REGS.request, shared)).toThrow("(not shared)");
  expect(() => vcpu.ioctl(KVM_SET_CPUID2.request, shared)).toThrow("(not shared)");
  expect(() => vcpu.ioctl(KVM_ENABLE_CAP.request, shared)).toThrow("(not shared)");
});

deviceTest("a detached array has no bytes", ({ vcpu }) => {
  const detached = new Uint8Array(4096);
  structuredClone(detached.buffer, { transfer: [detached.buffer] });
  for (const { request } of [KVM_GET_REGS, KVM_SET_REGS, KVM_SET_CPUID2, KVM_ENABLE_CAP]) {
    expect(() => vcpu.ioctl(request, detached)).toThrow(/takes \d+ bytes, got 0/);
  }
});

deviceTest("a resizable array is as long as it is now", ({ vcpu }) => {
  const buffer = Reflect.construct(ArrayBuffer, [4096, { maxByteLength: 4096 }]) as ArrayBuffer;
  const bytes = new Uint8Array(buffer);
  expect(vcpu.ioctl(KVM_GET_REGS.request, bytes)).toBe(0);
  call(buffer, "resize", 143);
  expect(() => vcpu.ioctl(KVM_GET_REGS.request, bytes)).toThrow("takes 144 bytes, got 143");
});

deviceTest("a view into the middle of an array is written there and nowhere else", ({ vcpu }) => {
  const all = new Uint8Array(512).fill(0xee);
  expect(vcpu.ioctl(KVM_GET_REGS.request, all.subarray(100, 100 + 144))).toBe(0);
  expect(all.subarray(0, 100).every((byte) => byte === 0xee)).toBe(true);
  expect(all.subarray(100, 244)).not.toContain(0xee);
  expect(all.subarray(244).every((byte) => byte === 0xee)).toBe(true);
});

deviceTest("a count that reaches beyond its argument is refused", ({ kvm, vcpu }) => {
  for (const [count, room] of [
    [1, 0],
    [3, 2],
    [0xffff_ffff, 255],
  ] as const) {
    const complaint = `says ${count} entries of 40 bytes, but its argument has room for ${room}`;
    for (const { name, request } of [KVM_SET_CPUID2, KVM_GET_CPUID2]) {
      expect(() => vcpu.ioctl(request, table(count, room))).toThrow(
        new RangeError(`${name} ${complaint}`),
      );
    }
    expect(() => kvm.ioctl(KVM_GET_SUPPORTED_CPUID.request, table(count, room))).toThrow(complaint);
  }
});

deviceTest("a last entry that is cut short does not count", ({ vcpu }) => {
  const cut = table(2, 2).subarray(0, 8 + 79);
  expect(() => vcpu.ioctl(KVM_SET_CPUID2.request, cut)).toThrow("room for 1");
});

deviceTest("pastEnd must be true itself", ({ vcpu }) => {
  for (const truthy of [1, "true", {}, new Boolean(true), 1n]) {
    expect(() => call(vcpu, "ioctl", KVM_SET_CPUID2.request, table(1, 0), truthy)).toThrow(
      RangeError,
    );
  }
});

deviceTest("past the end the kernel meets an unmapped page: EFAULT", ({ kvm, vcpu }) => {
  expect(said(vcpu.ioctl(KVM_SET_CPUID2.request, table(1, 0), true))).toBe("-EFAULT");
  expect(said(vcpu.ioctl(KVM_SET_CPUID2.request, table(256, 255), true))).toBe("-EFAULT");
  expect(said(vcpu.ioctl(KVM_SET_MSRS.request, asBytes(1, 0), true))).toBe("-EFAULT");
  // Reads of a list also fail with EFAULT, because these buffers have space for one CPUID entry and for no MSR.
  expect(said(kvm.ioctl(KVM_GET_SUPPORTED_CPUID.request, table(255, 1), true))).toBe("-EFAULT");
  expect(said(kvm.ioctl(KVM_GET_MSR_INDEX_LIST.request, asBytes(0xffff), true))).toBe("-EFAULT");
});

deviceTest("past the end a count can be too large for KVM: E2BIG", ({ vcpu }) => {
  for (const count of [257, 0x7fff_ffff, 0xffff_ffff]) {
    expect(said(vcpu.ioctl(KVM_SET_CPUID2.request, table(count, 0), true))).toBe("-E2BIG");
  }
});

deviceTest("after a longer argument a shorter one still ends at the unmapped page", ({ vcpu }) => {
  expect(vcpu.ioctl(KVM_SET_CPUID2.request, table(200, 200))).toBe(0);
  expect(said(vcpu.ioctl(KVM_SET_CPUID2.request, table(2, 1), true))).toBe("-EFAULT");
});

deviceTest("the wrong kind of descriptor is the kernel's to refuse", ({ kvm, vm, vcpu }) => {
  expect(said(kvm.ioctl(KVM_GET_REGS.request, new Uint8Array(144)))).toMatch(/^-E(NOTTY|INVAL)$/);
  expect(said(vm.ioctl(KVM_GET_REGS.request, new Uint8Array(144)))).toMatch(/^-E(NOTTY|INVAL)$/);
  expect(said(vcpu.ioctl(KVM_CREATE_VM.request, 0))).toMatch(/^-E(NOTTY|INVAL)$/);
});
