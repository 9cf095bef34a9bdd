/** Tests of one boot in QEMU: the command line, and the end of the machine. */
import { chmodSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import {
  type BootOptions,
  boot,
  findQemu,
  qemuArguments,
} from "../../../../lib/lab/machine/qemu.ts";

const USUAL = { vmlinuz: "/k/vmlinuz", initrd: "/k/initrd", cpu: "max", memory: 1024 };

let folder = "";
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "qemu-"));
  vi.stubEnv("PATH", `${folder}:${process.env["PATH"]}`);
});
afterEach(() => {
  vi.unstubAllEnvs();
  rmSync(folder, { recursive: true });
});

/** Replaces QEMU by a program whose serial ports are descriptors 3 to 6. */
function pretend(script: string): void {
  const path = join(folder, "qemu-system-x86_64");
  writeFileSync(path, `#!/bin/sh\necho $$ >${join(folder, "pid")}\n${script}\n`);
  chmodSync(path, 0o755);
}

function isAlive(): boolean {
  try {
    process.kill(Number(readFileSync(join(folder, "pid"), "utf8")), 0);
    return true;
  } catch {
    return false; // ESRCH
  }
}

const ports: string[] = [];
function start(more: Partial<BootOptions> = {}): ReturnType<typeof boot> {
  ports.splice(0, ports.length, "", "", "", "");
  const onPort = (port: number, bytes: Buffer): void => {
    ports[port] = `${ports[port]}${bytes}`;
  };
  return boot({ ...USUAL, timeout: 20_000, silence: 20_000, onPort, ...more });
}

describe("the QEMU command line of a machine", () => {
  const line = qemuArguments({ ...USUAL, cpu: "EPYC-Milan,-npt" }).join(" ");

  test("never enables cmpxchg16b, which QEMU 7.2 emulates incorrectly", () => {
    expect(line).toContain("-cpu EPYC-Milan,-npt,-cx16 ");
  });

  test("has the requested number of CPUs, or one by default", () => {
    expect(line).toContain("-smp 1 ");
    expect(qemuArguments({ ...USUAL, smp: 2 }).join(" ")).toContain("-smp 2 ");
  });

  test("requests no hardware virtualisation, and no reboot", () => {
    expect(line).toContain("-accel tcg,thread=multi ");
    expect(line).toContain("-no-reboot ");
  });

  test("gives each of the four serial ports a separate interrupt", () => {
    const irqs = Array.from(line.matchAll(/index=\d,irq=(\d)/g), ([, irq]) => irq);
    expect(new Set(irqs).size).toBe(4);
  });
});

describe("a boot in QEMU", () => {
  test("passes on the output of each port, and resolves when the machine ends", async () => {
    pretend("echo log >&3; echo out >&4; echo err >&5; echo end >&6");
    expect(await start()).toMatchObject({ why: "ended" });
    expect(ports).toEqual(["log\n", "out\n", "err\n", "end\n"]);
  });

  test("is killed if no port has output for too long", async () => {
    pretend("exec sleep 1000");
    expect(await start({ silence: 300 })).toMatchObject({ why: "silent" });
    expect(isAlive()).toBe(false);
  });

  test("that prints all the time is not silent, but is killed at the time limit", async () => {
    pretend("while :; do echo beat >&6; sleep 0.1; done");
    expect(await start({ silence: 5000, timeout: 600 })).toMatchObject({ why: "timeout" });
    expect(ports[3]).toMatch(/^(beat\n){2,}$/);
    expect(isAlive()).toBe(false);
  });

  test("does not count the time in which this process was stopped as silence", async () => {
    pretend("echo up >&6; sleep 0.7; echo more >&6; sleep 0.1");
    let isFirst = true;
    const onPort = (): void => {
      // For timers and sockets, a blocked event loop has the effect of SIGSTOP and Ctrl-Z.
      if (isFirst) Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 1500);
      isFirst = false;
    };
    expect(await start({ silence: 600, timeout: 1200, onPort })).toMatchObject({ why: "ended" });
  });

  test("does not count the time in which the emulator was stopped as silence", async () => {
    pretend("echo up >&6; (sleep 1.5; kill -CONT $$) & kill -STOP $$; echo more >&6");
    expect(await start({ silence: 500, timeout: 1000 })).toMatchObject({ why: "ended" });
    expect(ports[3]).toBe("up\nmore\n");
  });

  test("is killed as soon as its end was reported, and its earlier output is complete", async () => {
    pretend("printf '%20000s' '' >&4; echo end >&6; exec sleep 1000");
    const isOver = (): boolean => ports[3] === "end\n";
    expect(await start({ isOver })).toMatchObject({ why: "ended" });
    expect(ports[1]).toHaveLength(20_000);
    expect(isAlive()).toBe(false);
  });

  test("is killed when its signal is aborted", async () => {
    pretend("echo up >&6; exec sleep 1000");
    const controller = new AbortController();
    const onPort = (): void => controller.abort();
    await expect(start({ signal: controller.signal, onPort })).rejects.toMatchObject({
      code: "ERR_LAB_INTERRUPTED",
    });
    expect(isAlive()).toBe(false);
  });

  test("does not start if its signal is already aborted", async () => {
    pretend("");
    await expect(start({ signal: AbortSignal.abort() })).rejects.toMatchObject({
      code: "ERR_LAB_INTERRUPTED",
    });
    expect(isAlive()).toBe(false);
  });

  test("fails with QEMU's message if QEMU rejects the options", async () => {
    pretend("echo \"qemu-system-x86_64: unable to find CPU model 'nonsense'\" >&2; exit 1");
    await expect(start({ cpu: "nonsense" })).rejects.toMatchObject({
      code: "ERR_LAB_TOOL",
      message: expect.stringContaining("unable to find CPU model 'nonsense'"),
    });
  });
});

test("the error about a missing QEMU names the package of QEMU", () => {
  vi.stubEnv("PATH", folder);
  expect(findQemu).toThrow("apt-get install --no-install-recommends qemu-system-x86");
});
