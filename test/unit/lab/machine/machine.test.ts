/** Tests of a disposable machine: the output on its ports determines the result. */
import { chmodSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { LabCache } from "../../../../lib/lab/cache/cache.ts";
import { type LabOptions, type LabResult, runInLab } from "../../../../lib/lab/machine/machine.ts";

let folder = "";
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "machine-"));
  mkdirSync(join(folder, "modules"));
  writeFileSync(
    join(folder, "modules/modules.builtin"),
    ["kvm-amd", "kvm"].map((name) => `kernel/arch/x86/kvm/${name}.ko\n`).join(""),
  );
  writeFileSync(join(folder, "base"), "");
  vi.stubEnv("PATH", `${folder}:${process.env["PATH"]}`);
});
afterEach(() => {
  vi.unstubAllEnvs();
  rmSync(folder, { recursive: true });
});

/** Runs a command in a machine with this script in place of QEMU; descriptors 3 to 6 are its ports. */
function run(script: string, more: Partial<LabOptions> = {}): Promise<LabResult> {
  const path = join(folder, "qemu-system-x86_64");
  writeFileSync(path, `#!/bin/sh\n${script}\n`);
  chmodSync(path, 0o755);
  return runInLab({
    kernel: { name: "6.12", release: "", vmlinuz: "/k", modules: join(folder, "modules") },
    command: ["true"],
    base: join(folder, "base"),
    cache: new LabCache(join(folder, "cache")),
    ...more,
  });
}

const LOG = "printf '[ 0.1] Linux version 6.12\\r\\n' >&3; echo up >&6";

