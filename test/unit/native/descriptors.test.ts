/** Tests of descriptors: opening, closing, and that JavaScript never gets descriptor numbers. */
import { existsSync, mkdtempSync, readdirSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "vitest";
import { KVM_CREATE_DEVICE_TEST, KVM_DEV_TYPE_VFIO } from "../../../lib/abi/generated/constants.ts";
import {
  IOCTLS,
  KVM_CREATE_DEVICE,
  KVM_CREATE_VCPU,
  KVM_CREATE_VM,
  KVM_GET_API_VERSION,
  KVM_GET_STATS_FD,
} from "../../../lib/abi/generated/ioctls.ts";
import { native } from "../../../lib/native.ts";
import { asBytes, call, DEVICE, deviceTest, opened, said } from "./bench.ts";

const openFds = (): readonly string[] => readdirSync("/proc/self/fd");
/** The addon has a separate function for the ioctls that set memory slots. */
const sendable = IOCTLS.filter(({ name }) => !name.startsWith("KVM_SET_USER_MEMORY_REGION"));

test("native open() rejects a path that is not a string", () => {
  for (const path of [
    undefined,
    null,
    3,
    1n,
    {},
    ["/dev/kvm"],
    Buffer.from("/dev/kvm"),
    Symbol(),
  ]) {
    expect(() => call(native(), "open", path)).toThrow(new TypeError("path: expected a string"));
  }
});

test("native open() rejects a path with NUL, and does not open the file named by the part before NUL", () => {
  expect(said(native().open("/dev/kvm\0"))).toBe("-ENOENT");
  expect(said(native().open("/dev/null\0.kvm"))).toBe("-ENOENT");
});

test("native open() of a file that is not KVM fails with ENOTTY, and leaves no descriptor", () => {
  const directory = mkdtempSync(join(tmpdir(), "node-kvm-"));
  const file = join(directory, "file");
  const link = join(directory, "link");
  writeFileSync(file, "");
  symlinkSync("/dev/null", link);
  const before = openFds().length;
  const answers = [file, link, "/dev/null", "/dev/zero"].map((path) => said(native().open(path)));
  expect(openFds()).toHaveLength(before);
  rmSync(directory, { recursive: true });
  expect(answers).toEqual(["-ENOTTY", "-ENOTTY", "-ENOTTY", "-ENOTTY"]);
});

test("native open() returns the errno of open()", () => {
  expect(said(native().open(""))).toBe("-ENOENT");
  expect(said(native().open("/nowhere/kvm"))).toBe("-ENOENT");
  expect(said(native().open("/dev/null/kvm"))).toBe("-ENOTDIR");
  expect(said(native().open("/dev"))).toBe("-EISDIR");
  expect(said(native().open("x".repeat(5000)))).toBe("-ENAMETOOLONG");
});

test("native permission requests reject a component that is not a 32-bit number", () => {
  for (const component of [undefined, null, -1, 0.5, 2 ** 32, 18n, "18", {}]) {
    expect(() => call(native(), "reqXcompGuestPerm", component)).toThrow(
      new TypeError("component: expected a 32-bit number"),
    );
  }
});

test("the kernel refuses a permission request for a component that no CPU has", () => {
  expect(said(native().reqXcompGuestPerm(63))).toMatch(/^-E(INVAL|OPNOTSUPP|PERM|NOSYS)$/);
});

deviceTest("a closed descriptor says EBADF to everything", ({ kvm, vm, vcpu }) => {
  for (const fd of [kvm, vm, vcpu]) {
    fd.close();
    for (const { request, kind, size } of sendable) {
      const argument = kind === "none" || kind === "value" ? 0 : new Uint8Array(size);
      expect(said(fd.ioctl(request, argument))).toBe("-EBADF");
    }
    expect(said(fd.mapDirtyRing())).toBe("-ENODEV");
    expect(said(fd.mapMemfd())).toMatch(/^-E(BADF|NODEV)$/);
    expect(said(fd.fallocate(0, 0n, 4096n))).toBe("-EBADF");
    expect(said(fd.read(0n, 8))).toBe("-EBADF");
    expect(said(fd.mapRun(() => undefined))).toBe("-ENODEV");
    expect(said(fd.setUserMemoryRegion(0, 0, 0n, 0n, null, 0n))).toBe("-ENOTTY");
    fd.close();
  }
});

deviceTest("a closed descriptor's number is not another's", (bench) => {
  const { vm } = bench;
  vm.close();
  const next = bench.create(bench.kvm, KVM_CREATE_VM, 0);
  expect(said(vm.ioctl(KVM_CREATE_VCPU.request, 7))).toBe("-EBADF");
  vm.close();
  expect(said(next.ioctl(KVM_CREATE_VCPU.request, 7))).toBe("fd");
});

deviceTest("every descriptor that is made is an object, and its closing closes it", (bench) => {
  const before = openFds().length;
  const made = [
    opened(native().open(DEVICE)),
    opened(bench.kvm.ioctl(KVM_CREATE_VM.request, 0)),
    opened(bench.vm.ioctl(KVM_CREATE_VCPU.request, 1)),
  ];
  expect(openFds()).toHaveLength(before + made.length);
  for (const fd of made) fd.close();
  expect(openFds()).toHaveLength(before);
});

deviceTest("a refused descriptor leaves none behind", ({ kvm, vm }) => {
  const before = openFds().length;
  expect(said(kvm.ioctl(KVM_CREATE_VM.request, 0xffff))).toBe("-EINVAL");
  expect(said(vm.ioctl(KVM_CREATE_VCPU.request, 0))).toBe("-EEXIST");
  expect(openFds()).toHaveLength(before);
});

deviceTest("a statistics descriptor can be made and closed", (bench, skip) => {
  const stats = bench.vm.ioctl(KVM_GET_STATS_FD.request);
  if (typeof stats === "number") skip(`KVM_GET_STATS_FD: ${said(stats)}`);
  bench.vm.close();
  expect(said(opened(stats).ioctl(KVM_GET_API_VERSION.request))).toBe("-ENOTTY");
  opened(stats).close();
});

/** Returns a struct kvm_create_device with a number in the field that the kernel writes. */
const device = (fd: number, flags: number): Uint8Array => asBytes(KVM_DEV_TYPE_VFIO, fd, flags);
const fdField = (bytes: Uint8Array): number => new DataView(bytes.buffer).getInt32(4, true);

deviceTest("KVM_CREATE_DEVICE gives an object and hides its number", (bench, skip) => {
  const before = openFds().length;
  const bytes = device(0, 0);
  const made = bench.vm.ioctl(KVM_CREATE_DEVICE.request, bytes);
  if (typeof made === "number") skip(`this kernel makes no VFIO device for KVM: ${said(made)}`);
  expect(fdField(bytes)).toBe(-1);
  expect(openFds()).toHaveLength(before + 1);
  opened(made).close();
  expect(openFds()).toHaveLength(before);
});

deviceTest("KVM_CREATE_DEVICE that only asks takes over no descriptor of ours", (bench, skip) => {
  const victim = openFds().at(-2) ?? "0";
  const bytes = device(Number(victim), KVM_CREATE_DEVICE_TEST);
  const answer = bench.vm.ioctl(KVM_CREATE_DEVICE.request, bytes);
  if (answer === -19) skip("this kernel makes no VFIO device for KVM");
  expect(answer).toBe(0);
  expect(fdField(bytes)).toBe(-1);
  expect(existsSync(`/proc/self/fd/${victim}`)).toBe(true);
});

deviceTest("KVM_CREATE_DEVICE that fails shows no number", ({ vm }) => {
  const bytes = asBytes(0xffff, 1, 0);
  expect(said(vm.ioctl(KVM_CREATE_DEVICE.request, bytes))).toBe("-ENODEV");
  expect(fdField(bytes)).toBe(-1);
});
