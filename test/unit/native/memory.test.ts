/** Tests of mapped memory and slots: sizes, windows, and closing. */
import { randomFill } from "node:crypto";
import { readFileSync } from "node:fs";
import { promisify } from "node:util";
import { expect, test } from "vitest";
import { KVM_CREATE_GUEST_MEMFD, KVM_GET_REGS } from "../../../lib/abi/generated/ioctls.ts";
import { type NativeMapping, native } from "../../../lib/native.ts";
import { call, deviceTest, opened, said } from "./bench.ts";

const map = (length: number): NativeMapping => opened(native().mapAnonymous(length));
const PAGE = 4096;
const GIB = 2 ** 30;

const NO_SIZES = [undefined, null, "4096", 4096n, -1, 0.5, NaN, Infinity, 2 ** 53, {}, [4096]];

test("native allocation rejects a length that is not a valid size", () => {
  for (const length of NO_SIZES) {
    expect(() => call(native(), "mapAnonymous", length)).toThrow("length: expected a size");
    expect(() => call(native(), "mapMemfd", length)).toThrow("length: expected a size");
  }
  for (const length of NO_SIZES.slice(1)) {
    expect(() => call(native(), "mapFile", "/proc/self/exe", 0, length)).toThrow(
      "length: expected a size",
    );
  }
});

test("native allocation rejects huge pages of a size that x86 does not have", () => {
  for (const shift of [null, "21", 21n, -1, 0, 11, 13, 20, 22, 31, 64, 2 ** 32 + 21, NaN, {}]) {
    for (const method of ["mapAnonymous", "mapMemfd"]) {
      expect(() => call(native(), method, PAGE, shift)).toThrow("pageShift: expected 12, 21 or 30");
    }
  }
});

test("native mapping rejects a path or an offset of a wrong type", () => {
  for (const path of [undefined, null, 3, {}, Buffer.from("/dev/null"), Symbol()]) {
    expect(() => call(native(), "mapFile", path, 0)).toThrow("path: expected a string");
  }
  for (const offset of NO_SIZES) {
    expect(() => call(native(), "mapFile", "/proc/self/exe", offset)).toThrow(
      "offset: expected a size",
    );
  }
});

test("a native error contains the name of the failed call", () => {
  expect(native().mapFile("/nowhere", 0)).toEqual({ call: "open", errno: 2 });
  expect(native().mapFile("/", 0)).toEqual({ call: "mmap", errno: 19 });
  expect(native().mapMemfd(0)).toEqual({ call: "mmap", errno: 22 });
});

test("native advise() accepts only advice that does not change content", () => {
  const mapping = map(PAGE);
  const [MADV_DONTNEED, MADV_REMOVE, MADV_FREE, MADV_HWPOISON] = [4, 9, 8, 100];
  const wrong = [MADV_DONTNEED, MADV_REMOVE, MADV_FREE, MADV_HWPOISON, -1, 14.5, 14n, undefined];
  for (const advice of wrong) {
    expect(() => call(mapping, "advise", advice)).toThrow("advice that changes no content");
  }
  mapping.close();
  expect(() => mapping.advise(14)).toThrow("advise: the mapping is closed");
});

test("a closed native mapping has size 0 and no lost pages", () => {
  const mapping = map(PAGE);
  expect([mapping.byteLength(), mapping.hasLostPages()]).toEqual([PAGE, false]);
  mapping.close();
  expect([mapping.byteLength(), mapping.hasLostPages()]).toEqual([0, false]);
});

/** Lists the mappings of this process: addresses, permissions, name. */
const maps = (): readonly (readonly [number, number, string, string])[] =>
  readFileSync("/proc/self/maps", "latin1")
    .trimEnd()
    .split("\n")
    .map((line) => /^(\w+)-(\w+) (\S+) \S+ \S+ \S+ *(.*)$/.exec(line) ?? [])
    .map(([, from = "", to = "", mode = "", name = ""]) => [
      Number.parseInt(from, 16),
      Number.parseInt(to, 16),
      mode,
      name,
    ]);

