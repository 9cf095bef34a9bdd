/**
 * Tests of `lab exec` with real boots. NODE_KVM_LAB_KERNEL selects the kernel (a name of the catalogue, or the path of
 * an image, whose modules are in NODE_KVM_LAB_MODULES); the default is 6.1, which boots fastest.
 */
import { execFileSync, spawn } from "node:child_process";
import { mkdirSync, mkdtempSync, readdirSync, readlinkSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import type { Kernel } from "../../lib/lab/kernels/kernels.ts";
import { type LabOptions, type LabResult, runInLab } from "../../lib/lab/machine/machine.ts";
import { kernelOrProblem } from "./kernel-or-problem.ts";

const KERNEL = process.env["NODE_KVM_LAB_KERNEL"] ?? "6.1";
const MODULES = process.env["NODE_KVM_LAB_MODULES"];
const ROOT = fileURLToPath(new URL("../..", import.meta.url));

const OPEN_KVM = `
  import { Kvm } from "node-kvm";
  const kvm = Kvm.open();
  const vm = kvm.createVm();
  console.log("vcpus", kvm.checkExtension("KVM_CAP_NR_VCPUS"));
  vm.createVcpu(0).close(); vm.close(); kvm.close();
`;

const folder = mkdtempSync(join(tmpdir(), "exec-"));
afterAll(() => rmSync(folder, { recursive: true }));

let kernel: Kernel;
let problem: string | undefined;
beforeAll(async () => {
  const found = await kernelOrProblem(KERNEL, MODULES);
  if (typeof found === "string") problem = found;
  else kernel = found;
}, 600_000);
beforeEach(({ skip }) => {
  if (problem !== undefined) skip(problem);
});

function run(command: readonly string[], more: Partial<LabOptions> = {}): Promise<LabResult> {
  return runInLab({ kernel, command, ...more });
}

/** Returns the QEMU processes that use the cache folder of one process. */
function machinesOf(pid: number): readonly string[] {
  return readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name))
    .filter((name) => folderOf(name).includes(`building/${pid}-`));
}

function folderOf(pid: string): string {
  try {
    return readlinkSync(`/proc/${pid}/cwd`);
  } catch {
    return ""; // the process ended before readlink()
  }
}

