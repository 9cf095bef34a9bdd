/** Claims about a device that cannot be opened: each errno has a sentence that names it and a remedy. */
import { chmodSync, chownSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "vitest";
import { KvmError } from "../../../lib/errors.ts";
import { Kvm } from "../../../lib/kvm/kvm.ts";
import { why } from "./refused.ts";

const open = (errno: string, path = "/dev/kvm"): string | undefined =>
  why(`open ${errno}`, { path });

test.each([
  ["EPERM", /^either a container's device rules forbid \/dev\/kvm, or a security module/],
  ["ENOENT", /^either \/dev\/kvm does not exist: load the module .*, or virtualisation .*firmware/],
  ["ENXIO", /^\/dev\/kvm has no driver behind it: load the module/],
  ["EACCES", /no permission for \/dev\/kvm|security module/],
  ["EBUSY", /^either \/dev\/kvm is in use/],
  ["ENODEV", /^\/dev\/kvm has no driver behind it: load the module/],
  ["ENOTTY", /^\/dev\/kvm is not KVM: it does not answer KVM_GET_API_VERSION/],
])("%s of /dev/kvm names the causes and what to do", (errno, reason) => {
  expect(open(errno)).toMatch(reason);
});

test.each([
  ["ENOENT", "/etc/nope does not exist"],
  ["ENODEV", "/etc/nope has no driver behind it"],
])("%s of another path says nothing of KVM's modules", (errno, reason) => {
  expect(open(errno, "/etc/nope")).toBe(reason);
});

test.each([
  ["ENOENT", /^either \/dev\/kvm does not exist, though kvm_amd is loaded: give the device/],
  ["ENXIO", /^\/dev\/kvm has no driver behind it$/],
])("%s with a loaded module does not advise to load it", (errno, reason) => {
  expect(why(`open ${errno}`, { path: "/dev/kvm", vendor: "kvm_amd" })).toMatch(reason);
});

test.skipIf(process.geteuid?.() !== 0).each([
  [0o600, 0, "its mode is 0600, and its group (0) does not help: as root: chgrp kvm "],
  [0o640, 1234, "its mode is 0640, and its group (1234) does not help: as root: chgrp kvm "],
  [0o660, 1234, "add the user to the device's group (usermod -aG kvm USER"],
])(
  "EACCES of a device of root's with mode %i and group %i says what helps (skipped where the tests do not run as root)",
  (mode, group, words) => {
    const folder = mkdtempSync(join(tmpdir(), "device-"));
    const path = join(folder, "kvm");
    chmodSync(folder, 0o755);
    writeFileSync(path, "");
    chmodSync(path, mode);
    chownSync(path, 0, group);
    process.seteuid?.(65_534);
    const reason = open("EACCES", path);
    process.seteuid?.(0);
    rmSync(folder, { recursive: true });
    expect(reason).toContain(`no permission for ${path}: ${words}`);
  },
);

test("EIO is left unexplained", () => {
  expect(open("EIO")).toBeUndefined();
});

const refused: readonly (readonly [string, string, string])[] = [
  ["a path that does not exist", "/dev/no-such-kvm", "ENOENT"],
  ["a device that is not KVM", "/dev/null", "ENOTTY"],
];

test.each(refused)("Kvm.open of %s says what the remedy is", (_, path, code) => {
  const attempt = (): Kvm => Kvm.open(path);
  expect(attempt).toThrow(KvmError);
  expect(attempt).toThrow(
    expect.objectContaining({ ioctl: "open", fd: path, code, args: { path } }),
  );
  expect(attempt).toThrow(/does not exist|is not KVM/);
});

test.each<[path: unknown, message: string]>([
  ["/dev/kvm\0", 'Kvm.open(): path: "/dev/kvm\\u0000" contains a NUL character'],
  [null, "Kvm.open(): path: expected a string, got null"],
  [5, "Kvm.open(): path: expected a string, got 5"],
])("Kvm.open of %j is a TypeError about the path", (path, message) => {
  expect(() => Kvm.open(path as string)).toThrow(new TypeError(message));
});