test.each([
  ["a page", PAGE],
  ["a part of a page", 100],
  ["2 MiB and a page", 2 ** 21 + PAGE],
])("the page after a mapping of %s is not accessible", (_, length) => {
  // The test creates several mappings, because the page after the first mapping may be the guard page of a thread.
  const mappings = [1, 2, 3].map(() => opened(native().mapMemfd(length) as NativeMapping));
  const all = maps();
  const behind = all.flatMap(([, end, , name], at) =>
    name.startsWith("/memfd:node-kvm") ? [[end, all[at + 1]?.[0], all[at + 1]?.[2]]] : [],
  );
  for (const mapping of mappings) mapping.close();
  expect(behind.map(([end, next, mode]) => [next === end, mode])).toEqual(
    mappings.map(() => [true, "---p"]),
  );
});

test("closing a native mapping unmaps all its addresses, including the page after them", () => {
  const mapping = opened(native().mapMemfd(3 * PAGE) as NativeMapping);
  const [start = 0] = maps().find(([, , , name]) => name.startsWith("/memfd:node-kvm")) ?? [];
  mapping.close();
  const end = start + 4 * PAGE;
  expect(maps().filter(([from, to]) => from < end && to > start)).toEqual([]);
});

test("a native mapping of 2 MiB and more begins at an address where a huge page can begin", () => {
  const mapping = opened(native().mapMemfd(2 ** 21) as NativeMapping);
  const [start] = maps().find(([, , , name]) => name.startsWith("/memfd:node-kvm")) ?? [];
  expect((start ?? 1) % 2 ** 21).toBe(0);
  mapping.close();
});

test("mmap refuses a native mapping of 0 bytes, and of more than the address space", () => {
  expect(said(native().mapAnonymous(0))).toBe("-EINVAL");
  expect(said(native().mapAnonymous(2 ** 53 - 1))).toBe("-ENOMEM");
});

test("a native mapping is filled with zeros, and keeps written bytes", () => {
  const mapping = map(3 * PAGE);
  const bytes = new Uint8Array(mapping.window(0, 3 * PAGE));
  expect(bytes.every((byte) => byte === 0)).toBe(true);
  bytes[2 * PAGE] = 7;
  expect(new Uint8Array(mapping.window(2 * PAGE, 1))).toEqual(Uint8Array.of(7));
  mapping.close();
});

test("a window of a native mapping is inside the mapping and not empty", () => {
  const mapping = map(PAGE);
  const outside = [
    [0, 0],
    [0, PAGE + 1],
    [1, PAGE],
    [PAGE, 1],
    [2 ** 53 - 1, 1],
    [1, 2 ** 53 - 1],
  ];
  for (const [offset, length] of outside) {
    expect(() => call(mapping, "window", offset, length)).toThrow(RangeError);
  }
  expect(mapping.window(PAGE - 1, 1).byteLength).toBe(1);
  mapping.close();
});

test("a window of a native mapping rejects an invalid offset or length", () => {
  const mapping = map(PAGE);
  for (const wrong of [undefined, null, "1", 1n, -1, 0.5, NaN, Infinity, 2 ** 53, {}]) {
    expect(() => call(mapping, "window", wrong, 1)).toThrow("expected an offset and a length");
    expect(() => call(mapping, "window", 0, wrong)).toThrow("expected an offset and a length");
  }
  mapping.close();
});

test("a window of a native mapping has at most 1 GiB, because Node 20 has no buffers above 4 GiB", () => {
  const mapping = map(5 * GIB);
  expect(() => mapping.window(0, 4 * GIB + PAGE)).toThrow(RangeError);
  expect(() => mapping.window(0, GIB + 1)).toThrow(RangeError);
  expect(mapping.window(4 * GIB, GIB).byteLength).toBe(GIB);
  mapping.close();
});

