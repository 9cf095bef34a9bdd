/** Tests of an emulator's privileges, with a script in place of QEMU that prints the privileges. */
import { chmodSync, mkdirSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { boot } from "../../../../lib/lab/machine/qemu.ts";
import { diesWithParent } from "../../../../lib/lab/process/confinement.ts";
import { onPath } from "../../../../lib/lab/process/search-path.ts";
import { temporaryFolder } from "../temporary.ts";

const isRoot = process.geteuid?.() === 0;
const hasSetpriv = onPath("setpriv") !== undefined;

let folder = "";
beforeEach(() => {
  folder = temporaryFolder();
  // All users can access the program, as with an installed QEMU, but only this user can access the kernel.
  chmodSync(folder, 0o755);
  for (const name of ["bin", "run", "private"]) mkdirSync(join(folder, name));
  chmodSync(join(folder, "private"), 0o700);
  writeFileSync(join(folder, "private/vmlinuz"), "the kernel");
  writeFileSync(join(folder, "private/initrd"), "the initrd", { mode: 0o600 });
  vi.stubEnv("PATH", `${folder}/bin:${process.env["PATH"]}`);
  vi.stubEnv("A_SECRET_OF_THE_USER", "x");
});
afterEach(() => vi.unstubAllEnvs());

/** Runs a script in place of QEMU; returns the script's output on descriptor 4. */
async function said(script: string): Promise<string> {
  const program = join(folder, "bin/qemu-system-x86_64");
  writeFileSync(program, `#!/bin/sh\n${script}\n`);
  chmodSync(program, 0o755);
  let output = "";
  await boot({
    vmlinuz: join(folder, "private/vmlinuz"),
    initrd: join(folder, "private/initrd"),
    cpu: "max",
    memory: 64,
    timeout: 20_000,
    silence: 20_000,
    folder: join(folder, "run"),
    onPort: (_, bytes) => {
      output += bytes.toString();
    },
  });
  return output;
}

const STATUS = "grep -E '^(Uid|Gid|Groups|Cap...|NoNewPrivs):' /proc/self/status >&4";
/** Sets `$kernel` and `$initrd` to the paths in the command line. */
const FILES =
  "while [ $# -gt 0 ]; do case $1 in -kernel) kernel=$2;; -initrd) initrd=$2;; esac; shift; done";

describe.skipIf(!hasSetpriv)(
  "the process of an emulator (skipped where there is no setpriv)",
  () => {
    test("has no capabilities and cannot gain privileges", async () => {
      const status = await said(STATUS);
      expect(status).toMatch(/^CapInh:\t0+\nCapPrm:\t0+\nCapEff:\t0+\n/m);
      expect(status).toMatch(/^CapAmb:\t0+\nNoNewPrivs:\t1\n/m);
    });

    test.skipIf(!isRoot)(
      "has a separate user for each machine if root runs the lab (skipped where the tests do not run as root)",
      async () => {
        const [first, second] = [await said(STATUS), await said(STATUS)];
        const user = /^Uid:\t(\d+)\t\1\t\1\t\1\nGid:\t\1\t\1\t\1\t\1\nGroups:\t\1? ?\n/;
        expect(first).toMatch(user);
        expect(first).toMatch(/^CapBnd:\t0+$/m);
        expect(user.exec(first)?.[1]).not.toBe("0");
        expect(user.exec(second)?.[1]).not.toBe(user.exec(first)?.[1]);
      },
    );

    test.skipIf(!isRoot)(
      "owns the machine's folder, but not the kernel, if root runs the lab (skipped where the tests do not run as root)",
      async () => {
        writeFileSync(join(folder, "run/disk"), "");
        const user = await said("id -u >&4; echo x >disk; echo x >new");
        const owner = (name: string): number => statSync(join(folder, name)).uid;
        expect(+user).toBeGreaterThan(0);
        expect(["run", "run/disk", "run/new"].map(owner)).toEqual([+user, +user, +user]);
        expect(["private", "private/vmlinuz", "private/initrd"].map(owner)).toEqual([0, 0, 0]);
      },
    );

    test.skipIf(!isRoot)(
      "keeps the user root, without capabilities, if root runs the lab and only root can access the program (skipped where the tests do not run as root)",
      async () => {
        chmodSync(folder, 0o700);
        const status = await said(STATUS);
        expect(status).toMatch(/^Uid:\t0\t/);
        expect(status).toMatch(/^CapEff:\t0+\nCapBnd:\t0+\n/m);
      },
    );

    test("ends if its parent ended before the emulator started", async () => {
      const [program = "", ...args] = diesWithParent();
      const { spawnSync } = await import("node:child_process");
      // The program's parent is the shell, but the arguments contain the id of this process.
      const { status, stdout } = spawnSync("sh", [
        "-c",
        '"$@"; exit $?',
        "sh",
        program,
        ...args,
        "echo",
        "up",
      ]);
      expect([status, String(stdout)]).toEqual([1, ""]);
    });
  },
);

test("an emulator inherits only PATH from its caller's environment", async () => {
  const names = await said("env | cut -d= -f1 | sort >&4");
  expect(
    names.split("\n").filter((name) => !["", "PWD", "_", "OLDPWD", "SHLVL"].includes(name)),
  ).toEqual(["LC_ALL", "PATH"]);
});

test("an emulator reads a kernel and an initrd that its user cannot access", async () => {
  expect(await said(`${FILES}; cat "$kernel" "$initrd" >&4`)).toBe("the kernelthe initrd");
});

describe("QEMU's filter of system calls", () => {
  test("is enabled, so that QEMU can neither execute a program nor change its user", async () => {
    expect(await said('echo "$*" >&4')).toContain(
      "-sandbox on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny ",
    );
  });

  test("is omitted if QEMU was built without it", async () => {
    const script =
      'case "$*" in *-sandbox*) echo "qemu: -sandbox on: -sandbox support is not enabled in this QEMU binary" >&2; exit 1;; esac; echo runs >&4';
    expect(await said(script)).toBe("runs\n");
  });
});
