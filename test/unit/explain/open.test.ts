/** Tests of the reasons of a device that cannot be opened: each errno has a sentence with the cause and the remedy. */
import { chmodSync, chownSync, mkdtempSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { beforeEach, describe, expect, onTestFinished, test } from "vitest";
import { KvmError } from "../../../lib/errors.ts";
import { everyRule } from "../../../lib/explain/index.ts";
import { Kvm } from "../../../lib/kvm/kvm.ts";
import { refusalOf, why } from "./refused.ts";

const open = (errno: string, path = "/dev/kvm"): string | undefined =>
  why(`open ${errno}`, { path });

test.each([
  ["EPERM", /^either a container's device rules forbid \/dev\/kvm, or a security module/],
  ["ENOENT", /^either \/dev\/kvm does not exist: load the module .*, or virtualisation .*firmware/],
  ["ENXIO", /^\/dev\/kvm has no driver: load the module/],
  ["EACCES", /no permission for \/dev\/kvm|security module/],
  ["EBUSY", /^either \/dev\/kvm is in use/],
  ["ENODEV", /^\/dev\/kvm has no driver: load the module/],
  ["ENOTTY", /^\/dev\/kvm is not KVM: KVM_GET_API_VERSION fails/],
])("the reason of %s when /dev/kvm is opened names the causes and the remedy", (errno, reason) => {
  expect(open(errno)).toMatch(reason);
});

test.each([
  ["ENOENT", "/etc/nope does not exist"],
  ["ENODEV", "/etc/nope has no driver"],
])("the reason of %s when another path is opened does not name KVM's modules", (errno, reason) => {
  expect(open(errno, "/etc/nope")).toBe(reason);
});

test.each([
  ["ENOENT", /^either \/dev\/kvm does not exist, though kvm_amd is loaded: give the device/],
  ["ENXIO", /^\/dev\/kvm has no driver$/],
])("the reason of %s does not advise to load a module that is already loaded", (errno, reason) => {
  expect(why(`open ${errno}`, { path: "/dev/kvm", vendor: "kvm_amd" })).toMatch(reason);
});

describe("the reason of EACCES for a device that root owns", () => {
  beforeEach(({ skip }) => {
    skip(process.geteuid?.() !== 0, "only root can give a file to another group");
  });

  test.each([
    [0o600, 0, "its mode is 0600, and its group (0) does not help: as root: chgrp kvm "],
    [0o640, 1234, "its mode is 0640, and its group (1234) does not help: as root: chgrp kvm "],
    [0o660, 1234, "add the user to the device's group (usermod -aG kvm USER"],
  ])("names the remedy for a file with mode %i and group %i", (mode, group, words) => {
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
  });
});

describe("the reason of EACCES", () => {
  const SECURITY = "a security module (SELinux, AppArmor) forbids this process to open PATH";
  const GROUP =
    "no permission for PATH: add the user to the device's group (usermod -aG kvm USER, then log in again)";
  const MODE =
    "no permission for PATH: its mode is MODE, and its group (GID) does not help: as root: " +
    "chgrp kvm PATH && chmod 660 PATH";
  const OPEN = `either ${SECURITY}, or another cause`;

  /**
   * Creates a file with this mode and changes this process's user, so that the process is the owner, a member of the
   * group, or neither.
   */
  function file(mode: number, who: "owner" | "group" | "member" | "other" | "root"): string {
    const directory = mkdtempSync(join(tmpdir(), "node-kvm-"));
    const path = join(directory, "device");
    writeFileSync(path, "");
    // Only root can change the owner of a file.
    if (process.geteuid?.() === 0) chownSync(path, 77, 78);
    chmodSync(path, mode);
    const { uid, gid } = statSync(path);
    const { geteuid, getegid, getgroups } = process;
    onTestFinished(() => {
      Object.assign(process, { geteuid, getegid, getgroups });
      rmSync(directory, { recursive: true });
    });
    Object.assign(process, {
      geteuid: () => (who === "root" ? 0 : who === "owner" ? uid : uid + 1000),
      getegid: () => (who === "group" ? gid : gid + 1000),
      getgroups: () => (who === "member" ? [gid + 2000, gid] : [gid + 2000]),
    });
    return path;
  }

  test.each([
    ["owner", 0o600, OPEN],
    ["owner", 0o066, GROUP],
    ["group", 0o060, OPEN],
    ["member", 0o060, OPEN],
    ["other", 0o006, OPEN],
    ["root", 0o000, OPEN],
    ["other", 0o660, GROUP],
    ["other", 0o664, GROUP],
    ["other", 0o662, GROUP],
    ["other", 0o600, MODE],
    ["other", 0o640, MODE],
    ["group", 0o606, MODE],
    ["member", 0o646, MODE],
    ["member", 0o626, MODE],
  ] as const)("names the remedy for the file's %s if the mode is %i", (who, mode, reason) => {
    const path = file(mode, who);
    expect(open("EACCES", path)).toBe(
      reason
        .replaceAll("PATH", path)
        .replace("MODE", `0${mode.toString(8)}`)
        .replace("GID", `${statSync(path).gid}`),
    );
  });

  test("is stated for a file whose attributes cannot be read", () => {
    expect(open("EACCES", "/nowhere/at/all")).toBe(
      `either ${GROUP}, or ${SECURITY}`.replaceAll("PATH", "/nowhere/at/all"),
    );
  });
});

test("the reason of each errno of open() consists of complete sentences", () => {
  expect(open("ENOENT")).toBe(
    "either /dev/kvm does not exist: load the module (modprobe kvm_amd or kvm_intel), or virtualisation " +
      "is switched off in the firmware or, inside a virtual machine, nested virtualisation is",
  );
  expect(why("open ENOENT", { path: "/dev/kvm", vendor: "kvm_amd" })).toBe(
    "either /dev/kvm does not exist, though kvm_amd is loaded: give the device to this container, or another cause",
  );
  expect(why("open ENOENT", { path: "/etc/nope", vendor: "kvm_amd" })).toBe(
    "/etc/nope does not exist",
  );
});

test.each([
  ["ENOENT", "no file", "fs/namei.c:path_openat"],
  ["ENXIO", "no driver", "fs/char_dev.c:chrdev_open"],
  ["ENOTTY", "not KVM", "kvm_dev_ioctl has KVM_GET_API_VERSION in every kernel"],
])(
  "the reason of %s names the only place in the kernel that returns this errno: %s",
  (errno, cause, source) => {
    const rule = everyRule().find(
      (one) => one[0] === "open" && one[1] === errno && one[2] === cause,
    )?.[3];
    expect(rule?.(refusalOf(`open ${errno}`, { path: "/etc/nope" }))?.source).toBe(source);
  },
);

test.each([
  [{ path: "/etc/nope" }, "no device in this container"],
  [{ path: "/etc/nope", vendor: "kvm_amd" }, "no device in this container"],
  [{ path: "/dev/kvm" }, "no device in this container"],
  [{ path: "/etc/nope" }, "no virtualisation"],
  [{ path: "/dev/kvm", vendor: "kvm_amd" }, "no virtualisation"],
  [{ path: "/etc/nope" }, "no module"],
])("the reason of ENOENT does not name /dev/kvm's modules for %o: %s", (sent, cause) => {
  const rule = everyRule().find((one) => one[0] === "open" && one[2] === cause)?.[3];
  expect(rule?.(refusalOf("open ENOENT", sent))).toBeUndefined();
});

test("EIO of open() has no reason", () => {
  expect(open("EIO")).toBeUndefined();
});

const refused: readonly (readonly [string, string, string])[] = [
  ["a path that does not exist", "/dev/no-such-kvm", "ENOENT"],
  ["a device that is not KVM", "/dev/null", "ENOTTY"],
];

test.each(refused)("the error of Kvm.open() with %s has a remedy", (_, path, code) => {
  const attempt = (): Kvm => Kvm.open(path);
  expect(attempt).toThrow(KvmError);
  expect(attempt).toThrow(
    expect.objectContaining({ call: "open", object: path, code, args: { path } }),
  );
  expect(attempt).toThrow(/does not exist|is not KVM/);
});

test("the error of Kvm.open() names NODE_KVM_DEVICE if this variable contains the path", () => {
  const { env } = process;
  onTestFinished(() => {
    process.env = env;
  });
  process.env = { ...env, NODE_KVM_DEVICE: "/dev/no-such-kvm" };
  const because = (reason: string): unknown => expect.objectContaining({ code: "ENOENT", reason });
  expect(() => Kvm.open()).toThrow(
    because("NODE_KVM_DEVICE names /dev/no-such-kvm, which does not exist"),
  );
  expect(() => Kvm.open("/dev/other-kvm")).toThrow(because("/dev/other-kvm does not exist"));
});

test.each<[path: unknown, message: string]>([
  ["/dev/kvm\0", 'Kvm.open(): path: "/dev/kvm\\u0000" contains a NUL character'],
  [null, "Kvm.open(): path: expected a string, got null"],
  [5, "Kvm.open(): path: expected a string, got 5"],
])("Kvm.open(%j) throws a TypeError about the path", (path, message) => {
  expect(() => Kvm.open(path as string)).toThrow(new TypeError(message));
});