test("closing a native mapping detaches every window", () => {
  const mapping = map(PAGE);
  const [one, other] = [mapping.window(0, PAGE), mapping.window(0, PAGE)];
  const view = new Uint8Array(one);
  mapping.close();
  expect([one.byteLength, other.byteLength, view.length, view[0]]).toEqual([0, 0, 0, undefined]);
  view[0] = 1;
  expect(view[0]).toBeUndefined();
});

test("a closed native mapping has no window, and can be closed again", () => {
  const mapping = map(PAGE);
  mapping.close();
  mapping.close();
  expect(() => mapping.window(0, 1)).toThrow("window: the mapping is closed");
});

test("closing a native mapping frees its memory at once, even if a view of the memory is still referenced", () => {
  const mapping = map(GIB / 8);
  const view = new Uint8Array(mapping.window(0, GIB / 8)).fill(1);
  const before = process.memoryUsage.rss();
  mapping.close();
  expect(before - process.memoryUsage.rss()).toBeGreaterThan(GIB / 16);
  expect(view).toHaveLength(0);
});

test("a thread that writes to a native mapping while the mapping is closed does not crash the process", async () => {
  const mapping = map(GIB / 8);
  const job = promisify(randomFill)(new Uint8Array(mapping.window(0, GIB / 8)));
  mapping.close();
  await expect(job).resolves.toHaveLength(0);
});

deviceTest("a kvm_run that is closed is empty", (bench) => {
  const { bytes, run } = bench.run();
  expect(bytes.byteLength).toBeGreaterThan(0);
  bench.vcpu.close();
  expect(bytes.byteLength).toBe(0);
  expect(said(run())).toBe("-EBADF");
  expect(said(bench.vcpu.mapRun(() => undefined))).toBe("-ENODEV");
});

deviceTest("kvm_run can be mapped twice", (bench) => {
  const [one, other] = [new Uint8Array(bench.run().bytes), new Uint8Array(bench.run().bytes)];
  one[1] = 1; // immediate_exit
  expect(other[1]).toBe(1);
  bench.vcpu.close();
  expect([one.length, other.length]).toEqual([0, 0]);
});

deviceTest("only a vCPU has a kvm_run", ({ kvm, vm }) => {
  expect(said(kvm.mapRun(() => undefined))).toBe("-ENODEV");
  expect(said(vm.mapRun(() => undefined))).toBe("-ENODEV");
});

deviceTest("a guest_memfd, which could be mapped, is no kvm_run", (bench, skip) => {
  const [SHARED, MMAP] = [2n, 1n];
  const bytes = new Uint8Array(64);
  new BigUint64Array(bytes.buffer).set([BigInt(PAGE), SHARED | MMAP]);
  const memfd = bench.vm.ioctl(KVM_CREATE_GUEST_MEMFD.request, bytes);
  if (typeof memfd === "number") skip(`no guest_memfd that can be mapped: ${said(memfd)}`);
  expect(said(bench.keep(opened(memfd)).mapRun(() => undefined))).toBe("-ENODEV");
});

deviceTest("a window of guest memory can be an ioctl's argument", (bench) => {
  const mapping = bench.map(PAGE);
  const bytes = new Uint8Array(mapping.window(0, PAGE));
  expect(bench.vcpu.ioctl(KVM_GET_REGS.request, bytes)).toBe(0);
  mapping.close();
  expect(() => bench.vcpu.ioctl(KVM_GET_REGS.request, bytes)).toThrow("got 0");
});