describe("a guest command of lab exec", () => {
  test("opens KVM through the installed package", async () => {
    const result = await run(["node", "--input-type=module", "-e", OPEN_KVM]);
    expect(result).toMatchObject({ kind: "exited", status: 0, warnings: [] });
    expect(result.stdout.toString()).toMatch(/^vcpus \d+\n$/);
  });

  test("may be a static C program, and lab exec returns the program's status", async () => {
    const source = join(import.meta.dirname, "one-vcpu.c");
    execFileSync("cc", ["-static", "-o", join(folder, "program"), source]);
    expect(
      await run(["/user/program"], { files: { "/user/program": join(folder, "program") } }),
    ).toMatchObject({ kind: "exited", status: 42, warnings: [] });
  });

  test("can write 200 kB to standard output and to standard error at the same time, and no byte is lost", async () => {
    const say = (letter: string, to: string): string =>
      `yes ${letter.repeat(63)} | head -c 200000 >&${to} &`;
    const result = await run(["sh", "-c", `${say("a", "1")} ${say("b", "2")} wait`]);
    const expected = (letter: string): string =>
      `${letter.repeat(63)}\n`.repeat(3200).slice(0, 200_000);
    expect(result.stdout.toString()).toBe(expected("a"));
    expect(result.stderr.toString()).toBe(expected("b"));
  });

  test("receives files, and returns files and folders byte for byte", async () => {
    const bytes = Uint8Array.from({ length: 70_000 }, (_, i) => (i * 7919) >> 3);
    const result = await run(["sh", "-c", "mkdir -p /o/d; cp /in /o/d/x; echo 1 >/o/y"], {
      files: { "/in": bytes },
      wanted: ["/o", "/none"],
    });
    expect(result).toMatchObject({
      kind: "exited",
      files: new Map([
        ["/o/d/x", bytes],
        ["/o/y", Uint8Array.from(Buffer.from("1\n"))],
      ]),
    });
  });

  test("may be `node-kvm test`, which runs vitest in the guest", async () => {
    const result = await run(["node-kvm", "test", "resend-get", "--reporter", "json"]);
    expect(result).toMatchObject({ kind: "exited", warnings: [] });
    expect(JSON.parse(result.stdout.toString())).toMatchObject({ vendor: "kvm_amd" });
  }, 300_000);

  test("can crash the kernel, and the result contains the kernel's log", async () => {
    const result = await run(["sh", "-c", "echo before; sleep 2; echo c >/proc/sysrq-trigger"]);
    expect(result).toMatchObject({
      kind: "crashed",
      oops: expect.stringMatching(/sysrq.*crash/),
      kernelLog: expect.stringContaining("Linux version"),
      stdout: Buffer.from("before\n"),
    });
  });

  test("is killed at the time limit if it never ends", async () => {
    expect(await run(["sleep", "100000"], { timeout: 20_000 })).toMatchObject({
      kind: "hung",
      why: "timeout",
      attempts: 1,
    });
    expect(machinesOf(process.pid)).toEqual([]);
  });

  test("finds no KVM on a CPU without SVM", async () => {
    expect(await run(["true"], { cpu: "Nehalem" })).toMatchObject({
      kind: "no-kvm",
      why: expect.stringMatching(/kvm_amd|SVM/),
    });
  });

  test("leaves no machine running if lab exec is interrupted or killed", async () => {
    const args = [join(ROOT, "dist/cli/main.js"), "lab", "exec", "--kernel", KERNEL];
    if (MODULES !== undefined) args.push("--modules", MODULES);
    args.push("--", "sh", "-c", "echo running; sleep 1000");
    for (const [signal, status] of [
      ["SIGINT", 130],
      ["SIGKILL", null],
    ] as const) {
      const child = spawn(process.execPath, args, { stdio: ["ignore", "pipe", "inherit"] });
      const exit = new Promise((resolve) => child.once("exit", resolve));
      await Promise.race([exit, new Promise((resolve) => child.stdout.once("data", resolve))]);
      expect(machinesOf(child.pid ?? 0)).toHaveLength(1);
      child.kill(signal);
      expect(await exit).toBe(status);
      await expect.poll(() => machinesOf(child.pid ?? 0), { timeout: 5000 }).toEqual([]);
    }
  });

  test("ends together with the machine if the reader of lab exec's output closes the pipe", async () => {
    const args = [join(ROOT, "dist/cli/main.js"), "lab", "exec", "--kernel", KERNEL];
    if (MODULES !== undefined) args.push("--modules", MODULES);
    args.push("--", "sh", "-c", "while :; do echo more; sleep 1; done");
    const child = spawn(process.execPath, args, { stdio: ["ignore", "pipe", "inherit"] });
    const exit = new Promise((resolve) => child.once("exit", resolve));
    await Promise.race([exit, new Promise((resolve) => child.stdout.once("data", resolve))]);
    child.stdout.destroy();
    expect(await exit).toBe(125);
    expect(machinesOf(child.pid ?? 0)).toEqual([]);
  });

  test("reads standard input, and receives a folder", async () => {
    mkdirSync(join(folder, "tree/sub"), { recursive: true });
    writeFileSync(join(folder, "tree/sub/a"), "of the folder\n");
    const result = await run(["sh", "-c", "cat; cat /data/sub/a"], {
      stdin: Buffer.from("of the pipe\n"),
      files: { "/data": join(folder, "tree") },
    });
    expect(result).toMatchObject({
      kind: "exited",
      status: 0,
      stdout: Buffer.from("of the pipe\nof the folder\n"),
    });
  });
}, 120_000);
