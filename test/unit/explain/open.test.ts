/** Claims about a device that cannot be opened: each errno has a sentence that names it and a remedy. */
import { expect, test } from "vitest";
import { KvmError } from "../../../lib/errors.ts";
import { explainOpen } from "../../../lib/explain/open.ts";
import { Kvm } from "../../../lib/kvm/kvm.ts";

const remedies: readonly (readonly [string, number, RegExp])[] = [
  ["EPERM", 1, /a container or a security module forbids/],
  ["ENOENT", 2, /does not exist: load the module \(modprobe kvm_amd or kvm_intel\).*firmware/],
  ["ENXIO", 6, /no driver behind it: load the module/],
  ["EACCES", 13, /no permission .*usermod -aG kvm/],
  ["EBUSY", 16, /another hypervisor has .* stop it first/],
  ["ENODEV", 19, /no driver behind it: load the module/],
  ["ENOTTY", 25, /is not KVM: it does not answer KVM_GET_API_VERSION/],
];

test.each(remedies)("%s names the device and what to do", (_, errno, remedy) => {
  const reason = explainOpen("/dev/kvm", errno);
  expect(reason).toContain("/dev/kvm");
  expect(reason).toMatch(remedy);
});

test.each([0, 5, 4095])("errno %i is left unexplained", (errno) => {
  expect(explainOpen("/dev/kvm", errno)).toBeUndefined();
});

const refused: readonly (readonly [string, string, string])[] = [
  ["a path that does not exist", "/dev/no-such-kvm", "ENOENT"],
  ["a device that is not KVM", "/dev/null", "ENOTTY"],
];

test.each(refused)("Kvm.open of %s says what the remedy is", (_, path, code) => {
  const open = (): Kvm => Kvm.open(path);
  expect(open).toThrow(KvmError);
  expect(open).toThrow(expect.objectContaining({ ioctl: "open", fd: path, code, args: { path } }));
  expect(open).toThrow(/name KVM's device, which is \/dev\/kvm|is not KVM/);
});

test.each([2, 6, 19])("errno %i of another path advises no module", (errno) => {
  const reason = explainOpen("/etc/nope", errno);
  expect(reason).toContain("name KVM's device, which is /dev/kvm");
  expect(reason).not.toMatch(/modprobe|firmware/);
});

test.each([2, 6, 19])("errno %i with a loaded module does not advise to load it", (errno) => {
  const reason = explainOpen("/dev/kvm", errno, "kvm_amd");
  expect(reason).toContain("the module kvm_amd is loaded");
  expect(reason).not.toMatch(/modprobe|firmware/);
});

test.each<[path: unknown, message: string]>([
  ["/dev/kvm\0", 'Kvm.open(): path: "/dev/kvm\\u0000" contains a NUL character'],
  [null, "Kvm.open(): path: expected a string, got null"],
  [5, "Kvm.open(): path: expected a string, got 5"],
])("Kvm.open of %j is a TypeError about the path", (path, message) => {
  expect(() => Kvm.open(path as string)).toThrow(new TypeError(message));
});