deviceTest("a slot's numbers have their C types", (bench) => {
  const mapping = bench.map(PAGE);
  const good = [0, 0, 0n, 4096n, mapping, 0n];
  const wrong = [
    [undefined, null, -1, 0.5, 2 ** 32, 0n, "0"],
    [undefined, null, -1, 0.5, 2 ** 32, 0n, "0"],
    [undefined, null, 0, -1n, 2n ** 64n, "0"],
    [undefined, null, 4096, -1n, 2n ** 64n, "0"],
    [],
    [undefined, null, 0, -1n, 2n ** 64n, "0"],
  ];
  for (const [position, values] of wrong.entries()) {
    for (const value of values) {
      const args = good.with(position, value as never);
      expect(() => call(bench.vm, "setUserMemoryRegion", ...args)).toThrow(
        "slot and flags are 32-bit numbers; addresses and sizes are bigints",
      );
    }
  }
});

deviceTest("a slot's memory is a mapping", (bench) => {
  const mapping = bench.map(PAGE);
  const wrong = [
    undefined,
    0,
    1n,
    "x",
    {},
    bench.vm,
    mapping.window(0, PAGE),
    Object.create(mapping),
  ];
  for (const memory of [...wrong, new Proxy(mapping, {})]) {
    expect(() => call(bench.vm, "setUserMemoryRegion", 0, 0, 0n, 4096n, memory, 0n)).toThrow(
      new TypeError("memory: expected a GuestMemory"),
    );
  }
  expect(() => bench.vm.setUserMemoryRegion(0, 0, 0n, 4096n, null, 0n)).toThrow(
    new TypeError("a slot that is not deleted needs memory"),
  );
});

deviceTest("a slot beyond its memory is refused", (bench) => {
  const mapping = bench.map(2 * PAGE);
  const beyond = [
    [3n * 4096n, 0n],
    [2n * 4096n, 1n],
    [4096n, 4097n],
    [0n, 2n * 4096n + 1n],
    [2n ** 64n - 4096n, 4096n],
    [4096n, 2n ** 64n - 4096n],
    [2n ** 64n - 1n, 2n ** 64n - 1n],
  ] as const;
  for (const [size, offset] of beyond) {
    expect(() => bench.vm.setUserMemoryRegion(0, 0, 0n, size, mapping, offset)).toThrow(RangeError);
  }
  expect(bench.vm.setUserMemoryRegion(0, 0, 0n, 4096n, mapping, 4096n)).toBe(0);
});

deviceTest("memory of a part of a page does not fill a slot", (bench) => {
  expect(() => bench.vm.setUserMemoryRegion(0, 0, 0n, 4096n, bench.map(100), 0n)).toThrow(
    RangeError,
  );
});

deviceTest("a closed mapping cannot be a slot's memory", (bench) => {
  const mapping = bench.map(PAGE);
  mapping.close();
  expect(() => bench.vm.setUserMemoryRegion(0, 0, 0n, 4096n, mapping, 0n)).toThrow(
    new TypeError("memory: it is closed"),
  );
});

deviceTest("the kernel's refusal of a slot comes back as it is", (bench) => {
  const mapping = bench.map(2 * PAGE);
  expect(said(bench.vm.setUserMemoryRegion(0, 0, 1n, 4096n, mapping, 0n))).toBe("-EINVAL");
  expect(said(bench.vm.setUserMemoryRegion(0, 0, 0n, 4096n, mapping, 1n))).toBe("-EINVAL");
  expect(bench.vm.setUserMemoryRegion(0, 0, 0n, 4096n, mapping, 0n)).toBe(0);
  expect(said(bench.vm.setUserMemoryRegion(1, 0, 0n, 4096n, mapping, 4096n))).toBe("-EEXIST");
  expect(bench.vm.setUserMemoryRegion(0, 0, 0n, 0n, null, 0n)).toBe(0);
});

deviceTest("only a VM's descriptor has slots", (bench) => {
  const mapping = bench.map(PAGE);
  expect(said(bench.kvm.setUserMemoryRegion(0, 0, 0n, 4096n, mapping, 0n))).toBe("-ENOTTY");
  expect(said(bench.vcpu.setUserMemoryRegion(0, 0, 0n, 4096n, mapping, 0n))).toMatch(
    /-E(NOTTY|INVAL)/,
  );
});