describe("a lab machine", () => {
  test("returns the status, the output and the files of a command that ends", async () => {
    const result = await run(
      `${LOG}; echo run >&6; printf out >&4; printf errs >&5; printf 'status 42 3 4\\nfile 2 /a\\nhiend\\n' >&6`,
      { wanted: ["/a"] },
    );
    expect(result).toMatchObject({
      kind: "exited",
      status: 42,
      stdout: Buffer.from("out"),
      stderr: Buffer.from("errs"),
      kernelLog: "[ 0.1] Linux version 6.12\n",
      warnings: [],
      attempts: 1,
      files: new Map([["/a", Uint8Array.from(Buffer.from("hi"))]]),
    });
  });

  test("passes on output and log lines as they arrive", async () => {
    const heard: string[] = [];
    await run(`${LOG}; printf out >&4; printf err >&5; printf 'status 0 3 3\\nend\\n' >&6`, {
      onStdout: (bytes) => heard.push(`stdout ${bytes}`),
      onStderr: (bytes) => heard.push(`stderr ${bytes}`),
      onKernelLog: (line) => heard.push(line),
    });
    expect(new Set(heard)).toEqual(
      new Set(["[ 0.1] Linux version 6.12", "stderr err", "stdout out"]),
    );
  });

  test("is not read while the caller has not consumed its earlier output", async () => {
    let [taken, pending, most] = [0, 0, 0];
    await run(`${LOG}; head -c 4194304 /dev/zero >&4; printf 'status 0 4194304 0\\nend\\n' >&6`, {
      onStdout: async ({ length }) => {
        taken += length;
        pending += 1;
        // After the machine has ended, the remaining content of the sockets is read without a pause.
        most = taken < 2_097_152 ? Math.max(most, pending) : most;
        await new Promise(setImmediate);
        pending -= 1;
      },
    });
    expect([taken, most]).toEqual([4194304, 1]);
  });

  test("is killed at the time limit while the caller has not consumed its output", async () => {
    const never = new Promise(() => undefined);
    const flood = `${LOG}; head -c 4194304 /dev/zero >&4; sleep 100`;
    expect(await run(flood, { onStdout: () => never, timeout: 300 })).toMatchObject({
      kind: "hung",
      why: "timeout",
    });
  });

  test("is killed after init's last message", async () => {
    expect(await run(`${LOG}; printf 'status 0 0 0\\nend\\n' >&6; exec sleep 1000`)).toMatchObject({
      kind: "exited",
      attempts: 1,
    });
  });

  test("starts the unpacked kernel if the cache contains it", async () => {
    const say =
      'for word; do case "$before" in -kernel) printf %s "$word" >&4;; esac; before=$word; done';
    const script = `${LOG}; ${say}; printf 'status 0 %s 0\\nend\\n' $1 >&6`;
    const kernel = { name: "6.12", release: "", vmlinuz: "/k", modules: join(folder, "modules") };
    const started = async (more: Partial<LabOptions>, length: number): Promise<string> =>
      (await run(script.replace("$1", String(length)), more)).stdout.toString();
    expect(await started({ kernel }, 2)).toBe("/k");
    expect(await started({ kernel: { ...kernel, vmlinux: "/unpacked" } }, 9)).toBe("/unpacked");
  });

  test("collects the kernel's warnings, even if the command succeeds", async () => {
    const warning = "[ 4.1] WARNING: CPU: 0 PID: 7 at arch/x86/kvm/x86.c:1 kvm_x+0x1/0x2";
    expect(
      await run(`${LOG}; echo '${warning}' >&3; printf 'status 0 0 0\\nend\\n' >&6`),
    ).toMatchObject({ kind: "exited", status: 0, warnings: [warning] });
  });

  test("whose kernel panics is reported as crashed, and its log is kept", async () => {
    const result = await run(
      `${LOG}; echo run >&6; printf '[ 3.1] Kernel panic - not syncing: x\\r\\n[ 3.2] Call Trace:\\r\\n' >&3`,
    );
    expect(result).toMatchObject({
      kind: "crashed",
      oops: "[ 3.1] Kernel panic - not syncing: x\n[ 3.2] Call Trace:",
      kernelLog: expect.stringContaining("Linux version"),
    });
  });

  test("that ends without init's last message is reported as crashed, whatever the exit status of QEMU", async () => {
    expect(await run(`${LOG}; printf 'status 0 0 0\\n' >&6; exit 0`)).toMatchObject({
      kind: "crashed",
    });
  });

  test("that becomes silent is booted once more", async () => {
    const onRetry = vi.fn();
    const mark = join(folder, "second");
    const result = await run(
      `${LOG}; if ! [ -e ${mark} ]; then touch ${mark}; exec sleep 1000; fi; printf 'status 0 0 0\\nend\\n' >&6`,
      { silence: 1000, onRetry },
    );
    expect(result).toMatchObject({ kind: "exited", attempts: 2 });
    expect(onRetry).toHaveBeenCalledTimes(1);
  });

  test("that becomes silent twice is reported as hung", async () => {
    expect(await run(`${LOG}; exec sleep 1000`, { silence: 300 })).toMatchObject({
      kind: "hung",
      why: "silent",
      attempts: 2,
      kernelLog: "[ 0.1] Linux version 6.12\n",
    });
  });

  test("that exceeds the time limit is not booted again", async () => {
    expect(await run(`${LOG}; exec sleep 1000`, { timeout: 300 })).toMatchObject({
      kind: "hung",
      why: "timeout",
      attempts: 1,
    });
  });

  test("has a reason from the kernel's log if it has no KVM", async () => {
    expect(
      await run(
        `${LOG}; echo '[ 2.1] kvm_amd: SVM not supported by CPU 0, not amd or hygon' >&3; printf 'no-kvm insmod: no\\nend\\n' >&6`,
      ),
    ).toMatchObject({
      kind: "no-kvm",
      why: "insmod: no; kvm_amd: SVM not supported by CPU 0, not amd or hygon",
    });
  });

  test("causes an error if it has too few serial ports", async () => {
    await expect(run("echo 'node-kvm lab: this kernel has no ttyS3' >&3")).rejects.toMatchObject({
      code: "ERR_LAB_NOT_A_KERNEL",
    });
  });

  test("causes an error if output was lost", async () => {
    await expect(run(`${LOG}; printf ou >&4; printf 'status 0 3 0\\nend\\n' >&6`)).rejects.toThrow(
      "the guest sent 3 bytes of stdout, 2 arrived",
    );
  });

  test("leaves no process and no file, even if it was interrupted", async () => {
    const controller = new AbortController();
    const interrupted = run(`${LOG}; exec sleep 1000`, {
      signal: controller.signal,
      onKernelLog: () => controller.abort(),
    });
    await expect(interrupted).rejects.toMatchObject({ code: "ERR_LAB_INTERRUPTED" });
    expect(readdirSync(join(folder, "cache/building"))).toEqual([]);
  });
});
